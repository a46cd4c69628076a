"""How the machine is shared out between workers, and which of them are ended."""

import asyncio
import errno
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from service.processes import supervisor
from service.processes.board import Board, State
from service.processes.supervisor import Supervisor, cores_of, gpu_of, shares
from service.settings import Settings


def test_threads_connections_and_memory_are_shared_out():
    settings = Settings(threads=7, max_memory_mb=192, max_body_mb=64, max_connections=1000)
    parts = shares(settings, 3)
    assert sum(int(part["QUARTET_THREADS"]) for part in parts) == 7
    assert {part["QUARTET_MAX_CONNECTIONS"] for part in parts} == {"334"}
    assert {part["QUARTET_MAX_MEMORY_MB"] for part in parts} == {"64"}
    assert {part["QUARTET_WORKERS"] for part in parts} == {"1"}
    # Each has room for one of the largest bodies, and a thread.
    assert [part["QUARTET_MAX_MEMORY_MB"] for part in shares(settings, 8)] == ["64"] * 8
    assert [part["QUARTET_THREADS"] for part in shares(settings, 8)] == ["1"] * 8


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 5, 6, 7})
    monkeypatch.setattr(supervisor, "available_cpus", lambda: 5)
    assert cores_of(2) == [(1, 2), (5, 6, 7)]
    assert cores_of(6) == [None] * 6
    # Under a quota every container would take the first cores.
    monkeypatch.setattr(supervisor, "available_cpus", lambda: 2)
    assert cores_of(2) == [None, None]


def test_gpus_take_turns():
    environment = {"CUDA_VISIBLE_DEVICES": "0,GPU-1f"}
    assert [gpu_of(index, environment).get("CUDA_VISIBLE_DEVICES") for index in range(3)] == ["0", "GPU-1f", "0"]
    assert gpu_of(0, {"CUDA_VISIBLE_DEVICES": "3"}) == gpu_of(0, {}) == {}


class FakeProcess:
    def __init__(self) -> None:
        self.signals: list[int] = []

    def terminate(self) -> None:
        self.signals.append(signal.SIGTERM)

    def kill(self) -> None:
        self.signals.append(signal.SIGKILL)


@pytest.fixture
def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Supervisor(Settings(workers=2), listener, [sys.executable])


def test_a_worker_whose_event_loop_stands_still_is_killed(supervised: Supervisor, caplog: pytest.LogCaptureFixture):
    process = FakeProcess()
    board = supervised._board
    for tick in range(300):  # one that turns, if slowly
        if tick % 50 == 0:
            board.beat(1)
        supervised._look_after(1, process)  # type: ignore[arg-type]
    assert not process.signals  # it has not said yet that it is ready
    board.set_state(1, State.READY)
    for tick in range(300):
        if tick % 50 == 0:
            board.beat(1)
        supervised._look_after(1, process)  # type: ignore[arg-type]
    assert not process.signals
    for _ in range(100):
        if not process.signals:
            supervised._look_after(1, process)  # type: ignore[arg-type]
    assert process.signals == [signal.SIGKILL]
    assert "worker 2 stands still" in caplog.text


def test_a_worker_with_a_broken_model_is_ended_once(supervised: Supervisor):
    process = FakeProcess()
    supervised._board.set_state(0, State.BROKEN)
    for _ in range(5):
        supervised._look_after(0, process)  # type: ignore[arg-type]
    assert process.signals == [signal.SIGTERM]


def test_what_is_written_on_the_board_is_read_by_others(tmp_path: Path):
    written, read = (Board(tmp_path / "board", 2) for _ in range(2))
    assert (read.wanted, read.state(1), read.pid(1), read.starts(1)) == (False, State.STARTING, 0, 0)
    written.wanted = True
    written.begin(1, 123)
    written.begin(1, 456)
    written.set_state(1, State.READY)
    assert (read.wanted, read.state(1), read.pid(1), read.starts(1)) == (True, State.READY, 456, 2)
    assert read.state(0) == State.STARTING
    written.end(1)
    assert (read.state(1), read.pid(1), read.starts(1)) == (State.STARTING, 0, 2)


async def test_a_worker_that_cannot_be_started_for_now_is_tried_again(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(supervisor, "_FIRST_DELAY", 0.01)
    starts = 0

    async def run_worker(index: int) -> int:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        supervised._ending.set()
        return 0

    monkeypatch.setattr(supervised, "_run_worker", run_worker)
    supervised._board.wanted = True  # all have been ready before
    await asyncio.wait_for(supervised._keep(1), 10)
    assert starts == 2
    assert "worker 2 cannot be started: Resource temporarily unavailable" in caplog.text
