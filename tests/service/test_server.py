"""Connections that have to give way, and the internals of uvicorn that the server uses."""

import asyncio
import inspect
import time
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service import server
from service.metrics import Metrics
from service.server import Guard, Protocol
from service.transport import CoalescingTransport
from tests.service.test_transport import Wire


class Socketless(Wire):
    def get_extra_info(self, name: str) -> None:
        return None


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": scope["path"].encode()[:0]})


def protocol_of(wire: Wire, loop: asyncio.AbstractEventLoop) -> Protocol:
    config = uvicorn.Config(application, http=Protocol, log_config=None)
    protocol = Protocol(config, ServerState(), {}, _loop=loop)
    protocol.connection_made(wire)  # type: ignore[arg-type]
    return protocol


def test_the_internals_of_uvicorn_that_it_uses_still_exist():
    """If this fails, an upgrade of uvicorn has changed undocumented internals that `service.server` depends on."""
    loop = asyncio.new_event_loop()
    try:
        protocol = protocol_of(Socketless(), loop)
        assert protocol.tasks is protocol.server_state.tasks
        assert isinstance(protocol.transport, CoalescingTransport)
        assert protocol in protocol.server_state.connections
    finally:
        loop.close()
    for method, parameters in (("startup", ["self", "sockets"]), ("handle_exit", ["self", "sig", "frame"])):
        assert list(inspect.signature(getattr(uvicorn.Server, method)).parameters) == parameters


POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "ahead"),
    [(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1), (POST, 1), (CHUNKED, 16)],
    ids=["get", "body", "chunks"],
)
async def test_few_requests_of_a_connection_are_parsed_before_they_are_answered(request_: bytes, ahead: int):
    wire = Socketless()
    protocol = protocol_of(wire, asyncio.get_running_loop())
    most = 0

    def counted(cycle: Any, app: Any) -> None:
        nonlocal most
        most = max(most, 1 + len(protocol.pipeline))
        begin(cycle, app)

    begin, protocol._start_asgi_task = protocol._start_asgi_task, counted  # type: ignore[method-assign]
    data = request_ * 200
    for start in range(0, len(data), 1 << 16):  # as the event loop would read it
        protocol.data_received(data[start : start + (1 << 16)])
    most = max(most, 1 + len(protocol.pipeline))
    assert wire.paused
    for _ in range(2_000):
        await asyncio.sleep(0)
    assert b"".join(wire.written).count(b"HTTP/1.1 200") == 200
    assert most <= ahead
    assert not wire.paused


async def test_too_many_headers_are_refused():
    wire = Socketless()
    protocol = protocol_of(wire, asyncio.get_running_loop())
    protocol.data_received(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 256 + b"\r\n")
    await asyncio.sleep(0)
    protocol.data_received(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 257 + b"\r\n")
    assert [written[:12] for written in wire.written if written] == [b"HTTP/1.1 200", b"HTTP/1.1 431"]


async def test_a_body_that_is_no_http_does_not_write_into_an_answer_under_way():
    wire = Socketless()
    protocol = protocol_of(wire, asyncio.get_running_loop())
    protocol.data_received(CHUNKED[:-5])
    await asyncio.sleep(0)
    protocol.cycle.response_complete = False  # as if more of the answer were to come
    written = len(wire.written)
    assert written
    protocol.data_received(b"this is no chunk\r\n")
    assert len(wire.written) == written
    assert wire.aborted


async def test_a_request_that_waits_for_its_client_ends_after_a_while_whatever_its_pace():
    wire = Socketless()
    protocol = protocol_of(wire, asyncio.get_running_loop())
    protocol.data_received(POST[:-1])
    now = time.monotonic()
    for second in range(890):
        protocol._received += 5_000
        protocol.check(now + second)
        assert not wire.closed
    protocol.check(now + 901)
    assert b"408" in wire.written[0]


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


async def test_a_check_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(server, "_SWEEP_SECONDS", 0.001)
    repeated = asyncio.Event()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 3:
            repeated.set()
        raise OSError("Too many open files")

    sweeping = server.Server.__new__(server.Server)
    sweeping._application = SimpleNamespace(metrics=Metrics())  # type: ignore[assignment]
    sweeping.server_state, sweeping._tick, sweeping._trim = ServerState(), tick, lambda busy: None
    sweeping._sweep(time.monotonic())
    await asyncio.wait_for(repeated.wait(), 10)
    monkeypatch.setattr(sweeping, "_sweep", lambda due: None)
    assert "periodic check of the connections failed" in caplog.text
