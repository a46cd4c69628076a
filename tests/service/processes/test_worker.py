"""A worker ends when its supervisor is gone, whichever way it went."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from prometheus_client import values

from service.processes.worker import Worker


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the worker has sent itself SIGTERM."""
    found = asyncio.Event()

    def kill(pid: int, number: int) -> None:
        assert (pid, number) == (os.getpid(), signal.SIGTERM)
        found.set()

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # a worker replaces it
    return found


@pytest.mark.parametrize("unread", [False, True], ids=["closed", "reset"])
async def test_it_ends_without_its_supervisor(tmp_path: Path, ended: asyncio.Event, unread: bool):
    ours, theirs = socket.socketpair()
    worker = Worker(0, str(tmp_path / "metrics"), theirs.detach(), {}, {})
    worker.started()
    await asyncio.sleep(0.05)
    if not unread:
        ours.recv(100)
    ours.close()  # with unread bytes, the kernel resets the connection
    async with asyncio.timeout(5):
        await ended.wait()
