"""The real server behind proxies, on a port for metrics and probes, and on a Unix socket."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi import Request
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from quartet import Client, UnreachableError
from service.app import create_app
from service.settings import Settings
from tests.keyed import bearer, write_keys
from tests.pictures import encode
from tests.server import Server
from tests.test_shutdown import fail_to_start
from tests.test_workers import wait_for
from tests.tiny import solid, write_model

PATIENCE = 60  # seconds until a waiting test fails
IMAGE = encode(solid("green"))


def get(url: str, path: str, **options: object) -> httpx.Response:
    return httpx.get(f"{url}{path}", timeout=PATIENCE, trust_env=False, **options)  # type: ignore[arg-type]


# A port for metrics and probes.


def test_metrics_and_probes_have_a_port_of_their_own(tiny_models: Path, tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", prometheus={"scopes": ["metrics"]})
    server = Server(models=tiny_models, metrics_port=0, keys=keys)
    inside = server.metrics_url
    assert "quartet_model_ready" in get(inside, "/metrics").text
    for url in (inside, server.url):
        for probe in ("live", "ready"):
            assert get(url, f"/healthz/{probe}").status_code == 200
    for path in ("/metrics", "/metrics/", "/metrics%0A"):
        assert get(server.url, path, headers=bearer("prometheus")).status_code == 404
    assert "/metrics" not in get(server.url, "/openapi.json", headers=bearer("prometheus")).json()["paths"]
    for path in ("/", "/v1/models", "/metrics%0A", "/v2/health/ready", "/problems", "/docs", "//metrics"):
        assert get(inside, path).status_code == 404
    answer = httpx.post(f"{inside}/v1/predict", content=IMAGE, trust_env=False)
    assert answer.status_code == 404
    assert "This port has /metrics, /healthz/live, /healthz/ready and nothing else." in answer.json()["detail"]
    assert server.stop() == 0


def test_probes_are_answered_while_all_connections_are_in_use_and_the_queue_is_full(tmp_path: Path):
    write_model(tmp_path, slow=200, max_batch=1)
    server = Server(models=tmp_path, metrics_port=0, max_connections=16, max_batch=1, max_queue=4, max_wait=1)
    ended = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        with server.client() as client:
            while not ended.is_set():
                with contextlib.suppress(httpx.TransportError):
                    statuses.append(client.post("/v1/predict", content=IMAGE).status_code)

    clients = [threading.Thread(target=ask) for _ in range(24)]
    for client in clients:
        client.start()
    try:
        wait_for(lambda: {200, 429, 503} <= set(statuses))
        seconds = []
        for _ in range(30):
            started = time.monotonic()
            assert get(server.metrics_url, "/healthz/ready").status_code == 200
            seconds.append(time.monotonic() - started)
            time.sleep(0.05)
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert max(seconds) < 1
    assert server.stop() == 0


def test_several_processes_share_the_port_for_metrics(tiny_models: Path):
    server = Server(models=tiny_models, metrics_port=0, workers=2, threads=2)
    for _ in range(10):
        assert httpx.post(f"{server.url}/v1/predict", content=IMAGE, trust_env=False).status_code == 200
    counted = 'quartet_requests_total{method="POST",route="/v1/predict",status="200"} 10.0'
    wait_for(lambda: all(counted in get(server.metrics_url, "/metrics").text for _ in range(6)))
    assert get(server.metrics_url, "/healthz/ready").status_code == 200
    assert server.stop() == 0


# Proxies.


def forwarding(*proxies: str) -> httpx.ASGITransport:
    """The transport of a proxy at 10.0.0.1, whose answers are the client and the scheme that the server sees."""
    app = create_app(Settings(open=True))

    @app.get("/v1/seen")
    async def seen(request: Request) -> list[object]:
        return [request.scope["client"][0], request.scope["scheme"]]

    return httpx.ASGITransport(ProxyHeadersMiddleware(app, list(proxies)), client=("10.0.0.1", 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("proxies", "headers", "seen"),
    [
        (["192.0.2.1"], {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}, ["10.0.0.1", "http"]),
        (["10.0.0.0/8"], {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}, ["198.51.100.7", "https"]),
        (["10.0.0.1"], {"X-Forwarded-For": "127.0.0.1, 198.51.100.7"}, ["198.51.100.7", "http"]),
        (["10.0.0.0/8"], {"X-Forwarded-For": "127.0.0.1, 198.51.100.7, 10.2.3.4"}, ["198.51.100.7", "http"]),
        (["10.0.0.1"], {"X-Forwarded-For": "2001:db8::7"}, ["2001:db8::7", "http"]),
        (["10.0.0.1"], {"X-Forwarded-Proto": "javascript"}, ["10.0.0.1", "http"]),
        (["10.0.0.1"], {}, ["10.0.0.1", "http"]),
    ],
)
async def test_what_trusted_proxies_say(proxies: list[str], headers: dict[str, str], seen: list[str]):
    async with httpx.AsyncClient(transport=forwarding(*proxies), base_url="http://localhost") as client:
        assert (await client.get("/v1/seen", headers=headers)).json() == seen


def test_the_address_that_a_proxy_forwards_takes_turns_but_does_not_administer(tmp_path: Path):
    """Over a socket; the proxies are those of the settings."""
    write_model(tmp_path)
    server = Server(models=tmp_path, trusted_proxies="127.0.0.0/8")
    with server.client() as client:
        for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-For": "::1, 127.0.0.1"}):
            answer = client.post("/v1/models/classifier/pin", json={}, headers=headers)
            assert answer.status_code == 403
            assert "this came through a proxy" in answer.json()["detail"]
        assert client.post("/v1/predict", content=IMAGE, headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 200
    assert server.stop() == 0


def test_a_proxy_that_is_none_is_refused(tiny_models: Path):
    code, line = fail_to_start(models=tiny_models, trusted_proxies="10.0.0.1, proxy.example")
    assert code == 2
    assert line.startswith("error: QUARTET_TRUSTED_PROXIES=proxy.example: 'proxy.example' does not appear to be")


# Unix sockets.


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unix_socket(tiny_models: Path, tmp_path: Path, workers: int):
    path = tmp_path / "q.sock"
    server = Server(models=tiny_models, uds=path, workers=workers, threads=2, metrics_port=0)
    assert server.url == f"http+unix://{path}"
    with Client(server.url) as client:
        assert client.predict(IMAGE).labels[0].label == "green"
        assert len(client.predict([IMAGE] * 3)) == 3
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE) as client:
        assert client.get("/healthz/ready").status_code == 200
        answer = client.post("/v1/models/classifier/pin", json={})
        assert answer.status_code == 403
        assert "over a Unix socket" in answer.json()["detail"]
        assert client.post("/v1/predict", content=IMAGE).status_code == 200  # the connection is kept
    assert get(server.metrics_url, "/healthz/ready").status_code == 200
    code, line = fail_to_start(models=tiny_models, uds=path, workers=workers)
    assert code == 1
    assert f"another server listens on {path}" in line
    assert server.stop() == 0
    assert not path.exists()
    assert "Traceback" not in "".join(server.lines)


def test_processes_share_a_unix_socket_and_one_that_dies_is_replaced(tiny_models: Path, tmp_path: Path):
    path = tmp_path / "q.sock"
    server = Server(models=tiny_models, uds=path, workers=2, threads=2)

    def answering() -> set[str]:
        """The processes that answer many connections at once."""

        async def ask() -> str:
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=PATIENCE) as client:
                answer = await client.post("/v1/predict", content=IMAGE)
                assert answer.status_code == 200
                return answer.headers["x-request-id"].partition("-")[0]

        async def ask_all() -> list[str]:
            return await asyncio.gather(*(ask() for _ in range(40)))

        return set(asyncio.run(ask_all()))

    wait_for(lambda: len(answering()) == 2)
    psutil.Process(server.process.pid).children()[0].kill()
    wait_for(lambda: any("is started again" in line for line in server.lines))
    wait_for(lambda: len(answering()) == 2)
    assert server.stop() == 0
    assert not path.exists()


def test_the_socket_of_a_killed_server_is_replaced(tiny_models: Path, tmp_path: Path):
    path = tmp_path / "q.sock"
    killed = Server(models=tiny_models, uds=path)
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.wait()
    assert path.is_socket()
    server = Server(models=tiny_models, uds=path)
    with Client(server.url) as client:
        assert client.models()
    assert server.stop() == 0


def test_a_client_says_which_socket_is_not_there(tmp_path: Path):
    with (
        Client(f"http+unix://{tmp_path}/none.sock", retry_for=0) as client,
        pytest.raises(UnreachableError, match=r"http\+unix://.*none\.sock cannot be reached"),
    ):
        client.models()


def test_a_path_with_spaces_may_be_quoted(tiny_models: Path, tmp_path: Path):
    path = tmp_path / "a b.sock"
    server = Server(models=tiny_models, uds=path)
    assert "%20" in server.url
    for url in (server.url, f"http+unix://{path}"):
        with Client(url) as client:
            assert client.models()
    assert server.stop() == 0


def test_half_closed_unix_connections_get_their_answer(tiny_models: Path, tmp_path: Path):
    path = tmp_path / "q.sock"
    server = Server(models=tiny_models, uds=path)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(4096), b"")).startswith(b"HTTP/1.1 200 ")
    assert server.stop() == 0
