"""Shared fixtures: a folder with the tiny model, the application in this process, the real server."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

# One thread for torch and scikit-learn, before anything loads them: two workers share the cores, and networks as small
# as those of the tests spend more time on waiting for threads than threads save them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from tests.server import ROOT, Server
from tests.tiny import write_model

# A shell has what it starts in the background ignore Ctrl-C, and children inherit that: the tests of Ctrl-C would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--schema-examples", type=int, default=30, help="inputs per operation in test_schema.py")
    parser.addoption("--screenshots", type=Path, help="folder for pictures of every panel, from tests/browser")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny classifier as `classifier/1`; tests must not change it."""
    models = tmp_path_factory.mktemp("models")
    write_model(models)
    return models


@pytest.fixture
def settings(tiny_models: Path) -> Settings:
    return Settings(models=tiny_models, device="cpu", threads=1, max_body_mb=1, max_pixels=1_000_000, log_format="text")


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, started."""
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the application directly, without a network."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real server with the committed classifier's reference, which every CPU computes alike, and a small limit."""
    models = tmp_path_factory.mktemp("committed")
    (models / "classifier").symlink_to(ROOT / "models" / "classifier")
    running = Server(models=models, max_body_mb=4, variant="reference")
    yield running
    code = running.stop()
    assert code == 0, "".join(running.lines)


@pytest.fixture(scope="session")
def everything() -> Iterator[Server]:
    """The real server with all committed models, on two threads, so that batches also run in parallel."""
    running = Server(models=ROOT / "models", threads=2, grpc_port=0)
    yield running
    code = running.stop()
    assert code == 0, "".join(running.lines)
