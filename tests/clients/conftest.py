"""The service from the project's environment, and the models of Triton's example clients.

The clients are in an environment of their own: `make clients`.
"""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.server import ROOT, Server

PYTHON = ROOT / ".venv" / "bin" / "python"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves `simple`, `simple_int8`, `simple_string` and the committed classifier, over REST and gRPC."""
    models = tmp_path_factory.mktemp("models")
    subprocess.run([PYTHON, "-m", "tests.clients.models", models], cwd=ROOT, check=True)
    shutil.copytree(ROOT / "models" / "classifier", models / "classifier")
    running = Server(python=PYTHON, models=models, grpc_port=0)
    yield running
    code = running.stop()
    assert code == 0, "".join(running.lines)


@pytest.fixture
def rest(server: Server) -> str:
    """HOST:PORT of REST."""
    return f"127.0.0.1:{server.port}"


@pytest.fixture
def rpc(server: Server) -> str:
    """HOST:PORT of gRPC."""
    return f"127.0.0.1:{server.grpc_port}"
