"""Clients that are each well-behaved, and too many."""

import asyncio
import re
import statistics
import time
from dataclasses import dataclass, field

from benchmarks.torture import payloads
from benchmarks.torture.strike import Strike, attack
from benchmarks.torture.wire import Connection, Gone, head

# Clients that are no crowd; what they reach alone is what the service can do.
_FEW = 8
_FEW_SECONDS = 3.0
# The longest wait that a refusal may ask for.
_LONGEST_RETRY_AFTER = 30.0
# Clients that honour Retry-After among a storm, and how many of their requests must be served in the end.
_POLITE = 16
_LEAST_SERVED = 0.9
# Single images that show how long one takes alone.
_SINGLES = 40
# Clients that keep a model busy beside an explanation, and the longest that one may take.
_BUSY = 24
_LONGEST_EXPLANATION = 2.0


@dataclass(slots=True)
class _Crowd:
    """What a crowd met.

    Attributes:
        waits: seconds of each answered request, from its sending.
        in_time: how many of them were answered within the crowd's time.
        came_back: requests that were sent again when a refusal said so; `served`: of these, how many were answered.
        longest_retry_after: seconds that a refusal asked for at most.
    """

    waits: list[float] = field(default_factory=list)
    in_time: int = 0
    came_back: int = 0
    served: int = 0
    refusals: int = 0
    longest_retry_after: float = 0.0


async def _crowd(
    strike: Strike,
    clients: int,
    seconds: float,
    path: str,
    body: bytes,
    *,
    counted: bool,
    media_type: str = "application/json",
    retries_at_once: bool = False,
    reconnects: bool = False,
) -> _Crowd:
    """Clients that each send at once again what was answered, and what was refused when they were told to.

    Args:
        strike: of which they are a part.
        clients: how many.
        seconds: for which they go on.
        path: of the route.
        body: of each request.
        counted: whether their answers are the attack's.
        media_type: of the body.
        retries_at_once: whether they do not wait after a refusal.
        reconnects: whether each request has a connection of its own.
    """
    crowd = _Crowd()
    end = time.perf_counter() + seconds
    request = head(path, len(body), media_type) + body

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
                    crowd.longest_retry_after = max(crowd.longest_retry_after, pause)
                if reconnects or answer.headers.get("connection", "").lower() == "close":
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
            await asyncio.sleep(0.001 if retries_at_once else min(pause, max(0.0, end - now)))
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


async def _storm(strike: Strike, *, reconnects: bool, least_share: float) -> None:
    (image,) = payloads.photographs(1)

    async def crowd(clients: int, seconds: float, *, polite: bool, counted: bool = False) -> _Crowd:
        return await _crowd(
            strike, clients, seconds, "/v1/detect", image, counted=counted, media_type="image/jpeg",
            retries_at_once=not polite, reconnects=reconnects and not polite,
        )  # fmt: skip

    async def behaved() -> None:
        """What the well-behaved client does during the attack."""
        request = head("/v1/predict", len(payloads.CAT_JPEG), "image/jpeg") + payloads.CAT_JPEG
        connection = await Connection.open(strike.port)
        end = time.perf_counter() + _FEW_SECONDS
        while time.perf_counter() < end:
            await connection.ask(request)
            await asyncio.sleep(0.05)
        connection.close()

    rates = []
    for _ in range(2):
        few, _ = await asyncio.gather(crowd(_FEW, _FEW_SECONDS, polite=True), behaved())
        rates.append(few.in_time / _FEW_SECONDS)
    await strike.begin()
    storm, polite = await asyncio.gather(
        crowd(400, strike.seconds, polite=False, counted=True), crowd(_POLITE, strike.seconds, polite=True)
    )
    rate, best = (storm.in_time + polite.in_time) / strike.seconds, max(rates)
    share = rate / best if best else 0.0
    longest = max(storm.longest_retry_after, polite.longest_retry_after)
    strike.note(f"{rate:.1f} images/s answered, {share:.0%} of the {best:.1f} of {_FEW} clients without them")
    strike.note(f"Retry-After was {longest:.0f} s at most")
    strike.note(
        f"{_POLITE} clients that honour it got {len(polite.waits)} answers; of {polite.came_back} requests that came "
        f"back after a refusal {polite.served} were served"
    )
    strike.require(share >= least_share, f"less than {least_share:.0%} of the throughput of {_FEW} clients")
    strike.require(longest <= _LONGEST_RETRY_AFTER, f"Retry-After is over {_LONGEST_RETRY_AFTER:g} s")
    strike.require(polite.came_back > 0, "no client that honours Retry-After came back")
    strike.require(polite.served >= _LEAST_SERVED * polite.came_back, "clients that honour Retry-After are not served")


@attack(seconds=60)
async def retries(strike: Strike) -> None:
    """400 clients on /v1/detect that retry at once when they are refused, and 16 that honour Retry-After."""
    await _storm(strike, reconnects=False, least_share=0.95)


@attack(seconds=60)
async def retries_reconnecting(strike: Strike) -> None:
    """The same, but each retry has a connection of its own."""
    await _storm(strike, reconnects=True, least_share=0.85)


@attack(seconds=20, keys=("behaved", "crowd"))
async def crowd_of_one_key(strike: Strike) -> None:
    """64 clients of one API key with 128 images each on /v1/predict; the well-behaved client has another key."""
    keyed = ["X-API-Key: crowd"]
    body = payloads.images_json([payloads.CAT_JPEG] * 128)
    large = head("/v1/predict", len(body), "application/json", headers=keyed) + body
    single = head("/v1/predict", len(payloads.CAT_JPEG), "image/jpeg", headers=["X-API-Key: behaved"])
    metrics = head("/metrics", method="GET", headers=keyed)
    alone: list[float] = []
    waits: list[float] = []

    async def ask_once(into: list[float]) -> None:
        began = time.perf_counter()
        answer = await strike.ask(single, payloads.CAT_JPEG)
        if answer and answer.status == 200:
            into.append(time.perf_counter() - began)

    async def batches() -> tuple[float, float]:
        """How many have run, and the seconds of all."""
        answer = await Connection.open(strike.port)
        text = (await answer.ask(metrics, keep=True)).body.decode()
        answer.close()
        samples = re.findall(
            r'^quartet_inference_seconds_(count|sum)\{[^}]*model="classifier"[^}]*\} (\S+)$', text, re.M
        )
        count, total = (sum(float(value) for name, value in samples if name == kind) for kind in ("count", "sum"))
        return count, total

    for _ in range(_SINGLES):
        await ask_once(alone)
    count, seconds = await batches()
    await strike.begin()

    async def crowd() -> None:
        answer = await strike.ask(large)
        if answer and answer.status == 429:
            await asyncio.sleep(min(float(answer.headers.get("retry-after", 1)), max(0.0, strike.left)))

    async def singles() -> None:
        while strike.left > 0:
            await ask_once(waits)
            await asyncio.sleep(0.05)

    await asyncio.gather(strike.again(64, crowd), singles())
    after, more = await batches()
    batch = (more - seconds) / max(1.0, after - count)
    usual, wait = statistics.median(alone), statistics.median(waits)
    strike.note(
        f"a single image took {1000 * usual:.0f} ms alone and {1000 * wait:.0f} ms beside the crowd (medians); "
        f"a batch {1000 * batch:.0f} ms"
    )
    strike.require(wait <= usual + 2 * batch, "a single image of another key waited for more than two batches")


@attack(seconds=20)
async def explain_busy(strike: Strike) -> None:
    """24 clients keep the model of /v1/classify-text busy, and another one has a text of 100 words explained."""
    text, explained = payloads.texts_json(1, 100), payloads.texts_json(1, 100)
    request = head("/v1/classify-text?explain=true", len(explained), "application/json") + explained
    waits = []
    await strike.begin()

    async def explaining() -> None:
        while strike.left > 0:
            began = time.perf_counter()
            await strike.ask(request)
            waits.append(time.perf_counter() - began)

    busy = _crowd(strike, _BUSY, strike.seconds, "/v1/classify-text", text, counted=False)
    crowd, _ = await asyncio.gather(busy, explaining())
    longest = max(waits, default=float("inf"))
    strike.note(f"{len(waits)} explanations took {statistics.median(waits):.2f} s (median), {longest:.2f} s (longest)")
    strike.note(f"{len(crowd.waits)} texts took {1000 * statistics.median(crowd.waits):.0f} ms (median)")
    strike.require(longest < _LONGEST_EXPLANATION, f"an explanation took over {_LONGEST_EXPLANATION:g} s")
