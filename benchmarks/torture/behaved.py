"""The well-behaved client, in a process of its own: one small request at a time, on a connection that it keeps."""

import base64
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Event

import numpy as np

from benchmarks.torture.wire import HOST, head
from service.tasks.samples import CAT, SMEAR

# A client that waits longer gives up.
PATIENCE_SECONDS = 30.0
_WARM_UP = 5
# It ends by itself, should nobody be left to stop it.
_MOST_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Habit:
    """What a client sends, how often a second."""

    path: str
    media_type: str
    body: bytes
    rate: float


HABITS = {
    "predict": Habit("/v1/predict", "image/jpeg", base64.b64decode(CAT), 20),
    "predict-often": Habit("/v1/predict", "image/jpeg", base64.b64decode(CAT), 200),
    "detect": Habit("/v1/detect", "image/jpeg", base64.b64decode(SMEAR), 4),
    "generate": Habit("/v1/generate", "application/json", json.dumps({"count": 4, "format": "npz"}).encode(), 4),
}


@dataclass(slots=True)
class Conduct:
    """What a client met.

    Attributes:
        rate: requests a second.
        seconds: that each took.
        began: when each was sent.
        failed: how many were not answered 200, by what came.
    """

    rate: float
    seconds: list[float] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def percentiles(self, *shares: float) -> list[float]:
        """Milliseconds, by the hundred.

        While a request takes long, those that would have been sent meanwhile are not. They count all the same, as if
        they had waited for the same end; otherwise a server that stands still for a second would have kept one
        request waiting, not twenty.
        """
        waits = [
            seconds - skipped / self.rate
            for seconds in self.seconds
            for skipped in range(max(1, int(seconds * self.rate) + 1))
        ]
        if not waits:
            return [float("nan")] * len(shares)
        return [1000 * float(value) for value in np.percentile(waits, shares, method="higher")]

    def longest_ms(self, begin: float, end: float) -> float:
        """Milliseconds of the longest wait that began in a span of time."""
        waits = (seconds for began, seconds in zip(self.began, self.seconds, strict=True) if begin <= began <= end)
        return 1000 * max(waits, default=0.0)


class _Client:
    """One connection, opened anew whenever it has ended."""

    def __init__(self, port: int, habit: Habit, keys: Sequence[str]) -> None:
        self._port = port
        headers = [f"X-API-Key: {key}" for key in keys]
        self._request = head(habit.path, len(habit.body), habit.media_type, headers=headers) + habit.body
        self._socket: socket.socket | None = None

    def ask(self) -> str:
        """Sends the request; the status that came, or a word for what came instead."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection((HOST, self._port), timeout=PATIENCE_SECONDS)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(self._request)
            return self._answer(self._socket)
        except TimeoutError:
            self.close()
            return "timeout"
        except (OSError, ValueError):
            self.close()
            return "closed"

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _answer(self, connection: socket.socket) -> str:
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            self._receive(connection, received)
        first, *lines = received[:end].decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        if "content-length" in headers:
            while len(received) < end + 4 + int(headers["content-length"]):
                self._receive(connection, received)
        else:  # in chunks, of which the last is empty
            while not received.endswith(b"\r\n0\r\n\r\n"):
                self._receive(connection, received)
        if headers.get("connection") == "close":
            self.close()
        return first.split()[1]

    @staticmethod
    def _receive(connection: socket.socket, into: bytearray) -> None:
        part = connection.recv(1 << 16)
        if not part:
            raise ConnectionResetError
        into += part


def process(name: str, port: int, keys: Sequence[str], stop: Event, pipe: Pipe) -> None:
    """The main function of a client's process: says when it begins, and at the end what it met."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever measures ends this process
    habit = HABITS[name]
    client = _Client(port, habit, keys)
    for _ in range(_WARM_UP):
        client.ask()
    pipe.send("ready")
    pipe.send(_behave(client, habit, stop))
    client.close()


def _behave(client: _Client, habit: Habit, stop: Event) -> Conduct:
    conduct = Conduct(habit.rate)
    due = time.perf_counter()
    end = due + _MOST_SECONDS
    while due < end and not stop.is_set():
        started = time.perf_counter()
        status = client.ask()
        now = time.perf_counter()
        conduct.seconds.append(now - started)
        conduct.began.append(started)
        if status != "200":
            conduct.failed[status] += 1
        due = max(due + 1 / habit.rate, now if status == "200" else now + 1 / habit.rate)
        time.sleep(max(0.0, due - now))
    return conduct
