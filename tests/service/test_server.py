"""The server's periodic check."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from uvicorn.server import ServerState

from service import server
from service.metrics import Metrics


async def test_a_check_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(server, "_CHECK_SECONDS", 0.001)
    repeated = asyncio.Event()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 3:
            repeated.set()
        raise OSError("Too many open files")

    checking = server.Server.__new__(server.Server)
    checking._application = SimpleNamespace(metrics=Metrics())  # type: ignore[assignment]
    checking.server_state, checking._tick = ServerState(), tick
    checking._check(time.monotonic())
    await asyncio.wait_for(repeated.wait(), 10)
    monkeypatch.setattr(checking, "_check", lambda due: None)
    assert "periodic check of the connections failed" in caplog.text
