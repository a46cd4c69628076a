"""How the machine is divided between workers, and which of them are killed or started again."""

import asyncio
import errno
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.listeners import Listeners
from service.processes import supervisor
from service.processes.supervisor import Supervisor, gpu_of, shares
from service.processes.worker import HEARTBEAT
from service.settings import Settings


def test_threads_connections_and_memory_are_divided():
    settings = Settings(workers=3, threads=7, max_memory_mb=192, max_body_mb=64, max_connections=1000)
    parts = shares(settings)
    assert sum(part["threads"] for part in parts) == 7
    assert {part["max_connections"] for part in parts} == {334}
    assert {part["max_memory_mb"] for part in parts} == {64}
    assert {part["workers"] for part in parts} == {1}
    # Each has room for one of the largest bodies, and a thread.
    parts = shares(settings.model_copy(update={"workers": 8}))
    assert [part["max_memory_mb"] for part in parts] == [64] * 8
    assert [part["threads"] for part in parts] == [1, 1, 1, 1, 1, 1, 1, 1]


def test_gpus_are_assigned_round_robin():
    environment = {"CUDA_VISIBLE_DEVICES": "0,GPU-1f"}
    assert [gpu_of(index, environment).get("CUDA_VISIBLE_DEVICES") for index in range(3)] == ["0", "GPU-1f", "0"]
    assert gpu_of(0, {"CUDA_VISIBLE_DEVICES": "3"}) == gpu_of(0, {}) == {}


class FakeProcess:
    pid = 1

    def __init__(self) -> None:
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


@pytest.fixture
async def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Supervisor(Settings(workers=2), Listeners(listener))


async def test_a_worker_without_heartbeats_is_killed_once_it_was_ready(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(supervisor, "_HEARTBEAT_TIMEOUT", 0.05)
    worker, process, reader = supervised._workers[1], FakeProcess(), asyncio.StreamReader()
    watching = asyncio.create_task(supervised._watch(worker, process, reader))  # type: ignore[arg-type]
    await asyncio.sleep(0.2)
    assert not watching.done()  # it still loads
    reader.feed_data(HEARTBEAT)
    await asyncio.wait_for(watching, 10)
    assert worker.ready.is_set()
    assert process.signals == [signal.SIGKILL]
    assert "event loop of worker 2 does not respond" in caplog.text


async def test_a_worker_that_ends_by_itself_is_not_killed(supervised: Supervisor):
    process, reader = FakeProcess(), asyncio.StreamReader()
    reader.feed_data(HEARTBEAT)
    reader.feed_eof()
    await asyncio.wait_for(supervised._watch(supervised._workers[0], process, reader), 10)  # type: ignore[arg-type]
    assert not process.signals


async def test_a_worker_that_cannot_be_started_for_now_is_tried_again(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(supervisor, "_FIRST_DELAY", 0.01)
    starts = 0

    async def run_worker(worker: object) -> int:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        supervised._ending.set()
        return 0

    monkeypatch.setattr(supervised, "_run_worker", run_worker)
    supervised._serving = True  # all have been ready before
    await asyncio.wait_for(supervised._supervise_worker(supervised._workers[1]), 10)
    assert starts == 2
    assert "worker 2 cannot be started: Resource temporarily unavailable" in caplog.text
