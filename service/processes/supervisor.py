"""The process that starts several workers on one port, passes signals on, and starts again what dies."""

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from service.inference.device import available_cpus
from service.processes.board import Board, State
from service.processes.worker import Assignment, board_file
from service.settings import PREFIX, Settings

logger = logging.getLogger("service")

_TICK_SECONDS = 0.5
# A worker that dies is started again after so long, after twice as long the next time, and so on.
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
# One that has run for so long dies for another reason than its start.
_HEALTHY_SECONDS = 60.0
# A worker whose event loop has not turned for so many of our own ticks is ended.
_SILENT_TICKS = 60
# Seconds beyond those that a worker takes to end by its settings.
_GRACE_SECONDS = 15.0


def shares(settings: Settings, workers: int) -> list[Mapping[str, str]]:
    """The settings of each worker that depend on how many there are.

    Threads and connections are shared out; so is the memory for bodies, but each worker has room for one of the
    largest.
    """
    threads = settings.threads or available_cpus()
    memory = max(settings.max_body_mb, settings.max_memory_mb / workers)
    return [
        {
            f"{PREFIX}WORKERS": "1",
            f"{PREFIX}THREADS": str(max(1, (threads * (index + 1)) // workers - (threads * index) // workers)),
            f"{PREFIX}MAX_MEMORY_MB": f"{memory:g}",
            f"{PREFIX}MAX_CONNECTIONS": str(-(-settings.max_connections // workers)),
        }
        for index in range(workers)
    ]


def cores_of(workers: int) -> list[tuple[int, ...] | None]:
    """The cores of each worker; None for all of them where a quota or their number does not let them be shared out."""
    if not hasattr(os, "sched_getaffinity"):
        return [None] * workers
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) != available_cpus() or len(cores) < workers:
        return [None] * workers
    bounds = [len(cores) * index // workers for index in range(workers + 1)]
    return [tuple(cores[start:end]) for start, end in itertools.pairwise(bounds)]


def gpu_of(index: int, environment: Mapping[str, str]) -> Mapping[str, str]:
    """The GPU of a worker, where `CUDA_VISIBLE_DEVICES` names several: they take turns."""
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": visible[index % len(visible)]} if len(visible) > 1 else {}


class Supervisor:
    """Keeps the workers of a service going.

    The first one starts alone, so that what keeps the service from starting is said once; the others follow. Readiness
    is 503 until all of them have started.

    Args:
        settings: of the service; `workers` says how many there are.
        listener: a socket that keeps the port; it does not listen.
        command: starts a worker, which joins by its environment.
    """

    def __init__(self, settings: Settings, listener: socket.socket, command: Sequence[str]) -> None:
        self._settings = settings
        self._workers = settings.workers
        self._command = command
        self._folder = Path(tempfile.mkdtemp(prefix="quartet-"))
        self._board = Board(board_file(self._folder), self._workers)
        self._host, self._port = listener.getsockname()[:2]
        self._url = url_of(listener)
        self._shares = shares(settings, self._workers)
        self._cores = cores_of(self._workers)
        self._lifeline: tuple[int, int] = (-1, -1)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._silence: dict[int, tuple[int, int]] = {}  # the beats that were seen last, and for how many ticks
        self._reload: set[int] = set()  # workers that have yet to hear of a reload
        self._doomed: set[int] = set()  # workers that have been told to end, for only a restart helps
        self._ending = asyncio.Event()
        self._deadline = 0.0
        self._code = 0

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT, or until a worker cannot start at all.

        Returns:
            The exit code: 0 after a clean end, otherwise that of the worker that failed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGUSR1, self._reload_all)
        self._lifeline = os.pipe()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep(0))
                if await self._ready(1):
                    for index in range(1, self._workers):
                        tasks.create_task(self._keep(index))
                    if await self._ready(self._workers):
                        self._announce()
                await self._watch()
        finally:
            for end in self._lifeline:
                os.close(end)
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._code

    def _announce(self) -> None:
        self._board.wanted = True
        share = self._shares[-1]
        logger.info(
            "serving on %s, to be opened in a browser; its API is described at /docs; "
            "%d workers of %s threads and %s MB for bodies each",
            self._url,
            self._workers,
            share[f"{PREFIX}THREADS"],
            share[f"{PREFIX}MAX_MEMORY_MB"],
        )

    async def _ready(self, count: int) -> bool:
        """Waits for the first workers to start; says whether they have."""
        while not self._ending.is_set():
            if all(self._board.state(index) == State.READY for index in range(count)):
                return True
            await asyncio.sleep(0.02)
        return False

    async def _keep(self, index: int) -> None:
        """Starts a worker, and starts it again whenever it dies."""
        delay = _FIRST_DELAY
        while not self._ending.is_set():
            started = time.monotonic()
            try:
                code = await self._run_worker(index)
            except OSError as error:  # the system allows no further process, say
                logger.error("worker %d cannot be started: %s", index + 1, error.strerror)
                code = 1
            if self._ending.is_set():
                # Signals end a worker that has not got as far as to handle them.
                self._code = self._code or (0 if code in (-signal.SIGTERM, -signal.SIGINT) else abs(code))
                return
            if not self._board.wanted:
                if code < 0:  # otherwise it has said why
                    logger.error("worker %d was ended by signal %d before all were ready", index + 1, -code)
                self._code = code if code > 0 else 1
                self._end(signal.SIGTERM)
                return
            if time.monotonic() - started > _HEALTHY_SECONDS:
                delay = _FIRST_DELAY
            logger.error("worker %d ended with code %d and is started again in %g s", index + 1, code, delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    async def _run_worker(self, index: int) -> int:
        """The exit code of a worker's process, once it has ended."""
        assignment = Assignment(index, self._workers, str(self._folder), self._lifeline[0], self._cores[index])
        process = self._processes[index] = await asyncio.create_subprocess_exec(
            *self._command,
            env={
                **os.environ,
                **gpu_of(index, os.environ),
                **assignment.environment(),
                **self._shares[index],
                f"{PREFIX}HOST": self._host,
                f"{PREFIX}PORT": str(self._port),
            },
            pass_fds=[self._lifeline[0]],
            process_group=0,  # a terminal's Ctrl+C reaches the workers through this process alone
        )
        self._silence.pop(index, None)
        self._doomed.discard(index)
        self._board.begin(index, process.pid)
        if self._ending.is_set():  # the signal came while it was being started
            process.terminate()
        try:
            return await process.wait()
        finally:
            del self._processes[index]
            self._board.end(index)
            mark_process_dead(index, str(self._folder))  # type: ignore[no-untyped-call]

    async def _watch(self) -> None:
        """Looks after the workers until all of them have ended."""
        while not self._ending.is_set() or self._processes:
            for index, process in list(self._processes.items()):
                self._look_after(index, process)
            await asyncio.sleep(_TICK_SECONDS if not self._ending.is_set() else 0.05)

    def _look_after(self, index: int, process: asyncio.subprocess.Process) -> None:
        state = self._board.state(index)
        if self._ending.is_set():
            if time.monotonic() > self._deadline:
                logger.error("worker %d did not end in time and is killed", index + 1)
                self._kill(process)
        elif state == State.BROKEN and index not in self._doomed:
            logger.error("a model of worker %d is not responding: the worker is terminated", index + 1)
            self._doomed.add(index)
            process.terminate()
        elif state == State.READY:
            if index in self._reload:
                self._reload.discard(index)
                process.send_signal(signal.SIGUSR1)
            beats = self._board.beats(index)
            seen, ticks = self._silence.get(index, (beats, 0))
            self._silence[index] = (beats, ticks + 1 if beats == seen else 0)
            if self._silence[index][1] > _SILENT_TICKS:
                logger.error("the event loop of worker %d stands still: the worker is killed", index + 1)
                self._kill(process)

    def _reload_all(self) -> None:
        # Those that are starting hear of it afterwards: until then the signal would end them.
        self._reload.update(range(self._workers))
        for index, process in self._processes.items():
            if self._board.state(index) == State.READY:
                self._reload.discard(index)
                process.send_signal(signal.SIGUSR1)

    def _end(self, number: int) -> None:
        """Ends the workers; those that drain and are told again end at once."""
        self._board.wanted = False
        self._ending.set()
        settings = self._settings
        self._deadline = time.monotonic() + settings.drain_seconds + settings.shutdown_timeout + _GRACE_SECONDS
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    @staticmethod
    def _kill(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def url_of(listener: socket.socket) -> str:
    """Where a bound socket is going to answer."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def supervise(settings: Settings, listener: socket.socket) -> int:
    """Runs as many workers as the settings say, each by the command that this process was started with.

    Returns:
        The exit code.
    """

    async def run() -> int:
        return await Supervisor(settings, listener, [sys.executable, *sys.orig_argv[1:]]).run()

    return asyncio.run(run())
