"""What a client can do with connections alone: it is bounded, and those who behave do not notice."""

import contextlib
import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.pictures import encode
from tests.server import Server
from tests.tiny import solid, write_model
from tests.tiny_autoencoder import write_autoencoder

PATIENCE = 30  # seconds until a test that waits in vain fails
IMAGE = encode(solid("green"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    write_model(models)
    write_autoencoder(models)
    running = Server(models=models, max_connections=20, max_body_mb=2, max_memory_mb=4)
    yield running
    assert running.stop() == 0
    assert "Traceback" not in "".join(running.lines)


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def answer_to(server: Server, *parts: bytes) -> bytes:
    """All that comes back for what is sent, part by part, until the server closes the connection."""
    with connect(server) as connection:
        for part in parts:
            connection.sendall(part)
        return read(connection)


def read(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            answer += data
    return answer


def post(body: bytes, *headers: bytes, path: str = "/v1/predict", version: str = "1.1") -> bytes:
    lines = (f"POST {path} HTTP/{version}".encode(), b"Host: x", b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CLOSE = b"Connection: close"


def good(server: Server) -> None:
    with server.client() as client:
        assert client.post("/v1/predict", content=IMAGE).json()["results"][0]["labels"][0]["label"] == "green"


def test_a_head_that_comes_in_pieces_is_read(server: Server):
    request = post(IMAGE, CLOSE)
    assert answer_to(server, *(request[i : i + 7] for i in range(0, len(request), 7))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("header", [b"X: " + b"x" * 70_000, b"\r\n".join(b"X-%d: y" % i for i in range(7_000))])
def test_a_head_that_is_too_long_is_refused(server: Server, header: bytes):
    assert answer_to(server, post(IMAGE, header, CLOSE)).startswith(b"HTTP/1.1 431 ")
    good(server)


def test_a_head_without_an_end_costs_no_memory(server: Server):
    before = server.memory()
    with connect(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(200):
            connection.sendall(b"x" * 100_000)
    assert server.memory() - before < 5_000_000
    good(server)


def test_a_client_that_sends_first_and_reads_later_gets_its_refusal(server: Server):
    """What it sent meanwhile waits unread; a socket closed on it would take the answer away from the client."""
    request = post(b"x" * 5_000_000)
    for _ in range(5):
        with connect(server) as connection:
            connection.sendall(request[:1_000_000])
            time.sleep(0.05)
            # To the orderly end: a reset would raise.
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            assert answer.startswith(b"HTTP/1.1 413 ")
    good(server)


def test_a_second_head_after_an_early_refusal_is_bounded_too(server: Server):
    refused = post(IMAGE, path="/v1/predict?model=nope")
    with connect(server) as connection:
        connection.sendall(refused)
        assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                connection.sendall(b"x" * 100_000)
        ended = read(connection)  # returns because the server has closed the connection
    assert b"HTTP/1.1 200" not in ended
    good(server)


def test_an_offer_to_upgrade_is_ignored_and_the_body_kept(server: Server):
    upgrade = (b"Connection: Upgrade, HTTP2-Settings, close", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    answer = answer_to(server, post(IMAGE, *upgrade))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"green"' in answer


def test_a_client_that_closes_its_sending_side_gets_its_answer(server: Server):
    for _ in range(20):
        with connect(server) as connection:
            connection.sendall(post(IMAGE))
            connection.shutdown(socket.SHUT_WR)
            assert read(connection).startswith(b"HTTP/1.1 200 ")


def test_http_1_0_gets_a_stream_without_chunks(server: Server):
    answer = answer_to(server, post(b'{"count": 40, "format": "npz"}', path="/v1/generate", version="1.0"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert len(np.load(io.BytesIO(body))["images"]) == 40


def test_more_connections_than_there_may_be_push_out_those_that_say_nothing(server: Server):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(60)]
        time.sleep(0.2)
        good(server)
        closed = 0
        for connection in silent:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                closed += connection.recv(1) == b""
        assert closed >= 40


CHUNKED = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [b"1\r\na\r\n" * 20_000, b"1;" + b"x" * 100_000, b"0\r\n" + b"a:b\r\n" * 20_000, b"0\r\na: " + b"b" * 100_000],
    ids=["chunks of a byte", "a chunk extension", "trailers", "a trailer"],
)
def test_a_body_of_framing_alone_is_refused(server: Server, framing: bytes):
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(CHUNKED + framing)
        assert read(connection).startswith(b"HTTP/1.1 400 ")
    good(server)


def test_a_body_in_ordinary_chunks_is_read(server: Server):
    chunks = [b"%x\r\n" % len(IMAGE[i : i + 100]) + IMAGE[i : i + 100] + b"\r\n" for i in range(0, len(IMAGE), 100)]
    request = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"".join(chunks) + b"0\r\n\r\n"
    assert answer_to(server, request).startswith(b"HTTP/1.1 200 ")


def test_connections_that_are_all_busy_are_refused_more(server: Server):
    with contextlib.ExitStack() as stack:
        for _ in range(25):
            connection = stack.enter_context(connect(server))
            connection.sendall(post(IMAGE)[:-1])  # all but the last byte of a request
        time.sleep(0.2)
        with connect(server) as late:
            assert read(late).startswith(b"HTTP/1.1 503 ")
    time.sleep(0.2)
    good(server)


def test_bodies_that_together_are_too_large_leave_room_for_small_ones(server: Server):
    large = b"\xff\xd8\xff" + bytes(1_900_000)
    with contextlib.ExitStack() as stack:
        answers = []
        for _ in range(8):
            connection = stack.enter_context(connect(server))
            connection.settimeout(2)  # a refusal is held back for a while
            with contextlib.suppress(ConnectionError, TimeoutError):
                connection.sendall(post(large)[:-1000])
            with contextlib.suppress(ConnectionError, TimeoutError):
                answers.append(connection.recv(4096))
        assert any(answer.startswith(b"HTTP/1.1 429 ") for answer in answers)
        assert any(b"retry-after" in answer for answer in answers)
        good(server)
    end = time.monotonic() + PATIENCE
    while True:  # their memory is given back when they have gone
        with server.client() as client:
            if client.post("/v1/predict", content=large).status_code == 422:
                break
        assert time.monotonic() < end
        time.sleep(0.1)


def test_slow_clients_are_ended(tmp_path: Path):
    write_model(tmp_path)
    server = Server(models=tmp_path)
    with connect(server) as silent, connect(server) as head, connect(server) as body:
        head.sendall(b"POST /v1/predict HT")
        body.sendall(post(IMAGE)[:-5])
        began = time.monotonic()
        assert read(silent) == b""
        assert read(head).startswith(b"HTTP/1.1 408 ")
        assert read(body).startswith(b"HTTP/1.1 408 ")
        assert 8 < time.monotonic() - began < 20
    with server.client() as client:
        assert "quartet_event_loop_lag_seconds_count" in client.get("/metrics").text
    assert server.stop() == 0


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path):
    with pytest.raises(RuntimeError, match="QUARTET_MAX_MEMORY_MB=1: must hold at least one request's body"):
        Server(models=tmp_path, max_memory_mb=1)


def test_httpx_keeps_its_connection_over_many_requests(server: Server):
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for _ in range(20):
            assert client.post("/v1/predict", content=IMAGE).status_code == 200
