"""Two processes of the service behind HAProxy, and the script that replaces them, on free ports of this machine."""

import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.servers import free_port

HAPROXY = Path(__file__).parent.parent / "deploy" / "haproxy"
# In haproxy.cfg: of clients, the status and the processes.
_CLIENTS, _STATUS, _PROCESSES = 8000, 8404, (8001, 8002)
_END_SECONDS, _READY_SECONDS = 60, 120


class Fleet:
    """Two processes behind HAProxy: `with Fleet(models, folder) as fleet: …`.

    Args:
        models: that they serve.
        folder: for the configuration.
        settings: of the processes, by name.

    Attributes:
        url: HAProxy's.
        replaced: processes so far.
    """

    def __init__(self, models: Path, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {"models": str(models.absolute()), "device": "cpu", "open": "1", **(settings or {})}
        self._folder = folder
        self._ports = {port: free_port() for port in (_CLIENTS, _STATUS, *_PROCESSES)}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._closing = ExitStack()
        self.url = f"http://127.0.0.1:{self._ports[_CLIENTS]}"
        self.replaced = 0

    def __enter__(self) -> Self:
        with ExitStack() as closing:
            closing.callback(self._stop)
            for port in _PROCESSES:
                self._start(self._ports[port])
            proxy = subprocess.Popen(["haproxy", "-q", "-f", str(self._configuration())])
            closing.callback(proxy.wait, _END_SECONDS)
            closing.callback(proxy.terminate)
            self._manager = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
            closing.callback(self._manager.server_close)
            closing.callback(self._manager.shutdown)
            threading.Thread(target=self._manager.serve_forever, daemon=True).start()
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def wait_until_up(self) -> None:
        """Waits until HAProxy has a process that answers.

        Raises:
            TimeoutError: it has none in time.
        """
        end = time.monotonic() + _READY_SECONDS
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz/ready", timeout=5):
                return
            if time.monotonic() > end:
                raise TimeoutError(f"no process is ready after {_READY_SECONDS} s")
            time.sleep(0.1)

    def roll_out(self) -> None:
        """Runs rollout.sh, for which this process is what systemd is elsewhere.

        Raises:
            CalledProcessError: it failed.
        """
        restart = f'curl -fsS -X POST "http://127.0.0.1:{self._manager.server_port}/$PORT"'
        subprocess.run(
            [HAPROXY / "rollout.sh", *(str(self._ports[port]) for port in _PROCESSES)],
            env={
                **os.environ,
                "RESTART": restart,
                "STATUS": f"http://127.0.0.1:{self._ports[_STATUS]}/status",
                "SECONDS_TO_READY": str(_READY_SECONDS),
            },
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def restart(self, port: int) -> int:
        """Ends a process with SIGTERM and starts another one; returns the exit code of the old one."""
        process = self._processes.pop(port)
        process.terminate()
        code = process.wait(_END_SECONDS)
        self._start(port)
        self.replaced += 1
        return code

    def _start(self, port: int) -> None:
        settings = {**self._settings, "port": str(port)}
        environment = {f"QUARTET_{name.upper()}": value for name, value in settings.items()}
        self._processes[port] = subprocess.Popen(
            [sys.executable, "-m", "service"], env={**os.environ, **environment}, stderr=subprocess.DEVNULL
        )

    def _configuration(self) -> Path:
        text = (HAPROXY / "haproxy.cfg").read_text()
        for port, free in self._ports.items():
            text = text.replace(f":{port}", f":{free}").replace(f"server {port}", f"server {free}")
        path = self._folder / "haproxy.cfg"
        path.write_text(text.replace(f"bind :{self._ports[_CLIENTS]}", f"bind 127.0.0.1:{self._ports[_CLIENTS]}"))
        return path

    def _stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _handler(fleet: Fleet) -> type[BaseHTTPRequestHandler]:
    """Restarts the process whose port is the path of a POST."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            code = fleet.restart(int(self.path.strip("/")))
            self.send_response(200 if code == 0 else 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
