"""The server's periodic check."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from uvicorn.server import ServerState

from service import server
from service.observe.metrics import Metrics


async def test_a_check_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(server, "_CHECK_SECONDS", 0.001)
    repeated = asyncio.Event()
    reports = 0

    def report(worker: object) -> None:
        nonlocal reports
        reports += 1
        if reports == 3:
            repeated.set()
        raise OSError("Too many open files")

    checking = server.Server.__new__(server.Server)
    checking._app = SimpleNamespace(metrics=Metrics())  # type: ignore[assignment]
    checking._worker = SimpleNamespace()  # type: ignore[assignment]
    checking.server_state = ServerState()
    monkeypatch.setattr(checking, "_report", report)
    checking._check(time.monotonic())
    await asyncio.wait_for(repeated.wait(), 10)
    monkeypatch.setattr(checking, "_check", lambda due: None)
    assert "periodic check of the connections failed" in caplog.text
