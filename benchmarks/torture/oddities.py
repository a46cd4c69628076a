"""The attacks that are small, and ask for something unusual; some are no attacks, and must simply be answered."""

import asyncio
import io
import itertools
import json
import os
import signal
import string
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.torture import payloads
from benchmarks.torture.strike import Strike, attack
from benchmarks.torture.wire import Connection, Gone, head

_PREDICT = "/v1/predict"


@attack(seconds=5)
async def reload(strike: Strike) -> None:
    """200 signals to reload in 2 s."""
    await strike.begin()
    for _ in range(200):
        os.kill(strike.pid, signal.SIGUSR1)
        await asyncio.sleep(0.01)
    await asyncio.sleep(max(0.0, strike.left))


@attack(seconds=3)
async def http10(strike: Strike) -> None:
    """A client of HTTP/1.0 gets a streamed answer, which must be a whole archive and not in chunks."""
    body = json.dumps({"count": 500, "seed": 1, "format": "npz"}).encode()
    await strike.begin()

    async def one() -> None:
        answer = await strike.ask(head("/v1/generate", len(body), "application/json", version="1.0"), body, keep=True)
        if answer is None or answer.status != 200:
            strike.require(False, f"the answer to HTTP/1.0 is {answer.status if answer else 'none'}, not 200")
            return
        framed = "transfer-encoding" in answer.headers
        strike.require(not framed, "the answer to HTTP/1.0 is in chunks (Transfer-Encoding)")
        strike.require(framed or _is_archive(answer.body, 500), "the answer to HTTP/1.0 is no valid npz")

    await strike.again(1, one)


def _is_archive(data: bytes, images: int) -> bool:
    try:
        with np.load(io.BytesIO(data)) as archive:
            return len(archive["images"]) == images
    except Exception:  # whatever is wrong with it
        return False


@attack(seconds=3)
async def upgrade_h2c(strike: Strike) -> None:
    """A POST that offers HTTP/2 by an upgrade must be answered 200."""
    headers = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    image = payloads.CAT_JPEG
    await strike.begin()

    async def one() -> None:
        answer = await strike.ask(head(_PREDICT, len(image), "image/jpeg", headers=headers), image)
        strike.require(answer is not None and answer.status == 200, "the offer of h2c is not answered 200")

    await strike.again(1, one)


@attack()
async def charsets(strike: Strike) -> None:
    """2,000 forms, each of another charset that nobody knows."""
    body = payloads.form([payloads.CAT_JPEG])
    await _each(
        strike, (head(_PREDICT, len(body), f"{payloads.FORM}; charset=unknown-{i}") + body for i in range(2000))
    )


@attack()
async def queries(strike: Strike) -> None:
    """5,000 queries of 60 kB, each another."""
    image = payloads.CAT_JPEG
    long = "a" * 60_000
    await _each(strike, (head(f"{_PREDICT}?model={i}{long}", len(image), "image/jpeg") + image for i in range(5000)))


@attack()
async def query_repeats(strike: Strike) -> None:
    """Queries of 12,001 names, of which the last one is there twice, and of 900 names below the limit of length."""
    image = payloads.CAT_JPEG
    names = ["".join(letters) for letters in itertools.product(string.ascii_letters, repeat=3)]
    queries = ["&".join(f"{name}=" for name in [*names[:count], names[0]]) for count in (12_000, 900)]
    requests = [head(f"{_PREDICT}?{query}", len(image), "image/jpeg") + image for query in queries]
    await strike.begin()
    for status, request in zip((414, 422), requests, strict=True):

        async def one(status: int = status, request: bytes = request) -> None:
            answer = await strike.ask(request)
            strike.require(answer is not None and answer.status == status, f"a long query is not answered {status}")

        await strike.together(200, one)


@attack(seconds=5)
async def files_and_probes(strike: Strike) -> None:
    """200 clients ask for the page's files all the time; a probe is answered within a second."""
    page, probe = head("/", method="GET"), head("/healthz/ready", method="GET")
    slowest = 0.0
    await strike.begin()

    async def probing() -> None:
        nonlocal slowest
        while strike.left > 0:
            began = time.perf_counter()
            answer = await strike.ask(probe)
            slowest = max(slowest, time.perf_counter() - began)
            strike.require(answer is not None and answer.status == 200, "a probe is not answered 200")
            await asyncio.sleep(0.2)

    await asyncio.gather(strike.again(200, lambda: strike.ask(page)), probing())
    strike.note(f"a probe took {1000 * slowest:.0f} ms at most")
    strike.require(slowest < 1, "a probe took over a second")


async def _each(strike: Strike, requests: Iterator[bytes], clients: int = 16) -> None:
    await strike.begin()

    async def client() -> None:
        for request in requests:
            await strike.ask(request)

    await strike.together(clients, client)


@attack(seconds=3)
async def metrics_accept(strike: Strike) -> None:
    """Accept headers on /metrics that cannot be parsed; no answer may be a 500."""
    accepted = [
        "application/openmetrics-text; version=x",
        "application/openmetrics-text; version=1.0.0; escaping=x",
        "text/plain; version=x.y.z",
        ";;;=,,,=;q=x",
    ]
    await strike.begin()

    async def one() -> None:
        for accept in accepted:
            answer = await strike.ask(head("/metrics", method="GET", headers=[f"Accept: {accept}"]))
            served = answer is not None and answer.status < 500
            strike.require(served, f"{answer.status if answer else 'closed'} for Accept: {accept}")

    await strike.again(1, one)


@attack()
async def gets(strike: Strike) -> None:
    """100 clients that ask for the metrics and the OpenAPI document all the time."""
    requests = itertools.cycle([head("/metrics", method="GET"), head("/openapi.json", method="GET")])
    await strike.begin()
    await strike.again(100, lambda: strike.ask(next(requests)))


@attack()
async def chunks(strike: Strike) -> None:
    """Bodies in chunks of one byte each."""
    await _framed(strike, b"1\r\na\r\n" * 10_000_000)


@attack()
async def trailers(strike: Strike) -> None:
    """Bodies of nothing but 60 MB of trailers."""
    await _framed(strike, b"0\r\n" + b"a:b\r\n" * 12_000_000)


async def _framed(strike: Strike, body: bytes) -> None:
    start = head(_PREDICT, media_type="image/jpeg", headers=["Transfer-Encoding: chunked"])
    await strike.begin()
    await strike.again(4, lambda: strike.ask(start, body))


@attack(seconds=3)
async def long_names(strike: Strike) -> None:
    """The name of an unknown model of 60 kB, and a content type of 30 kB."""
    sizes: dict[str, int] = {}
    image = payloads.CAT_JPEG
    wanted = {
        "an unknown model's name of 60 kB": head(f"{_PREDICT}?model={'m' * 60_000}", len(image), "image/jpeg"),
        "a content type of 30 kB": head(_PREDICT, len(image), f"text/{'t' * 30_000}"),
    }
    await strike.begin()

    async def one() -> None:
        for what, start in wanted.items():
            if answer := await strike.ask(start, image):
                sizes[what] = answer.size

    await strike.again(1, one)
    for what, size in sizes.items():
        strike.note(f"the answer to {what} has {size:,} bytes")


@attack(seconds=3)
async def half_close(strike: Strike) -> None:
    """A client that shuts down its sending side after a request must get its answer."""
    image = payloads.CAT_JPEG
    await strike.begin()

    async def one() -> None:
        try:
            connection = await Connection.open(strike.port)
            await connection.send(head(_PREDICT, len(image), "image/jpeg"), image)
            connection.end()
            status: int | str = (await connection.answer()).status
            connection.close()
        except Gone:
            status = "closed"
        strike.count(status)
        strike.require(status == 200, "the client's half-closed connection gets no 200")

    await strike.again(1, one)
