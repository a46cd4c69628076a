"""The Dockerfiles find what they copy and start, and what comes from a registry is pinned."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from quartet import __version__
from service import healthcheck
from service.access.gate import is_public
from tests.deploy.test_compose import COMPOSE, SERVICES
from tests.server import ROOT
from tests.test_dependencies import ADDED, PROJECT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
ARGUMENTS = dict(re.findall(r"^ARG (\w+)=(.+)$", DOCKERFILE, re.MULTILINE))
PINNED = r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}"


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/ray/Dockerfile"])
def test_what_is_copied_reaches_the_builder(name: str):
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {
        source
        for arguments in re.findall(r"^COPY ((?!--from).+)$", (ROOT / name).read_text(), re.MULTILINE)
        for source in arguments.split()[:-1]
    }
    assert copied
    assert copied <= sent
    assert all((ROOT / source).exists() for source in copied)


def test_the_base_is_pinned_by_its_digest():
    for service in SERVICES.values():
        base = service["build"]["args"]["PYTHON"]
        assert re.fullmatch(PINNED, base)
        assert base.partition("@")[0] == ARGUMENTS["PYTHON"]


def test_what_comes_from_a_registry_is_pinned():
    images = {name: each["image"] for name, each in COMPOSE["services"].items() if "build" not in each}
    assert set(images) == {"prometheus", "grafana"}
    components = (ROOT / "deploy" / "kubernetes" / "components").rglob("*.yaml")
    images |= {
        str(path): image
        for path in components
        for image in re.findall(r"^ *image: (.+)$", path.read_text(), re.MULTILINE)
    }
    assert len(images) == 4
    for image in images.values():
        assert re.fullmatch(PINNED, image)


def test_the_extras_add_to_one_runtime():
    assert set(ARGUMENTS["EXTRAS"].split(",")) <= ADDED
    assert re.findall(r"install \"\.\[(\w+),\$\{EXTRAS\}\]\"", DOCKERFILE) == ["cpu", "cuda"]


def test_the_labels():
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="(.*)"', DOCKERFILE))
    assert labels["licenses"] == PROJECT["license"]
    assert (labels["version"], labels["revision"]) == ("${VERSION}", "${REVISION}")


def test_make_images_names_version_and_commit(tmp_path: Path):
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$VERSION $REVISION $*"\n')
    docker.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    made = subprocess.run(["make", "--silent", "images"], cwd=ROOT, env=variables, capture_output=True, text=True)
    version, revision, *command = made.stdout.split()
    assert version == __version__
    assert re.fullmatch(r"[0-9a-f]{40}", revision)
    assert command == ["compose", "--profile", "cpu", "--profile", "gpu", "build"]


def test_the_health_check_needs_neither_a_shell_nor_a_key():
    (command,) = re.findall(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", DOCKERFILE)
    program = Path(json.loads(command)[-1])
    assert program == Path(str(healthcheck.__file__)).relative_to(ROOT)
    assert is_public("GET", healthcheck.PATH)


def test_the_python_is_a_supported_one():
    (minor,) = re.findall(r"python:(3\.\d+)-", ARGUMENTS["PYTHON"])
    assert f"Programming Language :: Python :: {minor}" in PROJECT["classifiers"]
