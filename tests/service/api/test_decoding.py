"""Decoding on threads: refused where it would come too late, not begun where nobody waits."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from service.api.decoding import Decoder
from service.api.exchange import Exchange
from service.errors import ClientDisconnected, DeadlineExceeded, Overloaded
from tests.gated import PATIENCE


class Client:
    """A connection that stays until the test ends it."""

    def __init__(self, timeout: float = PATIENCE) -> None:
        self.gone = asyncio.Event()
        app = SimpleNamespace(state=SimpleNamespace(settings=SimpleNamespace(timeout=timeout)))
        self.exchange = Exchange({"type": "http", "app": app, "quartet.facts": {}}, self._receive)

    async def _receive(self) -> dict[str, str]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_the_result_comes_back_from_a_thread(pool: ThreadPoolExecutor):
    client = Client()
    result, thread = await Decoder(pool, 1).run(client.exchange, lambda x: (x, threading.current_thread()), 7)
    assert result == 7
    assert thread is not threading.main_thread()
    client.exchange.end()


async def test_what_would_come_too_late_is_refused(pool: ThreadPoolExecutor):
    gate = threading.Event()
    decoder = Decoder(pool, 1)
    clients = [Client() for _ in range(4)]
    await decoder.run(clients[0].exchange, gate.wait, 0.05)  # an image takes 50 ms
    decoder.admit(timeout=0.1)
    tasks = [asyncio.create_task(decoder.run(client.exchange, gate.wait, PATIENCE)) for client in clients]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="4 images wait to be decoded") as refusal:
        decoder.admit(timeout=0.1)
    assert refusal.value.retry_after is not None
    decoder.admit(timeout=PATIENCE)
    gate.set()
    assert await asyncio.gather(*tasks) == [True] * 4
    decoder.admit(timeout=0.1)
    for client in clients:
        client.exchange.end()


async def test_what_nobody_waits_for_any_more_is_not_begun(pool: ThreadPoolExecutor):
    gate, begun = threading.Event(), []
    decoder = Decoder(pool, 1)
    first, hasty, leaving = Client(), Client(timeout=0.01), Client()
    running = asyncio.create_task(decoder.run(first.exchange, gate.wait, PATIENCE))
    late = asyncio.create_task(decoder.run(hasty.exchange, begun.append, "late"))
    left = asyncio.create_task(decoder.run(leaving.exchange, begun.append, "left"))
    await asyncio.sleep(0.05)
    leaving.gone.set()
    await asyncio.sleep(0.01)
    gate.set()
    assert await running
    with pytest.raises(DeadlineExceeded):
        await late
    with pytest.raises(ClientDisconnected):
        await left
    assert begun == []
    for client in (first, hasty, leaving):
        client.exchange.end()
