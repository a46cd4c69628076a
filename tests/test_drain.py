"""A replica is taken out of a Service as Kubernetes does it: SIGTERM first, and its address is still used a while."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.pictures import encode
from tests.server import Server
from tests.tiny import solid

PATIENCE = 60  # seconds until a waiting test fails
LAG = 0.5  # seconds until those who send requests hear that a replica is not ready


class Service:
    """Replicas behind a list of endpoints that lags, and clients that use whatever is on it.

    Half of the clients open a connection for each request, the other half keep theirs.

    Attributes:
        late: how many requests a replica answered after SIGTERM, while it was still on the list.
    """

    def __init__(self, replicas: list[Server]) -> None:
        self.endpoints = [replica.url for replica in replicas]
        self.answered: Counter[str] = Counter()
        self.failures: list[Exception] = []
        self.late = 0
        self.stopping = threading.Event()

    def controller(self, replicas: list[Server]) -> None:
        """Takes a replica off the list some time after its readiness probe fails."""
        with httpx.Client(trust_env=False) as client:
            while not self.stopping.wait(0.02):
                for replica in replicas:
                    if replica.url not in self.endpoints:
                        continue
                    try:
                        ready = client.get(f"{replica.url}/healthz/ready").status_code == 200
                    except httpx.TransportError:
                        ready = False
                    if not ready:
                        time.sleep(LAG)
                        self.endpoints = [url for url in self.endpoints if url != replica.url]

    def send(self, keep: bool) -> None:
        body = encode(solid("red"))
        limits = httpx.Limits(max_keepalive_connections=None if keep else 0)
        with httpx.Client(limits=limits, timeout=PATIENCE, trust_env=False) as client:
            turn = 0
            while not self.stopping.is_set():
                endpoints = self.endpoints
                turn += 1
                url = endpoints[turn % len(endpoints)]
                try:
                    client.post(f"{url}/v1/predict", content=body).raise_for_status()
                    self.answered[url] += 1
                except Exception as error:
                    self.failures.append(error)
                time.sleep(0.002)


@contextmanager
def load(service: Service, replicas: list[Server]) -> Iterator[None]:
    threads = [threading.Thread(target=service.send, args=(number % 2 == 0,)) for number in range(4)]
    threads.append(threading.Thread(target=service.controller, args=(replicas,)))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        service.stopping.set()
        for thread in threads:
            thread.join(PATIENCE)


def take_out(models: Path, drain_seconds: float) -> tuple[Service, Server]:
    """Ends the first of two replicas under load, which goes on for as long as its address is still used."""
    replicas = [Server(models=models, drain_seconds=drain_seconds), Server(models=models)]
    first = replicas[0]
    service = Service(replicas)
    try:
        with load(service, replicas):
            end = time.monotonic() + PATIENCE
            while service.answered.keys() != {replica.url for replica in replicas}:
                assert time.monotonic() < end
                time.sleep(0.01)
            first.process.send_signal(signal.SIGTERM)
            before = service.answered[first.url]
            while first.url in service.endpoints:
                assert time.monotonic() < end
                time.sleep(0.01)
            service.late = service.answered[first.url] - before
            assert first.wait() == 0
    finally:
        for replica in replicas:
            replica.stop()
    return service, first


def test_no_request_is_lost_while_endpoints_lag(tiny_models: Path):
    service, first = take_out(tiny_models, drain_seconds=4 * LAG)
    assert not service.failures
    assert service.late > 4
    assert "Traceback" not in "".join(first.lines)


def test_without_a_drain_requests_are_lost_while_endpoints_lag(tiny_models: Path):
    """Shows that the test above would notice."""
    service, _ = take_out(tiny_models, drain_seconds=0)
    assert {type(error) for error in service.failures} >= {httpx.ConnectError}


def test_what_a_client_sees_of_a_drain(tiny_models: Path):
    server = Server(models=tiny_models, drain_seconds=600)
    with server.client() as client:
        assert "connection" not in client.get("/healthz/ready").headers
        server.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        while (answer := client.get("/healthz/ready")).status_code == 200:
            assert time.monotonic() < end
        assert answer.status_code == 503
        assert answer.json()["code"] == "not-ready"
        answer = client.post("/v1/predict", content=encode(solid("blue")))
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert client.get("/healthz/live").status_code == 200
    # Whoever does not want to wait for the end of the drain asks once more.
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.lines)
