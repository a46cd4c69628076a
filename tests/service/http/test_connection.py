"""What a connection takes from its client, and when it ends."""

import asyncio
import inspect
import time
from typing import Any

import pytest
import uvicorn

from service.http.connection import Connection
from service.http.cycle import Cycle
from service.http.pool import Pool
from tests.service.http.wire import Wire, connect

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


async def test_what_it_and_the_server_use_of_uvicorn_is_there():
    """If this fails, uvicorn calls its protocols, or the methods that the server overrides, in another way."""
    connection = connect(Wire())
    assert {"config", "server_state", "app_state", "_loop"} <= set(inspect.signature(Connection).parameters)
    assert connection in connection._state.connections
    assert connection._state.tasks == set()
    assert list(connection._state.default_headers) == []
    for part in ("for server in self.servers", "server.close()", "connection.shutdown()"):
        assert part in inspect.getsource(uvicorn.Server.shutdown)
    # With an empty list it starts the application alone.
    assert "for sock in sockets" in inspect.getsource(uvicorn.Server.startup)
    for method, parameters in (
        ("startup", ["self", "sockets"]),
        ("shutdown", ["self", "sockets"]),
        ("handle_exit", ["self", "sig", "frame"]),
    ):
        assert list(inspect.signature(getattr(uvicorn.Server, method)).parameters) == parameters


async def test_the_scope_of_a_request():
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    connect(Wire(), app).data_received(b"GET /a%20b?x=%201 HTTP/1.1\r\nHOST: x\r\nA: 1\r\nA: 2\r\n\r\n")
    await asyncio.sleep(0.01)
    (scope,) = scopes
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/a b", b"/a%20b")
    assert (scope["query_string"], scope["http_version"], scope["root_path"]) == (b"x=%201", "1.1", "")
    assert scope["headers"] == [(b"host", b"x"), (b"a", b"1"), (b"a", b"2")]


@pytest.mark.parametrize(
    ("peer", "own", "client", "server"),
    [
        (("192.0.2.7", 40000), ("192.0.2.1", 80), ("192.0.2.7", 40000), ("192.0.2.1", 80)),
        (("::ffff:192.0.2.7", 40000, 0, 0), ("::", 80, 0, 0), ("192.0.2.7", 40000), ("::", 80)),
        (("2001:db8::7", 40000, 0, 0), ("::", 80, 0, 0), ("2001:db8::7", 40000), ("::", 80)),
        (None, ("192.0.2.1", 80), None, ("192.0.2.1", 80)),  # it has left
    ],
)
async def test_addresses(peer: Any, own: Any, client: Any, server: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Wire, "get_extra_info", lambda _, name: {"peername": peer, "sockname": own}.get(name))
    connection = connect(Wire())
    assert (connection._client, connection._server) == (client, server)


async def test_each_client_of_a_unix_socket_is_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Wire, "get_extra_info", lambda _, name: {"peername": "", "sockname": "/run/q.sock"}.get(name))
    one, other = connect(Wire()), connect(Wire())
    assert one._client[0] == other._client[0] == "unix"
    assert one._client != other._client
    assert one._server == ("/run/q.sock", None)


async def test_trailers_are_no_headers():
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        scopes.append(scope)

    connect(Wire(), app).data_received(CHUNKED[:-2] + b"content-type: image/png\r\n\r\n")
    await asyncio.sleep(0.01)
    assert [name for name, _ in scopes[0]["headers"]] == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize(
    ("request_", "ahead"),
    [(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1), (POST, 1), (CHUNKED, 16)],
    ids=["get", "body", "chunks"],
)
async def test_few_requests_of_a_connection_are_parsed_before_they_are_answered(
    request_: bytes, ahead: int, monkeypatch: pytest.MonkeyPatch
):
    begun: list[Cycle] = []

    class Counted(Cycle):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            begun.append(self)
            assert sum(not cycle.complete for cycle in begun) <= ahead

    monkeypatch.setattr("service.http.connection.Cycle", Counted)
    wire = Wire()
    connection = connect(wire)
    data = request_ * 200
    for start in range(0, len(data), 1 << 16):  # as the event loop would read it
        connection.data_received(data[start : start + (1 << 16)])
    assert wire.paused
    for _ in range(2_000):
        await asyncio.sleep(0)
    assert wire.sent.count(b"HTTP/1.1 200") == 200
    assert not wire.paused


async def test_responses_beside_other_requests_are_written_at_the_end_of_the_step():
    wire = Wire()
    connection = connect(wire)
    connection.write(b"alone")
    assert wire.written == [b"alone"]
    connection._state.tasks.update([1, 2])  # type: ignore[arg-type]
    connection.write(b"head")
    connection._state.tasks.clear()
    connection.write(b"body")
    assert wire.written == [b"alone"]
    await asyncio.sleep(0)
    assert wire.written == [b"alone", b"headbody"]


async def test_closing_writes_what_was_held_back_and_a_client_that_is_gone_gets_nothing():
    for gone in (False, True):
        wire = Wire()
        connection = connect(wire)
        connection._state.tasks.update([1, 2])  # type: ignore[arg-type]
        connection.write(b"last words")
        wire.closed = gone
        connection.close()
        await asyncio.sleep(0)
        assert (wire.sent, wire.closed) == (b"" if gone else b"last words", True)


async def test_too_many_headers_are_refused():
    wire = Wire()
    connection = connect(wire)
    connection.data_received(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 256 + b"\r\n")
    await asyncio.sleep(0)
    connection.data_received(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 257 + b"\r\n")
    assert [written[:12] for written in wire.written] == [b"HTTP/1.1 200", b"HTTP/1.1 431"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_body_that_is_no_http_does_not_write_into_a_response_under_way(begun: bool):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(10)

    wire = Wire()
    connection = connect(wire, app)
    connection.data_received(CHUNKED[:-5])
    await asyncio.sleep(0.01)
    connection.data_received(b"this is no chunk\r\n")
    assert wire.aborted == begun
    assert (b"HTTP/1.1 400 " in wire.sent) != begun
    connection._state.tasks.pop().cancel()


async def test_a_client_whose_body_is_not_read_has_time_to_read_its_response(monkeypatch: pytest.MonkeyPatch):
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body"})

    monkeypatch.setattr("service.http.connection._LINGER_SECONDS", 0.02)
    wire, pool = Wire(), Pool(10)
    connection = connect(wire, refuse, pool)
    connection.data_received(POST[:-1])
    await asyncio.sleep(0.01)
    assert wire.sent.startswith(b"HTTP/1.1 413 ")
    assert (wire.ended, wire.paused, wire.closed) == (True, True, False)
    assert connection in pool.idle  # it gives way to others first
    connection.write(b"more")
    await asyncio.sleep(0.05)
    assert wire.closed
    assert b"more" not in wire.sent


async def test_closing_again_does_not_wait():
    wire = Wire()
    connection = connect(wire)
    connection.data_received(POST[:-1])
    connection.close()
    assert not wire.closed
    connection.close()
    assert wire.closed


async def test_a_draining_server_closes_its_connections_with_their_responses():
    wire, pool = Wire(), Pool(10)
    connection = connect(wire, pool=pool)
    connection.data_received(POST)
    await asyncio.sleep(0.01)
    assert not wire.closed
    pool.draining = True
    connection.data_received(POST)
    await asyncio.sleep(0.01)
    assert wire.written[1].startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n")
    assert wire.closed


async def test_an_idle_connection_is_kept_for_a_while():
    wire = Wire()
    connection = connect(wire)
    connection.data_received(POST)
    await asyncio.sleep(0.01)
    connection.check(time.monotonic() + 74)
    assert not wire.closed
    connection.check(time.monotonic() + 76)
    assert wire.closed


async def test_a_request_that_waits_for_its_client_ends_after_a_while_whatever_its_pace():
    wire = Wire()
    connection = connect(wire)
    connection.data_received(POST[:-1])
    now = time.monotonic()
    for second in range(890):
        connection._received += 5_000
        connection.check(now + second)
        assert not wire.closed
    connection.check(now + 901)
    assert b"408" in wire.sent


async def test_a_client_that_reads_nothing_of_its_response_is_dropped(monkeypatch: pytest.MonkeyPatch):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(10)

    wire = Wire()
    unsent = 1000
    monkeypatch.setattr(wire, "get_write_buffer_size", lambda: unsent, raising=False)
    connection = connect(wire, app)
    connection.data_received(POST)
    connection.pause_writing()
    now = time.monotonic()
    for second in range(0, 300, 100):
        connection.check(now + second)
        unsent -= 1
    assert not wire.closed
    connection.check(now + 300)
    connection.check(now + 421)
    assert wire.aborted
    connection._state.tasks.pop().cancel()


async def test_an_unused_connection_is_answered_once_more_when_the_server_ends():
    wire, pool = Wire(), Pool(10)
    connection = connect(wire, pool=pool)
    connection.data_received(POST)
    await asyncio.sleep(0.01)
    pool.draining = True
    connection.shutdown()
    assert not wire.closed
    connection.data_received(POST)
    await asyncio.sleep(0.01)
    first, last = wire.sent.split(b"HTTP/1.1 200")[1:]
    assert b"connection: close" not in first
    assert b"connection: close" in last
    assert wire.closed


@pytest.mark.parametrize("sent", [b"", POST, b"GET / HT"], ids=["new", "kept", "half a head"])
async def test_an_unused_connection_closes_soon_after_the_end_of_the_server(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.http.connection._LAST_REQUEST_SECONDS", 0.05)
    wire = Wire()
    connection = connect(wire)
    connection.data_received(sent)
    await asyncio.sleep(0.01)
    connection.shutdown()
    assert not wire.closed
    await asyncio.sleep(0.1)
    assert wire.closed


async def test_a_response_that_could_not_say_that_the_connection_closes_is_followed_by_one_that_does(
    monkeypatch: pytest.MonkeyPatch,
):
    more = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await more.wait()
        await send({"type": "http.response.body"})

    monkeypatch.setattr("service.http.connection._LAST_REQUEST_SECONDS", 0.05)
    for asks_again in (True, False):
        more.clear()
        wire, pool = Wire(), Pool(10)
        connection = connect(wire, stream, pool)
        connection.data_received(POST)
        await asyncio.sleep(0.01)
        pool.draining = True
        connection.shutdown()
        more.set()
        await asyncio.sleep(0.01)
        assert wire.sent.endswith(b"0\r\n\r\n")
        assert b"connection: close" not in wire.sent
        assert not wire.closed
        if asks_again:
            connection.data_received(POST)
            await asyncio.sleep(0.01)
            assert b"connection: close" in wire.sent
            assert wire.closed
        else:
            await asyncio.sleep(0.1)
            assert wire.closed
