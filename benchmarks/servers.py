"""Runs servers as subprocesses: starts them, waits until they are ready, measures and stops them."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Running:
    """A running server; `seconds_to_ready` is the time from the start of its process until it was ready."""

    process: psutil.Process
    port: int
    seconds_to_ready: float

    def resident_mb(self) -> float:
        """Resident memory in MB."""
        return float(self.process.memory_info().rss) / 1e6

    def cpu_seconds(self) -> float:
        """User and system time used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def service(
    models: Path,
    settings: Mapping[str, str] | None = None,
    checkout: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """This project's service with the models of a folder.

    Args:
        models: the folder.
        settings: further settings, by name.
        checkout: the root of another checkout, whose code is run instead of this one's.
        variables: further environment variables.
    """
    port = free_port()
    environment = {"QUARTET_PORT": str(port), "QUARTET_MODELS": str(models.absolute()), "QUARTET_DEVICE": "cpu"}
    environment |= {f"QUARTET_{name.upper()}": value for name, value in (settings or {}).items()}
    environment |= variables or {}
    with run([sys.executable, "-m", "service"], environment, port, "/healthz/ready", checkout) as running:
        yield running


@contextmanager
def handwritten(folder: Path, file: str) -> Iterator[Running]:
    """The hand-written app with a graph of one version."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.handwritten", str(folder), str(port), file]
    with run(command, {}, port, "/docs") as running:
        yield running


@contextmanager
def run(
    command: list[str], environment: Mapping[str, str], port: int, path: str, folder: Path | None = None
) -> Iterator[Running]:
    """A server that is ready, which is stopped together with the processes that it started.

    Args:
        command: that starts it.
        environment: variables added to those of this process.
        port: where it listens.
        path: answers with success once the server is ready.
        folder: the working directory.

    Raises:
        RuntimeError: the process ended, or the server was not ready within a minute.
    """
    started = time.perf_counter()
    # The log is written, as in production, but discarded.
    with Path(os.devnull).open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log, stdout=log, cwd=folder)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None or time.perf_counter() - started > 60:
                    raise RuntimeError(f"{' '.join(command)} did not start (exit code {process.poll()})") from None
                time.sleep(0.01)
        yield Running(psutil.Process(process.pid), port, time.perf_counter() - started)
    finally:
        with suppress(psutil.NoSuchProcess):
            _stop(psutil.Process(process.pid))
        process.wait()


def _stop(server: psutil.Process) -> None:
    processes = [server, *server.children(recursive=True)]
    server.terminate()
    psutil.wait_procs([server], timeout=60)
    # A server may leave workers behind, which would disturb the next measurement.
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
