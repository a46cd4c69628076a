"""The attacks that are hostile by how they hold their connections."""

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine

from benchmarks.torture import payloads
from benchmarks.torture.strike import Strike, attack
from benchmarks.torture.wire import Connection, Gone, head, unread

_PREDICT = "/v1/predict"
# What 200 connections that pipeline may cost: the 64 kB that each has sent (13 MB), and one request each.
_PIPELINES_MB = 24


async def _open_many(strike: Strike, count: int, hold: Callable[[Connection], Coroutine[None, None, None]]) -> None:
    """Opens so many connections and does something with each until the time is over; counts the answers."""

    async def one() -> None:
        try:
            connection = await Connection.open(strike.port)
        except Gone:
            strike.count("closed")
            return
        holding = asyncio.ensure_future(hold(connection))
        try:
            async with asyncio.timeout(max(0.1, strike.left)):
                strike.count((await connection.answer()).status)
        except TimeoutError:
            strike.count("open")
        except Gone:
            strike.count("closed")
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            connection.close()

    await strike.together(count, one)


@attack(seconds=20)
async def idle(strike: Strike) -> None:
    """2,000 connections that send nothing."""

    async def hold(connection: Connection) -> None:
        """Sends nothing."""

    await strike.begin()
    await _open_many(strike, 2000, hold)


async def _drip(connection: Connection, data: bytes) -> None:
    for position in range(len(data)):
        await connection.send(data[position : position + 1])
        await asyncio.sleep(1)


@attack(seconds=20)
async def slowloris_head(strike: Strike) -> None:
    """500 connections that send a byte of a head a second."""
    data = head(_PREDICT, 1000, "image/jpeg", headers=[f"X-Slow: {'a' * 1000}"])
    await strike.begin()
    await _open_many(strike, 500, lambda connection: _drip(connection, data))


@attack(seconds=20)
async def slowloris_body(strike: Strike) -> None:
    """500 connections that send a byte of a body a second."""
    start = head(_PREDICT, 1000, "image/jpeg")

    async def hold(connection: Connection) -> None:
        await connection.send(start)
        await _drip(connection, bytes(1000))

    await strike.begin()
    await _open_many(strike, 500, hold)


@attack(seconds=20, beside=("predict", "detect"))
async def uploads_unfinished(strike: Strike) -> None:
    """400 connections to /v1/detect that stop before the end of a body."""
    start = head("/v1/detect", 100_000, "image/jpeg") + bytes(20_000)

    async def hold(connection: Connection) -> None:
        await connection.send(start)

    await strike.begin()
    await _open_many(strike, 400, hold)


@attack(seconds=20)
async def uploads_slow(strike: Strike) -> None:
    """1,100 bodies that come just fast enough to be let on, on all the connections there are."""
    start = head(_PREDICT, 10_000_000, "image/jpeg")
    image = payloads.CAT_JPEG
    request = head(_PREDICT, len(image), "image/jpeg") + image

    async def hold(connection: Connection) -> None:
        await connection.send(start)
        while True:
            await connection.send(bytes(2_000))
            await asyncio.sleep(1)

    async def newcomer() -> None:
        await asyncio.sleep(strike.seconds * 0.75)
        status = 0
        for _ in range(20):
            try:
                connection = await Connection.open(strike.port)
                status = (await connection.ask(request)).status
                connection.close()
            except Gone:
                status = 0
            strike.require(status == 200, "a newcomer gets no connection")

    await strike.begin()
    await asyncio.gather(_open_many(strike, 1100, hold), newcomer())


@attack(seconds=10)
async def pipelines(strike: Strike) -> None:
    """200 connections that each send 64 kB of pipelined requests, and as many again when they have been answered."""
    request = head("/v1/predict", 0)
    count = 65_536 // len(request)
    connections = [await Connection.open(strike.port) for _ in range(200)]
    before = most = strike.resident_mb()
    await strike.begin()

    async def one() -> None:
        connection = connections.pop()
        try:
            while strike.left > 0:
                await connection.send(request * count)
                for _ in range(count):
                    strike.count((await connection.answer()).status)
                    if strike.left <= 0:
                        break
            connection.close()
        except Gone:
            strike.count("closed")

    async def watch() -> None:
        nonlocal most
        while strike.left > 0:
            most = max(most, strike.resident_mb())
            await asyncio.sleep(0.05)

    await asyncio.gather(strike.together(200, one), watch())
    strike.note(f"the server's memory grew by {most - before:.0f} MB")
    strike.require(most - before < _PIPELINES_MB, f"the server's memory grew by over {_PIPELINES_MB} MB")


@attack(seconds=20)
async def slow_readers(strike: Strike) -> None:
    """50 clients that ask for 10,000 images each as npz, and read nothing."""
    body = json.dumps({"count": 10_000, "seed": 1, "format": "npz"}).encode()
    request = head("/v1/generate", len(body), "application/json") + body
    await strike.begin()

    async def one() -> None:
        try:
            connection = await unread(strike.port, request)
        except Gone:
            strike.count("closed")
            return
        try:
            await asyncio.sleep(max(0.0, strike.left))
            strike.count(_status(connection))
        finally:
            connection.close()

    await strike.together(50, one)


def _status(connection: socket.socket) -> str:
    """The status of what has come, without waiting for it."""
    try:
        received = connection.recv(20)
    except BlockingIOError:
        return "unanswered"
    except OSError:
        return "closed"
    return received.split()[1].decode() if received else "closed"
