"""The tests of the service and the client with each supported Python that this machine has: make test-versions."""

import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
_PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
_VERSIONS = [each.rpartition(" ")[2] for each in _PROJECT["project"]["classifiers"] if "Python :: 3." in each]
# The build of ONNX Runtime is the CPU's, which `make test` does not see on Linux; without PyTorch.
_EXTRAS = "cpu,score,adopt,evaluate,grpc,traces"
_TOOLS = ("hypothesis", "mypy", "packaging", "pandas", "psutil", "pytest", "pytest-asyncio", "pytest-xdist")


@nox.session(python=_VERSIONS)
def tests(session: nox.Session) -> None:
    """Runs them; arguments are those of pytest."""
    session.install("--constraint", "constraints.txt", "--editable", f".[{_EXTRAS}]", *_TOOLS)
    session.run("pytest", "-n", "2", "--dist", "loadfile", *(session.posargs or ["tests/service", "tests/quartet"]))
