"""One request and its response on a connection: the ASGI callables `receive` and `send`."""

import asyncio
import http
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Scope

if TYPE_CHECKING:
    from service.http.connection import Connection

logger = logging.getLogger("service")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
_BODILESS = (204, 304)
# A body is buffered up to this many bytes; beyond them the connection stops reading until the application asks.
_HIGH_WATER_BYTES = 1 << 16


class Cycle:
    """A request and its response.

    Attributes:
        keep_alive: whether the connection stays open after the response.
        started: whether a part of the response has been written.
        complete: whether all of it has.
        disconnected: whether the client has hung up.
    """

    def __init__(self, connection: "Connection", scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.started = self.complete = self.disconnected = False
        self.task: asyncio.Task[None]
        self._connection = connection
        self._expects_continue = expects_continue
        self._chunks: list[bytes] = []
        self._size = 0
        self._more_body = True
        self._news = asyncio.Event()  # `receive` has something to return
        self._head: bytes | None = None  # of the response; it is written with the first part of the body
        self._left: int | None = 0  # bytes of the response's body; None if it is chunked

    def feed(self, body: bytes) -> None:
        """Adds a part of the request's body."""
        if self.complete:
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._size > _HIGH_WATER_BYTES:
            self._connection.pause_reading()
        self._news.set()

    def feed_end(self) -> None:
        """Marks the request's body as complete."""
        self._more_body = False
        self._news.set()

    def disconnect(self) -> None:
        """Tells the application that the client has hung up."""
        self.disconnected = not self.complete
        self._news.set()

    async def run(self, app: ASGIApp) -> None:
        """Runs the application. If it fails, the client gets a 500, or the connection ends within the response."""
        try:
            await app(self.scope, self.receive, self.send)
            if not self.complete and not self.disconnected:
                raise RuntimeError("the application returned without completing its response")
        except BaseException:
            logger.exception("the application failed")
            if self.started or self.disconnected:
                self._connection.close()
            else:
                self._connection.refuse(500, "Internal Server Error")
        finally:
            self._connection.task_done(self.task)

    async def receive(self) -> Message:
        if self._expects_continue and not self.started:
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects_continue = False
        if not self.disconnected and not self.complete:
            self._connection.resume_reading()
            await self._news.wait()
            self._news.clear()
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    async def send(self, message: Message) -> None:
        """See the ASGI specification. The head is written together with the first part of the body."""
        if not self._connection.writable.is_set():
            await self._connection.writable.wait()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and self._head is None and not self.started:
            self._head = self._encode_head(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and not self.complete and (self._head is not None or self.started):
            self._write_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def _encode_head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        length: int | None = None
        closes = False
        for name, value in (*self._connection.default_headers, *headers):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                closes = True
                self.keep_alive = False
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        self._bodiless = self.scope["method"] == "HEAD" or status in _BODILESS
        self._left = length
        if length is None and not self._bodiless:
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        # Guards against header injection: a value from a client must not add lines to the head.
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a header of the response holds a line break or a null byte")
        return head + b"\r\n"

    def _write_body(self, body: bytes, more: bool) -> None:
        if self._bodiless:
            body = b""
        elif self._left is None:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        else:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body of the response is not as long as its content-length")
        if self._head is not None:
            if len(body) > _HIGH_WATER_BYTES:  # which costs more to copy than to write apart
                self._connection.write(self._head)
            else:
                body = self._head + body
            self._head = None
            self.started = True
        self._connection.write(body)
        if not more:
            self.complete = True
            self._news.set()
            self._connection.response_complete(keep_alive=self.keep_alive)
