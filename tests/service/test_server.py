"""Connections that have to give way, and the internals of uvicorn that the server uses."""

import asyncio
import inspect
import time

import uvicorn
from uvicorn.server import ServerState

from service.server import Guard, Protocol
from service.transport import CoalescingTransport
from tests.service.test_transport import Wire


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
        assert isinstance(protocol.transport, CoalescingTransport)
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
