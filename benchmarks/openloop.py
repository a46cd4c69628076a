"""Requests that come when they come, however long the answers take: an open-loop load (Schroeder et al. 2006)."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of requests.

    Attributes:
        seconds: from the moment each was due until it was answered; of those that were answered 200.
        sent: how many there were.
        refused: how many were answered 429.
    """

    seconds: npt.NDArray[np.float64]
    sent: int
    refused: int

    @property
    def median_ms(self) -> float:
        """Of those that were answered."""
        return float(np.median(self.seconds)) * 1000

    @property
    def mean_ms(self) -> float:
        """Of those that were answered."""
        return float(np.mean(self.seconds)) * 1000

    @property
    def p95_ms(self) -> float:
        """Of those that were answered, the 95th percentile."""
        return float(np.percentile(self.seconds, 95)) * 1000

    @property
    def refused_share(self) -> float:
        """Of all."""
        return self.refused / self.sent


def poisson(rate: float, seconds: float, random: np.random.Generator) -> list[float]:
    """Times of arrivals at a constant rate, from 0 on."""
    return list(_arrivals([(seconds, rate)], random))


def bursts(rate: float, seconds: float, random: np.random.Generator) -> list[float]:
    """Times of arrivals that come at 1.8 times a rate for half a second, and at a fifth of it for the next."""
    phases = itertools.cycle(((0.5, 1.8 * rate), (0.5, 0.2 * rate)))
    return list(_arrivals(list(itertools.islice(phases, round(2 * seconds))), random))


def _arrivals(phases: Sequence[tuple[float, float]], random: np.random.Generator) -> Iterator[float]:
    start = 0.0
    for seconds, rate in phases:
        times = start + np.cumsum(random.exponential(1 / rate, int(rate * seconds * 2) + 50))
        yield from times[times < start + seconds].tolist()
        start += seconds


async def send(port: int, path: str, bodies: Sequence[bytes], times: Sequence[float]) -> Outcome:
    """Posts one body after the other, each at its time, over as many connections as are needed."""
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    answered: list[float] = []
    refused = 0

    async def request(body: bytes, due: float) -> None:
        nonlocal refused
        connection = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        reader, writer = connection
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if answer.startswith(b"HTTP/1.1 200"):
            answered.append(time.perf_counter() - due)
        elif answer.startswith(b"HTTP/1.1 429"):
            refused += 1
        else:
            raise RuntimeError(answer.decode("latin-1"))
        idle.append(connection)

    start = time.perf_counter() + 0.05
    async with asyncio.TaskGroup() as tasks:
        for number, moment in enumerate(times):
            if (wait := start + moment - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(request(bodies[number % len(bodies)], start + moment))
    for _, writer in idle:
        writer.close()
    return Outcome(np.array(answered), len(times), refused)
