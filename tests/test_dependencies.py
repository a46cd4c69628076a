"""Every package that the code imports is declared in pyproject.toml, in the extra that the code needs."""

import ast
import json
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.server import ROOT

_DOCUMENT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = _DOCUMENT["project"]
# By the name of the extra or the group.
GROUPS = PROJECT["optional-dependencies"] | _DOCUMENT["dependency-groups"]
RUNTIMES = {"onnxruntime", "onnxruntime-gpu"}
# These extras bring a runtime; the others add to one of them.
SERVERS = {"server", "cpu", "cuda"}
ADDED = PROJECT["optional-dependencies"].keys() - SERVERS - {"serving"}
# What is installed beside an extra, or the group of the tests.
BESIDE = {extra: {"server"} for extra in ADDED} | {"test": ADDED - {"ray"}}
FOLDERS = {
    "quartet": None,
    "service": "server",
    "training": "training",
    "course": "training",
    "deploy": "ray",
    "docs": "test",
    "examples": "training",
    "benchmarks": "test",
    "tests": "test",
}
# Modules and folders that need a further extra.
EXTRAS = {
    "service/api/grpc/": "grpc",
    "quartet/protocol/": "grpc",
    "quartet/conformance/rpc.py": "grpc",
    "service/observe/tracing.py": "traces",
    "quartet/adopt/": "adopt",
    "quartet/adopt/evaluation.py": "evaluate",
    "quartet/adopt/preprocessing.py": "training",  # timm
    "quartet/captured/": "server",
    "quartet/captured/parquet.py": "score",
    "quartet/replay/": "server",
    "quartet/completion.py": "server",
    "quartet/offline/": "server",
    "quartet/offline/triton_repository.py": "grpc",
    "quartet/offline/scoring/parquet.py": "score",
    "quartet/offline/scoring/sources.py": "score",
    "quartet/offline/scoring/on_ray.py": "ray",
    "benchmarks/on_ray.py": "ray",
    "examples/course/": "course",
    "docs/conf.py": "docs",
    "tests/deploy/test_ray.py": "ray",
}
# The environment of Ultralytics runs it.
ELSEWHERE = {"benchmarks/yolo.py": {"ultralytics"}}
# The client takes and returns their objects in programs that have them.
OPTIONAL = {"quartet": {"numpy", "pandas", "pillow"}}
DISTRIBUTIONS = packages_distributions()


def declared(extra: str | None) -> set[str]:
    """The names of what is installed where a module of an extra runs."""
    return brought(extra).union(*map(declared, BESIDE.get(extra or "", ())))


def brought(extra: str | None) -> set[str]:
    """The names of what the base or an extra requires."""
    names: set[str] = set()
    for requirement in map(Requirement, PROJECT["dependencies"] + (GROUPS[extra] if extra else [])):
        if requirement.name == PROJECT["name"]:
            names |= set().union(*map(brought, requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return names


def imported(path: Path) -> Iterator[str]:
    """The packages of others that a module or a notebook imports, wherever in it."""
    source, own = path.read_text(), FOLDERS.keys()
    if path.suffix == ".ipynb":
        cells = json.loads(source)["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        own |= {module.stem for module in path.parent.glob("*.py")}  # it runs in its own folder
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        tops = {module.partition(".")[0] for module in modules}
        yield from tops - sys.stdlib_module_names - own


def pinned(folder: str) -> set[str]:
    """What is in the environment of other model servers' apps, or of other clients."""
    lines = (ROOT / folder / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("#")}


def undeclared(folder: str) -> Iterator[str]:
    for path in sorted([*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.ipynb")]):
        name = str(path.relative_to(ROOT))
        further = set().union(*(declared(extra) for prefix, extra in EXTRAS.items() if name.startswith(prefix)))
        allowed = declared(FOLDERS[folder]) | further | OPTIONAL.get(folder, set()) | ELSEWHERE.get(name, set())
        if name.startswith("benchmarks/peers/") and name.endswith("_app.py"):
            allowed |= pinned("benchmarks/peers")
        if name.startswith("tests/clients/"):
            allowed |= pinned("tests/clients")
        for package in imported(path):
            distributions = set(map(canonicalize_name, DISTRIBUTIONS.get(package, [package])))
            if not distributions & allowed:
                yield f"{name}: {package}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_import_is_declared(folder: str):
    assert list(undeclared(folder)) == []


def test_an_environment_has_one_build_of_the_runtime():
    assert brought("cpu") & RUNTIMES == {"onnxruntime"}
    assert brought("server") - RUNTIMES == brought("cuda") - RUNTIMES == brought("cpu") - RUNTIMES
    for extra in (*ADDED, "serving"):
        assert brought(extra) & RUNTIMES == set()


def test_an_extra_brings_those_that_it_names():
    assert {"httpx", "fastapi", "torch"} <= declared("test")
    assert "pyarrow" not in declared("server")
