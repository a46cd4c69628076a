"""Starts the real server in a process of its own, as `python -m service` does."""

import os
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parents[1]


def environment(**settings: object) -> dict[str, str]:
    """The current environment with only the given QUARTET_ settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("QUARTET_")}
    return {**inherited, **{f"QUARTET_{name.upper()}": str(value) for name, value in settings.items()}}


class Server:
    """A running server.

    Args:
        module: what is run, in place of the service.
        python: the interpreter.
        settings: QUARTET_ variables, without the prefix.

    Attributes:
        url: where it answers.
        lines: what it has logged.
    """

    def __init__(self, module: str = "service", python: str | Path = sys.executable, **settings: object) -> None:
        settings = {"host": "127.0.0.1", "port": 0, "device": "cpu", "threads": 1, "log_format": "text", **settings}
        self.process = subprocess.Popen(
            [python, "-m", module],
            cwd=ROOT,
            env=environment(**settings),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._found: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        url = self._found.get(timeout=120)
        if url is None:
            self.stop()
            raise RuntimeError("the server did not start:\n" + "".join(self.lines))
        self.url = url
        self.port = 0 if "+unix" in url else int(url.rpartition(":")[2])

    @property
    def metrics_url(self) -> str:
        """Where it answers metrics and probes, if the setting `metrics_port` was given."""
        return next(found[1] for line in self.lines if (found := re.search(r"probes are on (http[^\s;]+)", line)))

    @property
    def grpc_port(self) -> int:
        """Where it serves gRPC, if the setting `grpc_port` was given."""
        return next(int(found[1]) for line in self.lines if (found := re.search(r"serving gRPC on .*:(\d+)", line)))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"serving on (https?(?:\+unix)?://[^\s,;]+)", line):
                self._found.put(found[1])
        self._found.put(None)

    def client(self) -> httpx.Client:
        """A client whose base is the server."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def wait(self) -> int:
        """Waits until it exits and returns the exit code."""
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=60)
        if self.process.stderr:
            self.process.stderr.close()
        return code

    def stop(self) -> int:
        """Stops it and returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.wait()
