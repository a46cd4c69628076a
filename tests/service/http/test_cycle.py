"""What an application may send, and what is written for it."""

import asyncio
import logging
from typing import Any

import pytest

from tests.service.http.wire import Wire, connect

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer(*messages: dict[str, Any], request: bytes = GET) -> Wire:
    """What is written where the application sends these messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    wire = Wire()
    connect(wire, app).data_received(request)
    await asyncio.sleep(0.01)
    return wire


async def test_head_and_body_are_one_write():
    wire = await answer(start((b"content-length", b"2")), body(b"ok"))
    assert wire.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]
    assert not wire.closed


async def test_a_body_of_unknown_length_is_sent_in_chunks():
    wire = await answer(start(), body(b"one", True), body(b"", True), body(b"two"))
    assert wire.sent.endswith(b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"), [(GET.replace(b"GET", b"HEAD"), 200), (GET, 204), (GET, 304)], ids=["head", "204", "304"]
)
async def test_no_body_where_there_is_none(request_: bytes, status: int):
    wire = await answer(start((b"content-length", b"3"), status=status), body(b"abc"), request=request_)
    assert wire.sent.endswith(b"content-length: 3\r\n\r\n")
    assert not wire.closed


@pytest.mark.parametrize("request_", [GET.replace(b"1.1", b"1.0"), GET.replace(b"Host", b"Connection: close\r\nHost")])
async def test_a_connection_that_is_not_kept_says_so_and_is_closed(request_: bytes):
    wire = await answer(start((b"content-length", b"0")), body(), request=request_)
    assert b"connection: close\r\n" in wire.sent
    assert wire.closed


async def test_an_application_may_close_the_connection():
    wire = await answer(start((b"content-length", b"0"), (b"connection", b"close")), body())
    assert wire.sent.count(b"connection: close") == 1
    assert wire.closed


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b"])
async def test_a_header_cannot_hold_a_line_break(value: bytes, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR):
        wire = await answer(start((b"x", value), (b"content-length", b"0")), body())
    assert wire.sent.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in wire.sent
    assert "line break" in caplog.text


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [start()],
        [body()],
        [start(), start()],
        [start((b"content-length", b"2")), body(b"abc")],
        [start((b"content-length", b"2")), body(b"a")],
    ],
    ids=["nothing", "no body", "no start", "two starts", "too long", "too short"],
)
async def test_an_application_that_does_not_answer_properly_is_a_500(
    messages: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.CRITICAL):
        wire = await answer(*messages)
    assert wire.sent.startswith(b"HTTP/1.1 500 ")
    assert wire.closed


async def test_a_failure_within_a_response_ends_the_connection(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.CRITICAL):
        wire = await answer(start(), body(b"half", True))
    assert wire.sent.endswith(b"\r\n4\r\nhalf\r\n")
    assert wire.closed


async def test_a_client_that_expects_100_gets_it_when_the_body_is_wanted():
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])
        await send(start((b"content-length", b"0")))
        await send(body())

    wire = Wire()
    connection = connect(wire, app)
    connection.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    await asyncio.sleep(0.01)
    assert wire.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    connection.data_received(b"abc")
    await asyncio.sleep(0.01)
    assert bodies == [b"abc"]
    assert wire.written[1].startswith(b"HTTP/1.1 200 OK\r\n")


async def test_an_application_hears_that_its_client_has_gone():
    messages: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend([await receive(), await receive()])
        await send(start())  # to nobody

    wire = Wire()
    connection = connect(wire, app)
    connection.data_received(GET)
    await asyncio.sleep(0.01)
    connection.connection_lost(None)
    await asyncio.sleep(0.01)
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    assert wire.written == []


async def test_a_slow_reader_holds_up_the_application():
    wire = Wire()
    connection = connect(wire)
    connection.pause_writing()
    connection.data_received(GET)
    await asyncio.sleep(0.01)
    assert wire.written == []
    connection.resume_writing()
    await asyncio.sleep(0.01)
    assert wire.sent.startswith(b"HTTP/1.1 200 ")
