"""The health check of the images asks the server where its settings have it listen."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import healthcheck
from tests.certificates import needs_openssl, write_certificate
from tests.server import Server, environment
from tests.tiny import write_model


def run(**settings: object) -> subprocess.CompletedProcess[str]:
    """Runs it as the Dockerfile does, without the packages of the environment."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(healthcheck.__file__)],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=10,
    )


class Answering:
    """A socket that gives every connection the same answer.

    Args:
        listener: bound.
        answer: bytes; None for a server that hangs.
    """

    def __init__(self, listener: socket.socket, answer: bytes | None) -> None:
        self.listener = listener
        self.answer = answer
        self.asked: list[bytes] = []
        listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        kept = []
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.asked.append(connection.recv(4096))
            if self.answer is None:
                kept.append(connection)
                continue
            connection.sendall(self.answer)
            connection.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


def test_a_ready_server(server: Server):
    for host in ("127.0.0.1", "0.0.0.0", ""):
        done = run(host=host, port=server.port)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_port_at_which_nobody_listens(listener: socket.socket):
    port = listener.getsockname()[1]
    listener.close()
    done = run(port=port)
    assert done.returncode == 1
    assert done.stdout.startswith("no answer: ")


def test_a_server_that_is_not_ready_is_quoted(listener: socket.socket):
    answering = Answering(listener, b"HTTP/1.1 503 Service Unavailable\r\n\r\nThe server is shutting down.")
    done = run(port=listener.getsockname()[1])
    assert done.returncode == 1
    assert done.stdout.startswith("HTTP/1.1 503 Service Unavailable")
    assert "The server is shutting down." in done.stdout
    (request,) = answering.asked
    assert request.startswith(f"GET {healthcheck.PATH} HTTP/1.1\r\n".encode())


def test_a_server_that_hangs(listener: socket.socket, monkeypatch: pytest.MonkeyPatch):
    Answering(listener, None)
    monkeypatch.setattr(healthcheck, "_SECONDS", 0.1)
    with pytest.raises(TimeoutError), healthcheck.connect({"QUARTET_PORT": str(listener.getsockname()[1])}) as asked:
        healthcheck.ask(asked)


def test_probes_have_a_port_of_their_own(listener: socket.socket):
    answering = Answering(listener, b"HTTP/1.1 200 OK\r\n\r\n")
    port = listener.getsockname()[1]
    assert run(port=1, metrics_port=port, uds="/nowhere", tls_cert="cert.pem").returncode == 0
    assert len(answering.asked) == 1


@needs_openssl
def test_tls(tmp_path: Path):
    write_model(tmp_path / "models")
    certificate, key = write_certificate(tmp_path)
    server = Server(models=tmp_path / "models", tls_cert=certificate, tls_key=key)
    try:
        done = run(port=server.port, tls_cert=certificate)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert run(port=server.port).returncode == 1
    finally:
        server.stop()


def test_a_unix_socket(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        Answering(bound, b"HTTP/1.1 200 OK\r\n\r\n")
        assert run(port=1, uds=tmp_path / "socket").returncode == 0
        bound.shutdown(socket.SHUT_RDWR)
