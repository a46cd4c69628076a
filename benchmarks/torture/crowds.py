"""Clients that are each well-behaved, and too many."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field

from benchmarks.torture import payloads
from benchmarks.torture.strike import Strike, attack
from benchmarks.torture.wire import Connection, Gone, head

# Clients that are no crowd; what they reach alone is what the service can do.
_FEW = 8
_FEW_SECONDS = 3.0


@dataclass(slots=True)
class _Crowd:
    """What a crowd met.

    Attributes:
        waits: seconds of each answered request, from its sending.
        in_time: how many of them were answered within the crowd's time.
        came_back: requests that were sent again when a refusal said so; `served`: of these, how many were answered.
    """

    waits: list[float] = field(default_factory=list)
    in_time: int = 0
    came_back: int = 0
    served: int = 0
    refusals: int = 0


async def _crowd(strike: Strike, clients: int, seconds: float, path: str, body: bytes, *, counted: bool) -> _Crowd:
    """Clients that each send at once again what was answered, and what was refused when they were told to."""
    crowd = _Crowd()
    end = time.perf_counter() + seconds
    request = head(path, len(body), "application/json") + body

    async def client() -> None:
        connection: Connection | None = None
        refused = False
        while (started := time.perf_counter()) < end:
            pause = 0.0
            outcome: int | str
            try:
                connection = connection or await Connection.open(strike.port)
                answer = await connection.ask(request)
                outcome = answer.status
                if outcome != 200:
                    pause = float(answer.headers.get("retry-after", 1))
                if answer.headers.get("connection", "").lower() == "close":
                    connection.close()
                    connection = None
            except Gone:
                outcome, pause = "closed", 1.0
                connection = None
            now = time.perf_counter()
            if counted:
                strike.count(outcome)
            crowd.came_back += refused
            if outcome == 200:
                crowd.waits.append(now - started)
                crowd.in_time += now < end
                crowd.served += refused
            refused = outcome == 429
            crowd.refusals += refused
            await asyncio.sleep(min(pause, max(0.0, end - now)))
        if connection:
            connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return crowd


async def _too_many(strike: Strike, clients: int, path: str, images: list[bytes]) -> None:
    body = payloads.images_json(images)
    rates = []
    for _ in range(2):
        few = await _crowd(strike, _FEW, _FEW_SECONDS, path, body, counted=False)
        rates.append(few.in_time * len(images) / _FEW_SECONDS)
    await strike.begin()
    crowd = await _crowd(strike, clients, strike.seconds, path, body, counted=True)
    rate, best = crowd.in_time * len(images) / strike.seconds, max(rates)
    share = f"{rate / best:.0%}" if best else "–"
    strike.note(f"{rate:.0f} images/s answered, {share} of the {best:.0f} of {_FEW} clients alone")
    if crowd.waits:
        strike.note(
            f"answered within {statistics.median(crowd.waits):.1f} s (median), {max(crowd.waits):.1f} s (longest)"
        )
    if crowd.came_back:
        strike.note(
            f"of {crowd.came_back} that came back after Retry-After {crowd.served / crowd.came_back:.0%} were served"
        )


@attack(seconds=25)
async def crowd_predict(strike: Strike) -> None:
    """400 clients with 16 images each on /v1/predict."""
    await _too_many(strike, 400, "/v1/predict", [payloads.CAT_JPEG] * 16)


@attack(seconds=25)
async def crowd_detect(strike: Strike) -> None:
    """320 clients with 4 photographs of 640 x 480 each on /v1/detect."""
    await _too_many(strike, 320, "/v1/detect", payloads.photographs(4))
