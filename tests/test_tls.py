"""TLS of the real server: renewed certificates, clients that do not finish their handshakes, starts that fail."""

import contextlib
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from quartet import Client, UnreachableError
from service.api.grpc.messages import pb
from tests.certificates import fingerprint, needs_openssl, trusting, write_certificate
from tests.pictures import encode
from tests.server import ROOT, Server, environment
from tests.test_shutdown import fail_to_start
from tests.tiny import solid

pytestmark = needs_openssl
PATIENCE = 60  # seconds until a waiting test fails
IMAGE = encode(solid("green"))


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextlib.contextmanager
def serving(models: Path, folder: Path, **settings: object) -> Iterator[Server]:
    certificate, key = write_certificate(folder)
    server = Server(models=models, tls_cert=certificate, tls_key=key, **settings)
    try:
        yield server
    finally:
        assert server.stop() == 0, "".join(server.lines)
        assert "Traceback" not in "".join(server.lines)


def client_of(server: Server, folder: Path) -> httpx.Client:
    return httpx.Client(base_url=server.url, verify=trusting(folder / "cert.pem"), timeout=PATIENCE, trust_env=False)


def predicts(client: httpx.Client) -> bool:
    answer = client.post("/v1/predict", content=IMAGE)
    return bool(answer.json()["results"][0]["labels"][0]["label"] == "green")


def test_a_renewed_certificate_is_for_new_connections_of_all_processes(tiny_models: Path, tmp_path: Path):
    with serving(tiny_models, tmp_path, workers=2, threads=2) as server:
        assert server.url.startswith("https://127.0.0.1:")
        first = fingerprint("127.0.0.1", server.port)
        with client_of(server, tmp_path) as kept:
            assert predicts(kept)
            write_certificate(tmp_path, days=30)
            second = (tmp_path / "cert.pem").read_text()
            wait_for(lambda: {fingerprint("127.0.0.1", server.port) for _ in range(20)} == {second})
            assert first != second
            assert predicts(kept)
            line = next(
                line for line in kept.get("/metrics").text.splitlines() if line.startswith("quartet_tls_certificate")
            )
            assert abs(float(line.split()[1]) - time.time() - 30 * 86400) < 600
        with client_of(server, tmp_path) as newer:
            assert predicts(newer)
        (tmp_path / "key.pem").write_bytes(write_certificate(tmp_path / "other")[1].read_bytes())
        wait_for(lambda: sum("is not the private key of" in line for line in server.lines) == 2)  # one per process
        with client_of(server, tmp_path) as still:
            assert predicts(still)


def test_grpc_has_the_same_certificate(tiny_models: Path, tmp_path: Path):
    with serving(tiny_models, tmp_path, grpc_port=0) as server:

        def ready() -> bool:
            credentials = grpc.ssl_channel_credentials((tmp_path / "cert.pem").read_bytes())
            with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
                call = channel.unary_unary(
                    "/inference.GRPCInferenceService/ServerReady",
                    request_serializer=pb.Empty.SerializeToString,
                    response_deserializer=pb.Ready.FromString,
                )
                try:
                    return bool(call(pb.Empty(), timeout=10).ready)
                except grpc.RpcError:
                    return False

        assert ready()
        write_certificate(tmp_path)
        wait_for(ready)


def test_clients_that_do_not_finish_their_handshakes_keep_nobody_out(tiny_models: Path, tmp_path: Path):
    with serving(tiny_models, tmp_path, max_connections=600) as server:
        context = trusting(tmp_path / "cert.pem")
        incoming, hello = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(incoming, hello, server_hostname="localhost").do_handshake()
        drip = hello.read()
        ended = threading.Event()
        seconds: list[float] = []

        def behave() -> None:
            while not ended.is_set():
                started = time.monotonic()
                with client_of(server, tmp_path) as client:
                    assert predicts(client)
                seconds.append(time.monotonic() - started)

        behaved = threading.Thread(target=behave)
        with contextlib.ExitStack() as stack:
            behaved.start()
            attackers = []
            for index in range(900):  # 300 of them take the place of others
                attacker = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
                if index % 2:
                    attackers.append(attacker)
            for position in range(10):  # a byte in a while
                for attacker in attackers:
                    with contextlib.suppress(OSError):
                        attacker.sendall(drip[position : position + 1])
                time.sleep(0.2)
            ended.set()
            behaved.join(PATIENCE)
        assert len(seconds) > 3
        assert statistics.median(seconds) < 1


def test_a_handshake_has_ten_seconds(tiny_models: Path, tmp_path: Path):
    with serving(tiny_models, tmp_path) as server, socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.settimeout(PATIENCE)
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""
        assert 8 < time.monotonic() - began < 20


def test_idle_clients_do_not_delay_the_end(tiny_models: Path, tmp_path: Path):
    with serving(tiny_models, tmp_path) as server, client_of(server, tmp_path) as idle:
        assert predicts(idle)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - began < 10


def test_the_client_and_the_command_line(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving(tiny_models, tmp_path) as server:
        with Client(server.url) as client, pytest.raises(UnreachableError, match=r"is not trusted .*SSL_CERT_FILE"):
            client.models()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        with Client(server.url) as client:
            assert client.predict(IMAGE).labels[0].label == "green"
        done = subprocess.run(
            [sys.executable, "-m", "service", "models", "--server", server.url],
            cwd=ROOT, env=environment() | {"SSL_CERT_FILE": str(tmp_path / "cert.pem")},
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert "classifier" in done.stdout, done.stderr


def test_why_it_does_not_start(tiny_models: Path, tmp_path: Path):
    certificate, key = write_certificate(tmp_path)
    _, other = write_certificate(tmp_path / "other")
    for settings, why in (
        ({"tls_cert": certificate}, "QUARTET_TLS_CERT needs QUARTET_TLS_KEY"),
        ({"tls_cert": tmp_path / "none.pem", "tls_key": key}, "none.pem: No such file or directory"),
        ({"tls_cert": certificate, "tls_key": other}, "is not the private key of"),
    ):
        for workers in (1, 2):
            code, line = fail_to_start(models=tiny_models, workers=workers, **settings)
            assert code == 2
            assert why in line
    if os.getuid():
        key.chmod(0)
        assert "Permission denied" in fail_to_start(models=tiny_models, tls_cert=certificate, tls_key=key)[1]


def test_a_key_that_all_can_read_is_warned_of_once(tiny_models: Path, tmp_path: Path):
    certificate, key = write_certificate(tmp_path)
    key.chmod(0o644)
    server = Server(models=tiny_models, tls_cert=certificate, tls_key=key, workers=2)
    assert server.stop() == 0
    assert sum("every user of this machine can read the private key" in line for line in server.lines) == 1
