"""One request and its response on a connection: the ASGI callables `receive` and `send`."""

import asyncio
import http
import logging
from collections.abc import Sequence
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

logger = logging.getLogger("service")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = (204, 304)
_DISCONNECT: Message = {"type": "http.disconnect"}
# A body is buffered up to this many bytes; beyond them the connection stops reading until the application asks.
_HIGH_WATER_BYTES = 1 << 16


class Channel(Protocol):
    """What a cycle needs of its `Connection`."""

    write_paused: bool

    @property
    def default_headers(self) -> Sequence[tuple[bytes, bytes]]: ...
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def response_complete(self, *, keep_alive: bool) -> None: ...
    def task_done(self) -> None: ...
    def close(self) -> None: ...


class Cycle:
    """A request and its response.

    Args:
        channel: the connection.
        scope: ASGI scope of the request.
        keep_alive: whether the connection stays open after the response.
        expects_continue: whether the client waits for `100 Continue` before it sends the body.

    Attributes:
        keep_alive: see above.
        started: whether a part of the response has been written.
        complete: whether all of it has.
        disconnected: whether the client has hung up.
    """

    __slots__ = (
        "_channel",
        "_chunked",
        "_chunks",
        "_event",
        "_expects_continue",
        "_head",
        "_left",
        "_more_body",
        "_news",
        "_size",
        "complete",
        "disconnected",
        "keep_alive",
        "scope",
        "started",
    )

    def __init__(self, channel: Channel, scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.started = self.complete = self.disconnected = False
        self._channel = channel
        self._expects_continue = expects_continue
        self._chunks: list[bytes] = []
        self._size = 0
        self._more_body = True
        self._news = False  # whether `receive` has something to return
        self._event: asyncio.Event | None = None
        self._head: bytes | None = None  # of the response; it is written with the first part of the body
        self._chunked = False
        self._left = 0

    def feed(self, body: bytes) -> None:
        """Adds a part of the request's body."""
        if self.complete:
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > _HIGH_WATER_BYTES:
            self._channel.pause_reading()
        self._wake()

    def feed_end(self) -> None:
        """Marks the request's body as complete."""
        self._more_body = False
        self._wake()

    def disconnect(self) -> None:
        """Tells the application that the client has hung up."""
        self.disconnected = not self.complete
        self._wake()

    async def run(self, app: ASGIApp) -> None:
        """Has the application answer the request; whatever it leaves out is answered 500, or ends the connection."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException:
            logger.exception("the application failed")
            await self._fail()
        else:
            if not self.complete and not self.disconnected:
                logger.error("the application returned without completing its response")
                await self._fail()
        finally:
            self._channel.task_done()

    async def receive(self) -> Message:
        channel = self._channel
        if self._expects_continue:
            self._expects_continue = False
            if not self.started:
                channel.write(_CONTINUE)
        if not self.disconnected and not self.complete:
            channel.resume_reading()
            if not self._news:
                if self._event is None:
                    self._event = asyncio.Event()
                self._event.clear()
                await self._event.wait()
        self._news = False
        if self.disconnected or self.complete:
            return _DISCONNECT
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    async def send(self, message: Message) -> None:
        """See the ASGI specification. The head is written together with the first part of the body.

        Raises:
            RuntimeError: the message does not fit what was sent before.
        """
        channel = self._channel
        if channel.write_paused and not self.disconnected:
            await channel.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and self._head is None and not self.started:
            self._head = self._encode_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and not self.complete and (self._head is not None or self.started):
            self._write_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def _wake(self) -> None:
        self._news = True
        if self._event is not None:
            self._event.set()

    async def _fail(self) -> None:
        if self.started or self.disconnected:
            self._channel.close()
            return
        self._head = None
        self.keep_alive = False
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"21")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"Internal Server Error"})

    def _encode_head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        length: int | None = None
        closes = False
        for name, value in (*self._channel.default_headers, *headers):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                closes = True
                self.keep_alive = False
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        self._chunked = False
        if self.scope["method"] == "HEAD" or status in _BODILESS:
            self._left = -1
        elif length is None:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            self._left = length
        head = b"".join(lines)
        # Guards against header injection: a value from a client must not add lines to the head.
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a header of the response holds a line break or a null byte")
        return head + b"\r\n"

    def _write_body(self, body: bytes, more: bool) -> None:
        if self._left < 0:
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        else:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body of the response is not as long as its content-length")
        if self._head is not None:
            body = self._head + body
            self._head = None
            self.started = True
        self._channel.write(body)
        if not more:
            self.complete = True
            self._wake()
            self._channel.response_complete(keep_alive=self.keep_alive)
