"""The wheel: what it carries, and what works where its base dependencies alone are installed."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from quartet.command_line import main
from tests.server import ROOT, Server

BASE = ["httpx", "tqdm"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, in a copy: a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    for name in ("quartet", "service", "training"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    _build("sdist", folder)
    (sources,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    _build("wheel", unpacked)
    (built,) = (unpacked / "dist").glob("*.whl")
    return built


def _build(kind: str, folder: Path) -> None:
    program = f"from setuptools.build_meta import build_{kind} as build; build('dist')"
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and its base dependencies, taken from this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    for name in _closure(BASE):
        files = importlib.metadata.distribution(name).files or []
        for top in {file.parts[0] for file in files} - {".."}:
            source = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            if not (packages / top).exists():
                (packages / top).symlink_to(source)
    return folder / "bin" / "python"


def _closure(names: list[str]) -> set[str]:
    """These distributions and all that they require, without extras."""
    found: set[str] = set()
    while names:
        name = names.pop()
        if name not in found:
            found.add(name)
            requirements = map(Requirement, importlib.metadata.requires(name) or [])
            names += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return found


def run(program: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the interpreter, or an installed command, which finds no sources but those of the folder."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([program, *arguments], cwd=folder, env=own, capture_output=True, text=True, timeout=60)


def test_the_wheel_carries_the_client_alone(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
        (scripts,) = (archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    assert "quartet = quartet.command_line:main" in scripts
    assert {"quartet/py.typed", "quartet/client.py"} <= names
    assert {name.rpartition("/")[2] for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert "Name: quartet-client" in metadata.splitlines()
    tops = {name.partition("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"quartet"}
    lines = [line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if "Requires-Dist: " in line]
    requirements = [Requirement(line) for line in lines]
    assert sorted(each.name for each in requirements if "extra" not in str(each.marker)) == BASE


@pytest.mark.parametrize(
    "command",
    [
        "serve",
        "train x",
        "doctor",
        "score a b c",
        "keys list",
        "predict a b --models m",
        "adopt a --name b",
        "adopt a --name b --task text",
    ],
)
def test_what_needs_the_server_says_so_in_one_line(python: Path, tmp_path: Path, command: str):
    ended = run(python, "-m", "quartet.command_line", *command.split(), folder=tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"`quartet {command.split()[0]}` needs more than the client" in line
    assert "pip install" not in line  # the package index has no server


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("service", "server"),
        ("training text --data x", "server,training"),
        ("quartet.command_line serve", "server"),
        ("quartet.command_line train x", "server,training"),
    ],
)
def test_in_a_clone_a_missing_extra_is_named_in_one_line(python: Path, command: str, extra: str):
    ended = run(python, "-m", *command.split(), folder=ROOT)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"pip install -c constraints.txt -e '.[{extra}]'" in line
    assert "quartet[" not in line  # another project's name on the package index


def test_in_the_image_a_missing_extra_is_a_matter_of_its_build(python: Path, tmp_path: Path):
    shutil.copytree(ROOT / "service", tmp_path / "service", ignore=shutil.ignore_patterns("__pycache__"))
    ended = run(python, "-m", "quartet.command_line", "serve", folder=tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "build it with --build-arg EXTRAS=" in line
    assert "pip install" not in line


def test_windows_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "win32")
    for command in ("serve", "train"):
        with pytest.raises(SystemExit, match="need Linux, macOS or WSL"):
            main([command, "x"] if command == "train" else [command])


def test_the_client_needs_nothing_else(python: Path, server: Server, tmp_path: Path):
    program = """
import sys
import tarfile
from quartet import Client
with Client(sys.argv[1]) as client:
    print(client.predict(sys.argv[2]).label)
"""
    ended = run(python, "-c", program, server.url, str(ROOT / "examples" / "cat.jpg"), folder=tmp_path)
    assert (ended.stdout, ended.stderr) == ("cat\n", "")


def test_commands_that_ask_a_server_need_nothing_else(python: Path, server: Server, tmp_path: Path):
    command = python.parent / "quartet"
    cat = str(ROOT / "examples" / "cat.jpg")
    predict = run(command, "predict", "classifier", cat, "--server", server.url, "--format", "csv", folder=tmp_path)
    assert (predict.returncode, predict.stderr) == (0, "")
    assert predict.stdout.splitlines()[1].startswith(f"{cat},cat,")
    models = run(command, "models", "--server", server.url, "--json", folder=tmp_path)
    assert (models.returncode, models.stderr) == (0, "")
