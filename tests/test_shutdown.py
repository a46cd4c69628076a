"""Startup and shutdown: exit codes, one-line errors, and requests that are finished."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from service.inference.cuda import cuda_problem
from tests.compatibility.record import MODELS
from tests.pictures import encode
from tests.server import ROOT, Server, environment
from tests.tiny import solid, write_model, wrong_golden

PATIENCE = 60  # seconds until a waiting test fails


def fail_to_start(**settings: object) -> tuple[int, str]:
    """The exit code and the last line of output of a server that cannot start."""
    settings = {"host": "127.0.0.1", "port": 0, "device": "cpu", "threads": 1, **settings}
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert done.stderr.splitlines()[-1] == lines[0]
    return done.returncode, lines[0]


def test_a_busy_port(tiny_models: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = fail_to_start(models=tiny_models, port=port)
    assert code == 1
    assert f"127.0.0.1:{port}" in line
    assert "QUARTET_PORT" in line


def test_an_address_that_is_not_this_machines(tiny_models: Path):
    code, line = fail_to_start(models=tiny_models, host="192.0.2.1")
    assert code == 1
    assert "QUARTET_HOST" in line


def test_a_missing_models_folder(tmp_path: Path):
    code, line = fail_to_start(models=tmp_path / "nowhere")
    assert code == 1
    assert str(tmp_path / "nowhere") in line
    assert "QUARTET_MODELS" in line


def test_nothing_to_serve(tmp_path: Path):
    code, line = fail_to_start(models=tmp_path)
    assert code == 1
    assert str(tmp_path) in line
    write_model(tmp_path, change=wrong_golden)
    code, line = fail_to_start(models=tmp_path)
    assert code == 1
    assert "classifier/1" in line
    assert "differs" in line


def test_an_unknown_setting_suggests_the_right_one(tiny_models: Path):
    code, line = fail_to_start(models=tiny_models, max_bach=8)
    assert code == 2
    assert "QUARTET_MAX_BACH" in line
    assert "QUARTET_MAX_BATCH?" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", "eighty"), ("port", 70_000), ("device", "gpu"), ("max_batch", 0), ("timeout", "nan"), ("threads", "")],
)
def test_a_bad_value(tiny_models: Path, name: str, value: object):
    code, line = fail_to_start(**{"models": tiny_models, name: value})
    assert code == 2
    assert f"QUARTET_{name.upper()}={value}:" in line


@pytest.mark.skipif(cuda_problem() is None, reason="CUDA works here")
def test_cuda_without_a_gpu(tiny_models: Path):
    code, line = fail_to_start(models=tiny_models, device="cuda")
    assert code == 1
    assert line == f"error: {cuda_problem()}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server(tiny_models: Path, number: signal.Signals):
    server = Server(models=tiny_models)
    server.process.send_signal(number)
    assert server.wait() == 0
    assert "Traceback" not in "".join(server.lines)


def wait_until_closed(port: int) -> None:
    """Waits until the port refuses connections: the server has begun to shut down."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return
        assert time.monotonic() < end
        time.sleep(0.01)


def test_sigterm_finishes_a_request_that_is_still_being_sent(tiny_models: Path):
    server = Server(models=tiny_models)
    body = encode(solid("blue"))
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body[:20])
        server.process.send_signal(signal.SIGTERM)
        wait_until_closed(server.port)
        connection.sendall(body[20:])
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"blue"' in answer
    assert server.wait() == 0
    assert "Traceback" not in "".join(server.lines)


def wait_until_a_batch_has_run(server: Server) -> None:
    end = time.monotonic() + PATIENCE
    with server.client() as client:
        while not re.search(r"^quartet_batch_size_count\{.*\} [1-9]", client.get("/metrics").text, re.MULTILINE):
            assert time.monotonic() < end
            time.sleep(0.01)


def test_sigterm_finishes_a_request_whose_images_wait_and_run(tmp_path: Path):
    write_model(tmp_path, slow=150, max_batch=1)
    server = Server(models=tmp_path)
    colours = ["red", "green", "blue"] * 5
    answers: list[httpx.Response] = []

    def send() -> None:
        with server.client() as client:
            files = [("files", (colour, encode(solid(colour)))) for colour in colours]
            answers.append(client.post("/v1/predict", files=files))

    sender = threading.Thread(target=send)
    sender.start()
    wait_until_a_batch_has_run(server)
    assert not answers
    server.process.send_signal(signal.SIGTERM)
    sender.join(PATIENCE)
    assert server.wait() == 0
    (answer,) = answers
    assert answer.status_code == 200
    assert [result["labels"][0]["label"] for result in answer.json()["results"]] == colours
    assert [result["name"] for result in answer.json()["results"]] == colours
    assert "Traceback" not in "".join(server.lines)


def test_sigterm_loses_no_request_and_no_stream(tmp_path: Path):
    """At the default drain time: every request has its answer, or could not connect, so that it can be sent again."""
    for name in ("classifier", "decoder"):
        (tmp_path / name).symlink_to(MODELS / name)
    server = Server(models=tmp_path)
    picture = encode(solid("red"))
    refused: list[Exception] = []
    broken: list[Exception] = []
    answered = 0

    def send(keep: bool, pause: float) -> None:
        nonlocal answered
        with httpx.Client(
            base_url=server.url, limits=httpx.Limits(max_keepalive_connections=int(keep)), timeout=PATIENCE,
            trust_env=False,
        ) as client:  # fmt: skip
            while True:
                try:
                    client.post("/v1/predict", content=picture).raise_for_status()
                    answered += 1
                except httpx.ConnectError as error:
                    refused.append(error)
                    return
                except httpx.HTTPError as error:
                    broken.append(error)
                    return
                time.sleep(pause)

    clients = [threading.Thread(target=send, args=(number % 3 > 0, 0.001 * number)) for number in range(12)]
    stream = "/v1/generate?count=10000&seed=1&format=npz"
    with server.client() as client:
        whole = client.post(stream).content
        for each in clients:
            each.start()
        with client.stream("POST", stream) as response:
            parts = response.iter_raw(1 << 16)
            begun = next(parts)
            while answered < 50 and not broken:
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            wait_until_closed(server.port)
            assert b"".join([begun, *parts]) == whole
    for each in clients:
        each.join(PATIENCE)
    assert server.wait() == 0
    assert not broken
    assert len(refused) == len(clients)
    assert "Traceback" not in "".join(server.lines)


def test_sigterm_ends_a_server_whose_clients_keep_unused_connections(tiny_models: Path):
    server = Server(models=tiny_models)
    with server.client() as kept, socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as unused:
        kept.get("/healthz/live")
        server.process.send_signal(signal.SIGTERM)
        assert unused.recv(1) == b""
        assert server.wait() == 0


def test_a_request_that_outlasts_the_shutdown_timeout_is_answered_503(tmp_path: Path):
    write_model(tmp_path, slow=150, max_batch=1)
    server = Server(models=tmp_path, shutdown_timeout=1)
    answers: list[httpx.Response] = []

    def send() -> None:
        with server.client() as client:
            answers.append(client.post("/v1/predict", files=[("files", encode(solid("red")))] * 1000))

    sender = threading.Thread(target=send)
    sender.start()
    wait_until_a_batch_has_run(server)
    server.process.send_signal(signal.SIGTERM)
    sender.join(PATIENCE)
    assert server.wait() == 0
    (answer,) = answers
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not-ready"
    assert "Traceback" not in "".join(server.lines)
