"""Reading a body under the limit, and watching the client while it waits."""

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import pytest

from service.errors import Abandoned, BodyTooLarge
from service.inference.batcher import Batcher
from service.inference.leases import Lease
from service.inference.scheduler import Scheduler
from service.settings import Settings
from service.stack.exchange import Exchange
from tests.gated import Gated, Recorder, enqueue

LIMIT = 1000


class Client:
    """Sends the given messages, then hangs up when the test says so."""

    def __init__(self, messages: Sequence[Mapping[str, object]] = ()) -> None:
        self.sent = 0
        self.hangs_up = asyncio.Event()
        self._messages = messages

    async def receive(self) -> Mapping[str, object]:
        if self.sent < len(self._messages):
            self.sent += 1
            return self._messages[self.sent - 1]
        await self.hangs_up.wait()
        return {"type": "http.disconnect"}


def exchange_of(client: Client, headers: Sequence[tuple[bytes, bytes]] = (), repository: object = None) -> Exchange:
    settings = Settings(max_body_mb=LIMIT / 1e6)
    scope = {
        "type": "http",
        "headers": list(headers),
        "app": SimpleNamespace(settings=settings, repository=repository, observers=None),
        "quartet.facts": {},
    }
    return Exchange(scope, client.receive)


def body(*pieces: bytes) -> list[dict[str, object]]:
    return [
        {"type": "http.request", "body": piece, "more_body": index + 1 < len(pieces)}
        for index, piece in enumerate(pieces)
    ]


@pytest.mark.parametrize("pieces", [(b"",), (b"abc",), (b"ab", b"", b"c"), (bytes(LIMIT),), (bytes(600), bytes(400))])
async def test_read(pieces: tuple[bytes, ...]):
    assert await exchange_of(Client(body(*pieces))).read() == b"".join(pieces)


async def test_a_message_may_lack_its_body():
    assert await exchange_of(Client([{"type": "http.request"}])).read() == b""


async def test_the_rest_of_a_body_over_the_limit_is_not_read():
    client = Client(body(*[bytes(400)] * 10))
    with pytest.raises(BodyTooLarge, match=r"over the limit of 0\.001 MB"):
        await exchange_of(client).read()
    assert client.sent == 3


async def test_a_declared_length_over_the_limit_is_refused_unread():
    client = Client(body(b"x"))
    with pytest.raises(BodyTooLarge):
        await exchange_of(client, [(b"content-length", b"1001")]).read()
    assert client.sent == 0
    assert await exchange_of(client, [(b"content-length", b"1000")]).read() == b"x"


@pytest.mark.parametrize("length", [b"", b"-1", b"many", "²".encode(), b"1e9"])
async def test_a_content_length_that_is_not_a_number_is_ignored(length: bytes):
    assert await exchange_of(Client(body(b"x")), [(b"content-length", length)]).read() == b"x"


async def test_a_client_that_hangs_up_before_the_end():
    client = Client([{"type": "http.request", "body": b"x", "more_body": True}])
    client.hangs_up.set()
    with pytest.raises(Abandoned):
        await exchange_of(client).read()


async def test_header():
    exchange = exchange_of(Client(), [(b"accept", b"a"), (b"x-y", b"first"), (b"x-y", b"second")])
    assert (exchange.header(b"x-y"), exchange.header(b"nope")) == (b"first", b"")


async def test_a_client_that_hangs_up_while_it_waits_gives_up_its_items():
    model, recorder, client, scheduler = Gated(), Recorder(), Client(), Scheduler(1)
    batcher = Batcher(model, max_batch=4, max_queue=10, observers=recorder, scheduler=scheduler)
    enqueue(batcher, [0])
    await model.entered()
    exchange = exchange_of(client)
    submission = enqueue(batcher, [1, 2], exchange.call)
    client.hangs_up.set()
    with pytest.raises(Abandoned):
        async with asyncio.timeout(30):
            await submission.future
    after = enqueue(batcher, [3])
    model.release(2)
    assert await after.future == [30]
    assert model.seen == [0, 3]
    assert recorder.drops == {"abandoned": 2}
    exchange.end()
    await batcher.close()
    await scheduler.close()


async def test_a_client_is_watched_only_when_it_waits_for_long_and_until_the_request_ends():
    model, client, scheduler = Gated(), Client(), Scheduler(1)
    batcher = Batcher(model, max_batch=4, max_queue=10, observers=Recorder(), scheduler=scheduler)
    exchange = exchange_of(client)
    before = asyncio.all_tasks()
    submission = enqueue(batcher, [1], exchange.call)
    assert asyncio.all_tasks() == before
    async with asyncio.timeout(30):
        await asyncio.sleep(0.2)
        (watcher,) = asyncio.all_tasks() - before
        model.release()
        assert await submission.future == [10]
        exchange.watch()  # a second call changes nothing
        assert asyncio.all_tasks() - before == {watcher}
        exchange.end()
        await asyncio.wait([watcher])
    assert watcher.cancelled()
    await batcher.close()
    await scheduler.close()


def test_the_hash_of_a_header_differs_from_canary_to_canary():
    clients = [exchange_of(Client(), [(b"x-user", b"user %d" % number)]) for number in range(1000)]
    first, again, other = (
        [client._position("X-User", canary) < 0.1 for client in clients] for canary in ("m/2", "m/2", "m/3")
    )
    assert first == again
    assert 50 < sum(first) < 150
    assert sum(one and another for one, another in zip(first, other, strict=True)) < 40


async def test_ending_the_request_returns_the_lease():
    version = SimpleNamespace(label="m/1", variant="int8", header=lambda _: b"m/1", leases=0, retired=False)
    repository = SimpleNamespace(lease=lambda *_: Lease(version, lambda _: None))
    exchange = exchange_of(Client(), repository=repository)
    assert exchange.lease("m") is version
    assert (version.leases, exchange.facts) == (1, {"model": "m/1", "variant": "int8"})
    exchange.end()
    exchange.end()
    assert version.leases == 0
