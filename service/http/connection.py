"""A connection: parses requests, one at a time, and ends clients that are too slow, too fast or not speaking HTTP."""

import asyncio
import http
import itertools
import math
import re
import time
import urllib.parse
from collections import deque
from collections.abc import Sequence
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.server import ServerState

from service.access.local import UNIX
from service.http.cycle import Cycle
from service.http.pool import Pool

# Bytes of the request line and headers, and of the request line alone.
_MAX_HEAD, _MAX_LINE = 65_536, 16_384
# Each search for a header goes through all of them.
_MAX_HEADERS = 256
# Seconds for the head of a request to arrive.
_HEAD_SECONDS = 10.0
# While the application reads a body, at least this many bytes have to arrive in this many seconds.
_BODY_BYTES, _BODY_SECONDS = 10_000, 10.0
# Chunk headers, chunk extensions and trailers: a share of the content, and a number of bytes.
_FRAMING_SHARE, _MAX_FRAMING = 1 / 8, 1 << 14
# Bytes that are parsed before the limits are checked again.
_SLICE = 1 << 16
# The same for a chunked body. Only the parser finds its end, so requests behind it in the same slice are parsed ahead.
_CHUNKED_SLICE = 1 << 10
# An idle connection is kept longer than load balancers keep theirs: otherwise they would use a closed one.
_KEEP_ALIVE_SECONDS = 75.0
# Seconds after the end of the server in which a client that keeps its connection may still send a request. Closing at
# once would lose a request that is on its way.
_LAST_REQUEST_SECONDS = 1.0
# Seconds without a byte of the response taken by the client.
_STALL_SECONDS = 120.0
# Seconds for which a request may wait for its client. Until it ends, it holds a lease on a version of a model.
_REQUEST_SECONDS = 900.0
# Seconds for which a client that has closed its sending side still gets its response.
_HALF_CLOSED_SECONDS = 1.0
# Seconds for which a client may read a response that came before the end of its body.
_LINGER_SECONDS = 2.0
# Clients of a Unix socket have a number in place of a port.
_UNIX_CLIENTS = itertools.count(1)
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_UPGRADE = re.compile(rb"\nupgrade[ \t]*:", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """An HTTP/1.1 connection of uvicorn's server, safe against hostile clients.

    The parser gets a head when it is complete and within its limits, and the next request when the previous response
    is complete. `check` ends connections whose clients do not finish what they began. At the end of the server, uvicorn
    calls `shutdown` of each of the `connections` in its state, and awaits its `tasks`.

    Attributes:
        since: when the current request began or, without one, when the last response was complete (monotonic).
        writable: cleared while the client reads more slowly than the server writes.
    """

    def __init__(
        self,
        app: ASGIApp,
        pool: Pool,
        *,
        config: uvicorn.Config,  # noqa: ARG002  # uvicorn passes it to every protocol
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = app
        self._pool = pool
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._cycle: Cycle | None = None  # the current or last one
        self._fed: Cycle  # the one that was parsed last
        self._pipeline: deque[Cycle] = deque()  # requests that were parsed ahead
        self._buffer = bytearray()  # an incomplete head, or what arrived behind the current request
        self._searched = 0  # bytes of an incomplete head that do not contain its end
        self._in_body = False
        self._body_left: int | None = 0  # bytes of the body that have not arrived; None if it is chunked
        self._framing = 0.0  # bytes of a body that are not content, less its allowance
        self.writable = asyncio.Event()
        self.writable.set()
        self._unwritten: list[bytes] = []
        self._lingering = False  # closed except for what the client still reads
        self._ending = False  # the server ends
        self.since = self._marked_at = time.monotonic()
        self._received = self._marked = 0  # bytes so far, and the count when progress was seen last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        peer, own = (transport.get_extra_info(name) for name in ("peername", "sockname"))
        if isinstance(own, str):  # the path of a Unix socket, whose clients have no address
            self._client, self._server = (UNIX, next(_UNIX_CLIENTS)), (own, None)
        else:
            # IPv4 over a socket for both, as others write it: networks of proxies are compared with it.
            self._client = peer and (peer[0].removeprefix("::ffff:"), peer[1])
            self._server = own and own[:2]
        self._scheme = "https" if transport.get_extra_info("ssl_object") else "http"
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn's type names its own protocols
        if self._pool.join(self):
            self._pool.idle[self] = None
        else:
            self.refuse(503, "too many connections: try again later")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._state.connections.discard(self)
        self._pool.leave(self)
        self._pipeline.clear()
        self._buffer.clear()
        if self._cycle is not None:
            self._cycle.disconnect()
            if self._cycle.complete:
                # Breaks the reference cycles: the garbage of many connections makes a collection take 0.1 s.
                self._cycle = None
                del self._fed, self._parser
        self.resume_writing()

    def eof_received(self) -> bool:
        """Called when the client has closed its sending side. It may still wait for its response."""
        if self._cycle is None or self._cycle.complete or self._in_body:
            return False
        if not self._buffer:
            self._cycle.keep_alive = False
            self._loop.call_later(_HALF_CLOSED_SECONDS, self.close)
        return True

    def data_received(self, data: bytes) -> None:
        if not self._buffer and not self._in_body and self._answered:
            self.since = time.monotonic()
        self._received += len(data)
        self._buffer += data
        self._parse()

    def pause_writing(self) -> None:
        self.writable.clear()
        self._marked_at = time.monotonic()

    def resume_writing(self) -> None:
        self.writable.set()

    def shutdown(self) -> None:
        """Called by uvicorn when the server ends: closes the connection after the next response that can say so.

        That is the current one, unless its head has been sent. Without a request, the connection closes in a while.
        """
        self._ending = True
        if self._cycle is None or self._cycle.complete:
            self._loop.call_later(_LAST_REQUEST_SECONDS, self._close_unused)
        elif not self._cycle.started:
            self._cycle.keep_alive = False

    def _close_unused(self) -> None:
        if self._answered and not self._in_body:
            self.close()

    # What the cycle calls.

    @property
    def default_headers(self) -> Sequence[tuple[bytes, bytes]]:
        return self._state.default_headers

    @property
    def _closing(self) -> bool:
        return self._lingering or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Sends bytes, unless the connection is closing.

        Beside other requests, the responses of a batch leave together at the end of the event loop's step: their
        clients wake up once, and their next requests come together too. A lone request does not wait.
        """
        if self._unwritten:
            self._unwritten.append(data)
        elif len(self._state.tasks) > 1:
            self._unwritten.append(data)
            self._loop.call_soon(self._flush)
        elif not self._closing:
            self._transport.write(data)

    def _flush(self) -> None:
        data = b"".join(self._unwritten)
        self._unwritten.clear()
        if data and not self._closing:  # the client may have gone within the step
            self._transport.write(data)

    def pause_reading(self) -> None:
        self._pool.reads.cancel(self)
        if self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads from the client again, as soon as the throttle permits."""
        if not self._transport.is_reading():
            self._pool.reads.request(self, self._resume_reading)

    def _resume_reading(self) -> None:
        if not self._closing:
            self._transport.resume_reading()

    def response_complete(self, *, keep_alive: bool) -> None:
        self.since = time.monotonic()
        if not keep_alive:
            self.close()
        if self._closing:
            if self._lingering:
                self._pool.idle[self] = None
        elif self._pipeline:
            self._start(self._pipeline.popleft())
        elif self._buffer:
            self.pause_reading()
            self._pool.pipelined.request(self, self._parse)
        else:
            self.resume_reading()
            self._pool.idle[self] = None
            if self._ending:
                self._loop.call_later(_LAST_REQUEST_SECONDS, self._close_unused)

    def close(self, *, linger: bool = True) -> None:
        """Closes the connection.

        With bytes unread, closing a socket resets the connection, and the client may lose its response (RFC 9112,
        9.6). While a body is still arriving, only the sending side is closed at first.
        """
        self._flush()
        if not (linger and self._in_body) or self._closing:
            self._transport.close()
            return
        self._lingering = True
        self.pause_reading()
        self._transport.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self._transport.close)

    # Parsing.

    @property
    def _answered(self) -> bool:
        """Whether no request is waiting for its response."""
        return self._cycle is None or self._fed.complete

    def _parse(self) -> None:
        """Parses the buffer to the end of a request. The rest stays there until that request has been answered."""
        begins = not self._in_body
        while self._buffer and not self._closing:
            if self._in_body:
                self._parse_body()
            elif not self._answered:
                self.pause_reading()
                return
            elif not self._parse_head():
                self.resume_reading()
                return
        if begins and self._in_body and not self._closing:
            # Until the application asks for the body: a refused body is not read, and a client on this machine does
            # not spend this process's time in the kernel.
            self.pause_reading()

    def _parse_body(self) -> None:
        part = self._take(min(_SLICE, self._body_left or _CHUNKED_SLICE))
        if self._body_left:
            self._body_left -= len(part)
            self._feed(part)
            return
        self._framing += len(part)
        self._feed(part)
        if self._framing > _MAX_FRAMING and self._in_body:
            self.refuse(400, "the body of the request has too little in its chunks, or too much around them")

    def _parse_head(self) -> bool:
        """Parses a head; returns whether it is complete."""
        end = _END_OF_HEAD.search(self._buffer, max(0, self._searched - 2), _MAX_HEAD)
        if end is None:
            self._searched = len(self._buffer)
            if len(self._buffer) > _MAX_HEAD:
                self.refuse(431, f"the head of the request is over {_MAX_HEAD} bytes")
            return False
        if self._buffer.find(b"\n", 0, _MAX_LINE) < 0:
            self.refuse(414, f"the request line is over {_MAX_LINE} bytes")
            return False
        self._searched = 0
        head = self._take(end.end())
        if head.count(b"\n") > _MAX_HEADERS + 2:
            self.refuse(431, f"the request has over {_MAX_HEADERS} headers")
            return False
        # A server declines an upgrade by ignoring it. The parser would stop at the header.
        if b"pgrade" in head:
            head = _UPGRADE.sub(b"\nx-upgrade:", head)
        self._framing = 0.0
        self._marked, self._marked_at = self._received, self.since
        self._pool.idle.pop(self, None)
        self._feed(head)
        return True

    def _take(self, most: int) -> bytes:
        part = bytes(self._buffer[:most])
        del self._buffer[:most]
        return part

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # of a CONNECT, which no route takes
            pass
        except httptools.HttpParserError:
            self.refuse(400, "Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._body_left = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for each header, and for each trailer, which is ignored."""
        if self._in_body:
            return
        name = name.lower()
        if name == b"content-length":
            self._body_left = int(value)
        elif name == b"transfer-encoding":
            self._body_left = None
        elif name == b"expect":
            self._expects_continue = value.lower() == b"100-continue"
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_body = True
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii")
        version = self._parser.get_http_version()
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "scheme": self._scheme,
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": self._headers,
            "client": self._client,
            "server": self._server,
            "state": self._app_state.copy(),
        }
        keep_alive = version != "1.0" and self._parser.should_keep_alive() and not self._pool.draining
        cycle = self._fed = Cycle(self, scope, keep_alive=keep_alive, expects_continue=self._expects_continue)
        if self._cycle is None or self._cycle.complete:
            self._start(cycle)
        else:
            self.pause_reading()
            self._pipeline.append(cycle)

    def on_body(self, body: bytes) -> None:
        self._framing -= (1 + _FRAMING_SHARE) * len(body)
        self._fed.feed(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._fed.feed_end()

    def _start(self, cycle: Cycle) -> None:
        self._cycle = cycle
        cycle.task = self._loop.create_task(cycle.run(self._app))
        self._state.tasks.add(cycle.task)

    def task_done(self, task: "asyncio.Task[None]") -> None:
        """Called at the end of a cycle's task. A callback of the task would cost a step of the event loop."""
        self._state.tasks.discard(task)

    # Limits.

    def idle_seconds(self, now: float) -> float:
        """Seconds since the last response; infinite before the first, and for a connection that only lingers."""
        return math.inf if self._cycle is None or self._lingering else now - self.since

    @property
    def waits_for_client(self) -> bool:
        """Whether the client is sending a body or reading a response."""
        return self._in_body or not self.writable.is_set()

    def check(self, now: float) -> None:
        """Ends the connection if its client is too slow. Called once a second."""
        if self.waits_for_client and now - self.since > _REQUEST_SECONDS:
            self.refuse(408, f"the request has taken over {_REQUEST_SECONDS:g} s")
        elif not self.writable.is_set():
            if self._stalls(now, self._transport.get_write_buffer_size(), 1, _STALL_SECONDS):
                self._transport.abort()
        elif self._closing:
            return
        elif self._in_body:
            if not self._transport.is_reading():
                self._marked_at = now  # the application holds it up, not the client
            elif self._stalls(now, self._received, _BODY_BYTES, _BODY_SECONDS):
                self.refuse(408, "the body of the request comes too slowly")
        elif self._answered:
            beginning = self._cycle is None or self._buffer
            if now - self.since > (_HEAD_SECONDS if beginning else _KEEP_ALIVE_SECONDS):
                if self._buffer:
                    self.refuse(408, "the head of the request did not come in time")
                else:
                    self.close()

    def _stalls(self, now: float, count: int, least: int, seconds: float) -> bool:
        """Whether a count has changed by less than `least` for some seconds."""
        if abs(count - self._marked) >= least:
            self._marked, self._marked_at = count, now
        return now - self._marked_at > seconds

    def refuse(self, status: int, why: str) -> None:
        """Responds in place of the application, and closes the connection; aborts it if a response has begun."""
        cycle = self._cycle
        if cycle is not None and cycle.started and (self.waits_for_client or not cycle.complete):
            self._transport.abort()
            return
        body = why.encode()
        head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: text/plain\r\n"
        self._buffer.clear()
        self.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        # At once: the application may wait for the rest of a body that will never arrive.
        self.close(linger=False)
