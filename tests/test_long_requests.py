"""Requests that last longer than QUARTET_TIMEOUT: they survive a reload, a SIGTERM and a slow reader."""

import io
import re
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from tests.pictures import encode
from tests.server import ROOT, Server
from tests.tiny import solid, write_model

PATIENCE = 60  # seconds until a waiting test fails
TIMEOUT = 1  # of the server; longer requests make progress all the time
COLOURS = ["red", "green", "blue"]


class Sender(threading.Thread):
    """Sends many images in one request."""

    def __init__(self, server: Server, count: int) -> None:
        super().__init__()
        self.server = server
        self.colours = (COLOURS * count)[:count]
        self.answer: httpx.Response | None = None
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        files = [("files", (colour, encode(solid(colour)))) for colour in self.colours]
        began = time.monotonic()
        with self.server.client() as client:
            self.answer = client.post("/v1/predict?top_k=1", files=files)
        self.seconds = time.monotonic() - began

    def check(self) -> str:
        """The version that answered; checks that the answer is right and took longer than the server's timeout."""
        self.join(PATIENCE)
        assert self.answer is not None
        assert self.answer.status_code == 200, self.answer.text
        document = self.answer.json()
        assert [result["labels"][0]["label"] for result in document["results"]] == self.colours
        assert self.seconds > 1.5 * TIMEOUT
        return str(document["version"])


def wait_until(condition, server: Server) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "".join(server.lines)
        time.sleep(0.01)


def keep_no_old_version(model: Path) -> None:
    """Without a policy, the version before the newest one stays loaded for a rollback."""
    (model / "serving.toml").write_text("load = 1")


def running(server: Server) -> bool:
    with server.client() as client:
        text = client.get("/metrics").text
    found = re.search(r'quartet_batch_size_count\{[^}]*model="(classifier|decoder)"[^}]*\} ([1-9])', text)
    return found is not None


def test_a_request_that_lasts_survives_a_reload_and_the_old_version_goes_with_its_answer(tmp_path: Path):
    write_model(tmp_path, slow=150, max_batch=1)
    keep_no_old_version(tmp_path / "classifier")
    server = Server(models=tmp_path, timeout=TIMEOUT)
    sender = Sender(server, 100)
    wait_until(lambda: running(server), server)
    write_model(tmp_path, version="2")
    server.process.send_signal(signal.SIGUSR1)
    with server.client() as client:
        # The new version answers while the old one is still working.
        wait_until(lambda: client.get("/v1/models/classifier").json()["version"] == "2", server)
        assert sender.is_alive()
        assert not any("closed classifier/1" in line for line in server.lines)
        assert sender.check() == "1"
        answered = time.monotonic()
        wait_until(lambda: any("closed classifier/1" in line for line in server.lines), server)
        assert time.monotonic() - answered < 1.5  # a second, plus a margin for a busy machine
        quick = client.post("/v1/predict", content=encode(solid("green")))
        assert quick.json()["version"] == "2"
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.lines)


def test_a_request_that_lasts_survives_a_sigterm(tmp_path: Path):
    write_model(tmp_path, slow=150, max_batch=1)
    server = Server(models=tmp_path, timeout=TIMEOUT)
    sender = Sender(server, 100)
    wait_until(lambda: running(server), server)
    server.process.send_signal(signal.SIGTERM)
    assert sender.check() == "1"
    assert server.wait() == 0
    assert "Traceback" not in "".join(server.lines)


def generate(server: Server, count: int) -> socket.socket:
    """A connection with a request for many images; none of the answer has been read yet."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    body = f'{{"count": {count}, "seed": 1, "format": "npz"}}'
    head = f"POST /v1/generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall((head + body).encode())
    return connection


def read_to_the_end(connection: socket.socket) -> bytes:
    answer = b""
    while data := connection.recv(1 << 16):
        answer += data
    return answer


def check_images(answer: bytes, count: int) -> None:
    """The answer, in chunks (RFC 9112, 7.1), is complete and holds `count` images."""
    _, _, chunks = answer.partition(b"\r\n\r\n")
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        body, chunks = body + chunks[: int(size, 16)], chunks[int(size, 16) + 2 :]
    assert size == b"0"
    assert np.load(io.BytesIO(body))["images"].shape == (count, 28, 28, 1)


def write_decoder(models: Path, version: str) -> None:
    """The committed decoder: its images are too many bytes for the buffers between server and client."""
    shutil.copytree(ROOT / "models" / "decoder" / "1", models / "decoder" / version)


def test_a_slow_reader_of_generated_images_survives_a_reload(tmp_path: Path):
    write_decoder(tmp_path, "1")
    keep_no_old_version(tmp_path / "decoder")
    server = Server(models=tmp_path, timeout=TIMEOUT)
    with generate(server, 10_000) as reader:
        wait_until(lambda: running(server), server)
        write_decoder(tmp_path, "2")
        server.process.send_signal(signal.SIGUSR1)
        with server.client() as client:
            wait_until(lambda: client.get("/v1/models/decoder").json()["version"] == "2", server)
        time.sleep(2 * TIMEOUT)  # reads nothing for longer than the server's timeout
        assert not any("closed decoder/1" in line for line in server.lines)
        check_images(read_to_the_end(reader), 10_000)
    wait_until(lambda: any("closed decoder/1" in line for line in server.lines), server)
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.lines)


def test_a_slow_reader_of_generated_images_survives_a_sigterm(tmp_path: Path):
    write_decoder(tmp_path, "1")
    server = Server(models=tmp_path, timeout=TIMEOUT)
    with generate(server, 10_000) as reader:
        wait_until(lambda: running(server), server)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(2 * TIMEOUT)
        check_images(read_to_the_end(reader), 10_000)
    assert server.wait() == 0


def test_many_signals_at_once_are_few_reloads(tmp_path: Path):
    write_model(tmp_path)
    server = Server(models=tmp_path, log_level="info")
    write_model(tmp_path, version="2")
    with server.client() as client:
        slowest = 0.0
        for _ in range(100):
            server.process.send_signal(signal.SIGUSR1)
            began = time.monotonic()
            assert client.get("/healthz/ready").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        wait_until(lambda: client.get("/v1/models/classifier").json()["version"] == "2", server)
    assert sum("loaded classifier/2" in line for line in server.lines) == 1
    assert slowest < 2
    assert server.stop() == 0
