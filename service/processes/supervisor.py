"""Starts several workers on one address, forwards signals to them, and restarts those that die or hang.

Uvicorn's own supervisor does not fit: its workers outlive it when it is killed, a worker whose event loop hangs still
answers its health check, and it neither forwards SIGUSR1 nor tells the workers when all of them are ready.
"""

import asyncio
import json
import logging
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from service.inference.device import available_cpus
from service.listeners import Listeners
from service.processes.worker import NOTIFY, RELOAD, Status, worker_environment
from service.settings import Settings

logger = logging.getLogger("service")

# Delay of a restart, in seconds; it doubles each time, until a worker has run for long enough.
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
_HEALTHY_SECONDS = 60.0
# A worker sends a heartbeat each second.
_HEARTBEAT_TIMEOUT = 30.0
# Seconds to end, beyond those that the settings grant.
_GRACE_SECONDS = 15.0


def shares(settings: Settings) -> list[dict[str, Any]]:
    """The settings of each worker that depend on how many there are.

    Threads, connections and the memory for request bodies are divided, but each worker has room for the largest body.
    """
    workers = settings.workers
    threads, more = divmod(settings.threads or available_cpus(), workers)
    share = {
        "workers": 1,
        "max_memory_mb": max(settings.max_body_mb, settings.max_memory_mb / workers),
        "max_connections": math.ceil(settings.max_connections / workers),
    }
    return [{**share, "threads": max(1, threads + (index < more))} for index in range(workers)]


def gpu_of(index: int, environment: Mapping[str, str]) -> Mapping[str, str]:
    """The GPU of a worker, round-robin, if `CUDA_VISIBLE_DEVICES` names several."""
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": visible[index % len(visible)]} if len(visible) > 1 else {}


@dataclass(eq=False)
class _Worker:
    """A worker as the supervisor sees it, over all its restarts."""

    index: int
    settings: Mapping[str, Any]
    starts: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: Process | None = None
    writer: asyncio.StreamWriter | None = None

    def __str__(self) -> str:
        return f"worker {self.index + 1}"


class Supervisor:
    """Runs the workers of a service.

    The first worker starts alone, so that a problem that prevents the start is reported once. Readiness is 503 until
    all workers have started.

    Args:
        settings: of the service; `workers` says how many there are.
        listeners: reserve the ports, which each worker binds too. A Unix socket cannot be bound twice: all workers
            get this one.
        access: arguments of `ring_of` for every worker.
    """

    def __init__(self, settings: Settings, listeners: Listeners, access: Mapping[str, Any] | None = None) -> None:
        self._access = access or {}
        self._listeners = listeners
        self._unix = listeners.main if settings.uds else None
        addresses = {} if settings.uds else dict(zip(("host", "port"), listeners.main.getsockname(), strict=False))
        if listeners.metrics:
            addresses["metrics_port"] = listeners.metrics.getsockname()[1]
        self._workers = [_Worker(index, {**share, **addresses}) for index, share in enumerate(shares(settings))]
        self._folder = tempfile.mkdtemp(prefix="quartet-")
        self._end_timeout = settings.drain_seconds + settings.shutdown_timeout + _GRACE_SECONDS
        self._serving = False
        self._ending = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT, or until a worker fails to start.

        Returns:
            The exit code: 0 after a clean end, otherwise that of the worker that failed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGUSR1, self._send, RELOAD)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._start = tasks.create_task(self._start_workers(tasks))
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._code

    async def _start_workers(self, tasks: asyncio.TaskGroup) -> None:
        first, *others = self._workers
        for group in ([first], others):
            for worker in group:
                tasks.create_task(self._supervise_worker(worker))
            for worker in group:
                await worker.ready.wait()
        self._serving = True
        self._publish()
        logger.info(
            "%s; %d workers of %d threads and %g MB for bodies each",
            self._listeners.describe(), len(self._workers), first.settings["threads"], first.settings["max_memory_mb"],
        )  # fmt: skip

    async def _supervise_worker(self, worker: _Worker) -> None:
        """Runs a worker until the service ends, and restarts it with exponential backoff when it exits."""
        delay = _FIRST_DELAY
        while not self._ending.is_set():
            started = time.monotonic()
            try:
                code = await self._run_worker(worker)
            except OSError as error:  # the system allows no further process, say
                logger.error("%s cannot be started: %s", worker, error.strerror)
                code = 1
            if self._ending.is_set():
                # A signal ends a worker that has not installed its handlers yet.
                self._code = self._code or (0 if code in (-signal.SIGTERM, -signal.SIGINT) else abs(code))
            elif not self._serving:
                if code < 0:  # otherwise the worker has printed the reason
                    logger.error("%s was ended by signal %d before all were ready", worker, -code)
                self._code = code if code > 0 else 1
                self._end(signal.SIGTERM)
            else:
                if time.monotonic() - started > _HEALTHY_SECONDS:
                    delay = _FIRST_DELAY
                logger.error("%s ended with code %d and is started again in %g s", worker, code, delay)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _run_worker(self, worker: _Worker) -> int:
        """Starts a worker's process and returns its exit code."""
        ours, theirs = socket.socketpair()
        unix = self._unix.fileno() if self._unix else None
        joining = worker_environment(worker.index, self._folder, theirs.fileno(), worker.settings, self._access, unix)
        with ours, theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *sys.orig_argv[1:],
                env={**os.environ, **gpu_of(worker.index, os.environ), **joining},
                pass_fds=[theirs.fileno(), *([] if unix is None else [unix])],
                process_group=0,  # a terminal's Ctrl+C reaches the workers through the supervisor alone
            )
            reader, writer = await asyncio.open_unix_connection(sock=ours.dup())
        worker.process, worker.writer = process, writer
        worker.starts += 1
        self._publish()
        if self._ending.is_set():  # the signal came while the process was being started
            _signal(process, signal.SIGTERM)
        try:
            with closing(writer):
                await self._watch(worker, process, reader)
            try:
                return await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
            except TimeoutError:
                _signal(process, signal.SIGKILL)
                return await process.wait()
        finally:
            worker.process = worker.writer = None
            worker.ready.clear()
            mark_process_dead(worker.index, self._folder)  # type: ignore[no-untyped-call]
            self._publish()

    async def _watch(self, worker: _Worker, process: Process, reader: asyncio.StreamReader) -> None:
        """Returns when the worker has closed its channel, or was killed because its heartbeats stopped."""
        while True:
            try:
                # There is no heartbeat while the models are loaded, which may take long.
                timeout = _HEARTBEAT_TIMEOUT if worker.ready.is_set() else None
                received = await asyncio.wait_for(reader.read(64), timeout)
            except TimeoutError:
                logger.error("the event loop of %s does not respond: the worker is killed", worker)
                _signal(process, signal.SIGKILL)
                return
            except ConnectionError:
                return
            if not received:
                return
            if NOTIFY in received:
                self._send(RELOAD)
            if not worker.ready.is_set():
                worker.ready.set()
                self._publish()

    def _end(self, number: int) -> None:
        """Ends the service; a second signal ends workers that drain at once."""
        loop = asyncio.get_running_loop()
        self._serving = False
        self._ending.set()
        self._start.cancel()
        self._publish()
        if self._unix:
            self._unix.close()  # it listens for as long as any process has it
        for worker in self._workers:
            if worker.process:
                _signal(worker.process, number)
                loop.call_later(self._end_timeout, _signal, worker.process, signal.SIGKILL)

    def _publish(self) -> None:
        """Sends the current status to all workers."""
        processes = [(worker.process.pid if worker.process else 0, worker.starts) for worker in self._workers]
        status = Status(self._serving, sum(worker.ready.is_set() for worker in self._workers), processes)
        self._send(json.dumps(status).encode() + b"\n")

    def _send(self, line: bytes) -> None:
        # A worker reads once it has started, so a reload that comes earlier is not lost.
        for worker in self._workers:
            if worker.writer:
                worker.writer.write(line)


def _signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
