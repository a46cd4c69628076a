"""TLS by `service.http.tls` and by uvloop, beneath the same HTTP connections: their speed, and what they bound.

python -m benchmarks.tls [--seconds 3] [--rounds 3] [--json FILE]
"""

import asyncio
import contextlib
import multiprocessing
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import psutil
import uvicorn
import uvloop
from rich.table import Table
from uvicorn.server import ServerState

from benchmarks.results import Recorder, add_json_option
from service.certificate import Certificate
from service.http.connection import Connection
from service.http.pool import Pool
from service.http.tls import Tls

_KINDS = ("own", "uvloop")
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
_LARGE_BYTES = 60_000_000
_CLIENTS = 32
_SILENT = 200
# How long a connection may take to close.
_CLOSE_SECONDS = 5.0
_spawn = multiprocessing.get_context("spawn")


async def _app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    body = bytes(_LARGE_BYTES) if scope["path"] == "/large" else b"ok"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def _serve(kind: str, folder: Path, pipe: Pipe) -> None:
    uvloop.run(_listen(kind, folder, pipe))


async def _listen(kind: str, folder: Path, pipe: Pipe) -> None:
    """Serves, and answers questions of the pipe about its connections."""
    loop = asyncio.get_running_loop()
    certificate = Certificate(folder / "cert.pem", folder / "key.pem")
    state, pool, config = ServerState(), Pool(10_000), uvicorn.Config(_app, log_config=None)

    def connection() -> Connection:
        return Connection(_app, pool, config=config, server_state=state, app_state={})

    if kind == "own":
        made: Any = lambda: Tls(certificate.context, connection(), pool, state)  # noqa: E731
        server = await loop.create_server(made, "127.0.0.1", 0)
    else:
        server = await loop.create_server(
            connection, "127.0.0.1", 0, ssl=certificate.context, ssl_handshake_timeout=10.0
        )
    pipe.send(server.sockets[0].getsockname()[1])
    while (question := await asyncio.to_thread(pipe.recv)) != "end":
        if question == "counted":
            pipe.send(len(pool.members))
        elif question == "paused":
            pipe.send(sum(isinstance(each, Connection) and not each.writable.is_set() for each in pool.members))
        elif question == "close":
            started = time.perf_counter()
            for each in list(pool.members):
                each.close()
            while pool.members and time.perf_counter() - started < _CLOSE_SECONDS:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            pipe.send(time.perf_counter() - started)


class _Server:
    """A server in a process of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(kind, folder, theirs), daemon=True)
        self._process.start()
        self.port: int = self._pipe.recv()
        self.context = ssl.create_default_context(cafile=folder / "cert.pem")

    def ask(self, question: str) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()

    def memory_mb(self) -> float:
        assert self._process.pid
        return float(psutil.Process(self._process.pid).memory_info().rss) / 1e6

    def connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(("localhost", self.port), 10)
        return self.context.wrap_socket(raw, server_hostname="localhost")

    def end(self) -> None:
        self._pipe.send("end")
        self._process.join(10)


async def _rate(server: _Server, seconds: float, *, keep: bool) -> float:
    """Requests per second over connections that are kept, or each over one of its own."""
    end = time.perf_counter() + seconds
    done = 0

    async def ask() -> None:
        nonlocal done
        while time.perf_counter() < end:
            reader, writer = await asyncio.open_connection("localhost", server.port, ssl=server.context)
            while time.perf_counter() < end:
                writer.write(_REQUEST)
                await reader.readuntil(b"\r\n\r\nok")
                done += 1
                if not keep:
                    break
            writer.transport.abort()

    await asyncio.gather(*(ask() for _ in range(_CLIENTS)))
    return done / seconds


def _answers_after_close_notify(server: _Server) -> bool:
    """Whether a client gets its answer that has said in TLS that it sends no more."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = server.context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    answer = b""
    with socket.create_connection(("localhost", server.port), 10) as raw:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(1 << 16))
        tls.write(_LARGE)
        with contextlib.suppress(ssl.SSLError):
            tls.unwrap()
        raw.sendall(outgoing.read())
        with contextlib.suppress(ssl.SSLError, OSError):
            while len(answer) < 1000 and (data := raw.recv(1 << 16)):
                incoming.write(data)
                with contextlib.suppress(ssl.SSLWantReadError):
                    answer += tls.read(1 << 16)
    return answer.startswith(b"HTTP/1.1 200 ")


def _behaviour(server: _Server) -> Iterator[tuple[str, str]]:
    silent = [socket.create_connection(("localhost", server.port)) for _ in range(_SILENT)]
    time.sleep(0.5)
    yield f"{_SILENT} clients that send nothing: counted", str(server.ask("counted"))
    for each in silent:
        each.close()
    time.sleep(0.5)
    before = server.memory_mb()
    idle = [server.connect() for _ in range(_SILENT)]
    for each in idle:
        each.sendall(_REQUEST)
        each.recv(1000)
    yield "an idle connection, kB", f"{(server.memory_mb() - before) * 1000 / _SILENT:.0f}"
    yield "idle connections that the server closes are gone after, s", f"{server.ask('close'):.1f}"
    for each in idle:
        each.close()
    time.sleep(0.5)
    yield "a client that has sent close_notify gets its answer", "yes" if _answers_after_close_notify(server) else "no"
    with server.connect() as stopped:
        stopped.sendall(_LARGE)
        time.sleep(2)
        paused = server.ask("paused")
        yield f"a client that stops reading {_LARGE_BYTES // 1_000_000} MB is known to", "yes" if paused else "no"


def _write_certificate(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )


def main() -> None:
    """Prints a table with a column for each."""
    parser = ArgumentParser(prog="python -m benchmarks.tls", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser)
    options = parser.parse_args()
    console = Recorder()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_certificate(folder)
        servers = {kind: _Server(kind, folder) for kind in _KINDS}
        rows: dict[str, dict[str, str]] = {}
        for name, keep in (("requests/s over kept connections", True), ("requests/s, each with a handshake", False)):
            rates: dict[str, list[float]] = {kind: [] for kind in _KINDS}
            for number in range(options.rounds):
                for kind in _KINDS if number % 2 else reversed(_KINDS):  # each one is first as often as last
                    rates[kind].append(uvloop.run(_rate(servers[kind], options.seconds, keep=keep)))
            rows[name] = {kind: f"{statistics.median(rates[kind]):,.0f}" for kind in _KINDS}
        for kind, server in servers.items():
            for name, value in _behaviour(server):
                rows.setdefault(name, {})[kind] = value
            server.end()
    table = Table("", "service.http.tls", "uvloop's TLS", title=f"TLS beneath the same HTTP, {_CLIENTS} clients")
    for name, values in rows.items():
        table.add_row(name, *(values[kind] for kind in _KINDS))
    console.print(table)
    console.write(options.json, "benchmarks.tls")


if __name__ == "__main__":
    main()
