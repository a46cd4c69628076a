"""The coalescing transport: what is written, when, in how many pieces; and the internals of uvicorn that it uses."""

import asyncio
import inspect
import time

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.server import Guard, Protocol, _CoalescingTransport


class Wire:
    """A transport that records what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = self.ended = self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.paused = True

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


@pytest.fixture
async def wire() -> Wire:
    return Wire()


def coalescing(wire: Wire, requests: int) -> _CoalescingTransport:
    return _CoalescingTransport(wire, range(requests), asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_a_lone_request_is_answered_immediately(wire: Wire):
    transport = coalescing(wire, 1)
    transport.write(b"head")
    transport.write(b"body")
    assert wire.written == [b"head", b"body"]


async def test_concurrent_answers_are_written_in_one_piece_at_the_end_of_the_step(wire: Wire):
    transport = coalescing(wire, 2)
    transport.write(b"head")
    transport.write(b"body")
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"headbody"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert wire.written == [b"headbody", b"more"]


async def test_held_data_keeps_its_order_when_the_other_requests_are_done(wire: Wire):
    tasks = [1, 2]
    transport = _CoalescingTransport(wire, tasks, asyncio.get_running_loop())  # type: ignore[arg-type]
    transport.write(b"head")
    tasks.pop()
    transport.write(b"body")
    await asyncio.sleep(0)
    assert b"".join(wire.written) == b"headbody"


async def test_closing_sends_held_data(wire: Wire):
    transport = coalescing(wire, 2)
    transport.write(b"last words")
    transport.close()
    assert (wire.written, wire.closed) == ([b"last words"], True)
    await asyncio.sleep(0)
    assert wire.written == [b"last words"]


async def test_a_client_whose_body_is_not_taken_in_has_time_to_read_its_answer(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.server._LINGER_SECONDS", 0.01)
    transport = coalescing(wire, 2)
    transport.unread = True
    transport.write(b"429")
    transport.close()
    assert (wire.written, wire.ended, wire.paused, wire.closed) == ([b"429"], True, True, False)
    assert transport.is_closing()
    transport.write(b"more")
    await asyncio.sleep(0.05)
    assert wire.closed
    assert wire.written == [b"429"]


async def test_closing_again_does_not_wait(wire: Wire):
    transport = coalescing(wire, 1)
    transport.unread = True
    transport.close()
    transport.close()
    assert wire.closed


async def test_a_client_that_is_gone_gets_nothing(wire: Wire):
    transport = coalescing(wire, 2)
    transport.write(b"too late")
    wire.close()
    await asyncio.sleep(0)
    assert wire.written == []


async def test_everything_else_is_the_transports_own(wire: Wire):
    assert coalescing(wire, 1).get_extra_info("peername") == "the peername"


def test_the_internals_of_uvicorn_that_it_uses_still_exist():
    """If this fails, an upgrade of uvicorn has changed undocumented internals that `service.server` depends on."""

    async def application(scope: object, receive: object, send: object) -> None: ...

    class Socketless(Wire):
        def get_extra_info(self, name: str) -> None:
            return None

    config = uvicorn.Config(application, http=Protocol, log_config=None)
    state = ServerState()
    protocol = Protocol(config, state, {}, _loop=asyncio.new_event_loop())
    try:
        assert protocol.tasks is state.tasks
        protocol.connection_made(Socketless())  # type: ignore[arg-type]
        assert isinstance(protocol.transport, _CoalescingTransport)
        assert protocol in state.connections
    finally:
        protocol.loop.close()
    for method, parameters in (("startup", ["self", "sockets"]), ("handle_exit", ["self", "sig", "frame"])):
        assert list(inspect.signature(getattr(uvicorn.Server, method)).parameters) == parameters


class Busy:
    """A connection that has been busy for some seconds."""

    def __init__(self, seconds: float, waits_for_client: bool) -> None:
        self.since = time.monotonic() - seconds
        self.waits_for_client = waits_for_client
        self.ended: list[int] = []

    def end_request(self, status: int, why: str) -> None:
        self.ended.append(status)


class Idle:
    """A connection on which nothing has been asked for some seconds."""

    waits_for_client = False

    def __init__(self, seconds: float) -> None:
        self.transport = Wire()
        self.since = time.monotonic() - seconds

    def idle_seconds(self, now: float) -> float:
        return now - self.since


def test_the_connection_that_is_idle_for_longest_gives_way_but_none_that_was_used_just_now():
    guard = Guard(2)
    used, older, newer = Idle(0.1), Idle(30), Idle(3)
    for each in (used, older, newer):
        guard.idle[each] = None  # type: ignore[index]
    assert guard.make_room([used, older, newer])
    assert [each.transport.closed for each in (used, older, newer)] == [False, True, False]
    assert guard.make_room([used, newer, newer])
    assert newer.transport.closed
    assert not guard.make_room([used, used, used])
    assert not used.transport.closed


def test_where_no_connection_is_idle_the_slowest_client_gives_way():
    connections = [Busy(90, False), Busy(20, True), Busy(60, True)]
    assert Guard(3).make_room(connections)
    assert [each.ended for each in connections] == [[], [], []]
    assert Guard(2).make_room(connections)
    assert [each.ended for each in connections] == [[], [], [408]]
    assert not Guard(0).make_room([Busy(90, False), Busy(1, True)])  # nobody is to blame
