"""Uvicorn as the service runs it. This is the only module that relies on undocumented parts of uvicorn.

Connections and what comes over them are bounded, the port opens once the models are warm, and a signal has the models
reloaded.
"""

import asyncio
import http
import logging
import math
import re
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.stack.application import Application
from service.transport import CoalescingTransport, StepLimit

logger = logging.getLogger("service")

# The most bytes of a request's line and headers, and of the line alone.
_MOST_HEAD, _MOST_LINE = 65_536, 16_384
# Everything that looks for a header goes through all of them.
_MOST_HEADERS = 256
# Seconds in which a head has to come.
_HEAD_SECONDS = 10.0
# A body has to bring so many bytes in so many seconds, for as long as it is wanted.
_BODY_BYTES, _BODY_SECONDS = 10_000, 10.0
# Chunk headers, chunk extensions and trailers of a body: a share of its content, and so many bytes.
_FRAMING_SHARE, _MOST_FRAMING = 1 / 8, 1 << 14
# What is parsed at once, before the limits are looked at again.
_SLICE = 1 << 16
# Of a chunked body, whose end only the parser finds: requests that follow it in the same slice are parsed ahead.
_CHUNKED_SLICE = 1 << 10
# Bodies that are read in one step of the event loop, which takes two milliseconds or so.
_READS_PER_STEP = 8
# Pipelined requests that begin in one step: clients that wait for their answers do not wait for these.
_PIPELINED_PER_STEP = 4
# Seconds since the last request after which a connection is idle.
_IDLE_SECONDS = 1.0
# Seconds after which a client that is waited for gives way where there are too many.
_WAITED_FOR_SECONDS = 5.0
# Seconds for which an idle connection is kept: longer than load balancers keep theirs, or they would use a closed one.
_KEEP_ALIVE_SECONDS = 75
# Seconds for which a client may take nothing of its answer.
_STALL_SECONDS = 120.0
# Seconds after which a request ends that still waits for its client; until then it holds a lease on a version.
_REQUEST_SECONDS = 900.0
# Seconds for which an answer is still made for a client that has closed its sending side.
_HALF_CLOSED_SECONDS = 1.0
_SWEEP_SECONDS = 1.0
# Files and sockets beside the connections: listener, models, threads, what libraries open.
_OTHER_FILES = 128
_UPGRADE = re.compile(rb"\nupgrade[ \t]*:", re.IGNORECASE)


class Guard:
    """The connections of a server: how many there may be, and which of them are idle, the longest first.

    Args:
        most: connections at a time.

    Attributes:
        reads: of bodies.
        pipelined: requests that had been received before the one before them was answered.
        draining: whether clients are to open their next connection, which another server will get.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.reads = StepLimit(_READS_PER_STEP)
        self.pipelined = StepLimit(_PIPELINED_PER_STEP)
        self.draining = False
        self.idle: dict[Protocol, None] = {}

    def make_room(self, connections: Collection[Any]) -> bool:
        """Whether one more connection may stay.

        The one that has been idle for longest gives way to it; if none has been for long, the one that sends its body,
        or takes its answer, for longest. Clients that ask again and again keep their connections.
        """
        if len(connections) <= self.most:
            return True
        now = time.monotonic()
        longest = next((each for each in self.idle if each.idle_seconds(now) >= _IDLE_SECONDS), None)
        if longest is not None:
            del self.idle[longest]
            longest.transport.close()
            return True
        waited_for = [connection for connection in connections if connection.waits_for_client]
        slowest = min(waited_for, key=lambda connection: connection.since, default=None)
        if slowest is None or now - slowest.since < _WAITED_FOR_SECONDS:
            return False
        slowest.end_request(408, "the body of the request comes too slowly for a server without a connection to spare")
        return True


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol on a coalescing transport, safe against hostile clients.

    The parser sees a head only when it is complete and of a bounded length, and the next request only when the one
    before has been answered. `check` ends connections that have not sent what they began.

    Attributes:
        guard: of the server's connections.
        since: when the head that is awaited could have begun, or the last one did; on the monotonic clock.
    """

    guard = Guard(1_000_000)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        self._out = CoalescingTransport(transport, self.tasks, self.loop, self.guard.reads)
        super().connection_made(self._out)  # type: ignore[arg-type]
        self._head = bytearray()
        self._in_body = False
        self._body_left: int | None = 0  # bytes of the body that have not come; None where only the parser knows
        self._ahead = b""  # what was received behind the request that is being answered, and where parsing goes on
        self._ahead_at = 0
        self.since = time.monotonic()
        self._received = self._marked = 0  # bytes so far, and at the last mark
        self._marked_at = self.since
        self._unsent = 0
        self._framing = 0.0  # bytes of a body that are none of its content, less those that it may have
        if self.guard.make_room(self.connections):
            self.guard.idle[self] = None
        else:
            self._refuse(503, "too many connections: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop when a connection has ended."""
        self.guard.idle.pop(self, None)
        self.guard.pipelined.leave(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Called when the client has closed its sending side: it may still wait for its answer, or have gone."""
        if self.cycle is None or self.cycle.response_complete or self._in_body:
            return False
        if self._ahead:
            return True
        self.cycle.keep_alive = False
        self.loop.call_later(_HALF_CLOSED_SECONDS, self.transport.close)
        return True

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what has come."""
        self._received += len(data)
        if self._ahead:
            # The application waits for a message, and has resumed reading.
            self._ahead = self._ahead[self._ahead_at :] + data
            self._ahead_at = 0
            self.flow.pause_reading()
        else:
            self._parse(data, 0)

    def _parse(self, data: bytes, at: int) -> None:
        """Parses from an index on, up to the end of a request; keeps the rest until that has been answered."""
        begun = False
        while at < len(data) and not self.transport.is_closing():
            if self._in_body:
                most = min(_SLICE, self._body_left or _CHUNKED_SLICE)
                self._parse_body(data[at : at + most])
                at += most
            elif self.cycle is None or self.cycle.response_complete:
                data, at = self._parse_head(data, at)
                begun = True
            else:
                self._ahead, self._ahead_at = data, at
                self.flow.pause_reading()
                return
        if begun and self._in_body and not self.transport.is_closing():
            # Until the application asks for the body: no more is taken in of one that is refused, and what the kernel
            # of a client on this machine sends meanwhile would cost this process's time.
            self.flow.pause_reading()

    def _parse_ahead(self) -> None:
        data, self._ahead = self._ahead, b""
        self._parse(data, self._ahead_at)

    def _parse_body(self, part: bytes) -> None:
        if self._body_left:
            self._body_left -= len(part)
        self._framing += len(part)
        super().data_received(part)
        if self._framing > _MOST_FRAMING and self._in_body:
            self.end_request(400, "the body of the request has too little in its chunks, or too much around them")

    def _parse_head(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Parses a head, or keeps its beginning; returns the data, and the index of what follows in it."""
        if not self._head:
            self.since = time.monotonic()
        if self._head:
            data, at = bytes(self._head) + data[at:], 0
            self._head.clear()
        end = _end_of_head(data, at, at + _MOST_HEAD + 3)
        if end - at > _MOST_HEAD or (end < 0 and len(data) - at > _MOST_HEAD):
            self._refuse(431, f"the head of the request is over {_MOST_HEAD} bytes")
            return data, len(data)
        if end < 0:
            self._head += data[at:]
            self._unset_keepalive_if_required()
            return data, len(data)
        if data.find(b"\n", at, at + _MOST_LINE) < 0:
            self._refuse(414, f"the request line is over {_MOST_LINE} bytes")
            return data, len(data)
        self._framing = 0.0
        self._marked, self._marked_at = self._received, self.since
        self.guard.idle.pop(self, None)
        head = data[at:end]
        if head.count(b"\n") > _MOST_HEADERS + 2:
            self._refuse(431, f"the request has over {_MOST_HEADERS} headers")
            return data, len(data)
        # HTTP/1.1 is the only protocol here, which a server says by ignoring the offer; the parser would stop.
        if b"pgrade" in head:
            head = _UPGRADE.sub(b"\nx-upgrade:", head)
        super().data_received(head)
        return data, end

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_body = self._out.unread = True
        self._body_left = _stated_length(self.headers)
        super().on_headers_complete()
        if self.guard.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._framing -= (1 + _FRAMING_SHARE) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._in_body = self._out.unread = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer has been sent."""
        super().on_response_complete()
        if self._ahead and not self.pipeline:
            self.guard.pipelined.ask(self, self._parse_ahead)
        elif self._out.lingering or not (self.pipeline or self.transport.is_closing()):
            self.guard.idle[self] = None

    def idle_seconds(self, now: float) -> float:
        """How long ago the last request began; infinite before the first, and once only an answer is to be read."""
        return math.inf if self.cycle is None or self._out.lingering else now - self.since

    @property
    def waits_for_client(self) -> bool:
        """Whether a request is being received, or an answer waits to be taken."""
        return self._in_body or self.flow.write_paused

    def end_request(self, status: int, why: str) -> None:
        """Ends a request that waits for its client, with an answer if there is none yet."""
        if self.cycle is None:
            self.transport.abort()
        else:
            self._refuse(status, why)

    def send_400_response(self, msg: str) -> None:
        """Called where the parser finds no HTTP; unlike uvicorn's, it does not write into an answer under way."""
        self._refuse(400, msg)

    def check(self, now: float) -> None:
        """Ends the connection if its client does not go on; called once a second or so."""
        if self.transport.is_closing():
            return
        if self.waits_for_client and now - self.since > _REQUEST_SECONDS:
            self.end_request(408, f"the request has taken over {_REQUEST_SECONDS:g} s")
        elif self._in_body:
            # Where nobody reads what comes, its pace is not the client's.
            if not self.flow.read_paused:
                self._check_body(now)
        elif self.cycle is not None and not self.cycle.response_complete:
            if self.flow.write_paused:
                self._check_reader(now)
        elif (self._head or self.cycle is None) and now - self.since > _HEAD_SECONDS:
            if self._head:
                self._refuse(408, "the head of the request did not come in time")
            else:
                self.transport.close()

    def _mark(self, now: float) -> None:
        self._marked, self._marked_at = self._received, now

    def _check_body(self, now: float) -> None:
        if self._received - self._marked >= _BODY_BYTES:
            self._mark(now)
        elif now - self._marked_at > _BODY_SECONDS:
            self.end_request(408, "the body of the request comes too slowly")

    def _check_reader(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent = unsent
            self._mark(now)
        elif now - self._marked_at > _STALL_SECONDS:
            self.transport.abort()

    def _refuse(self, status: int, why: str) -> None:
        """Answers instead of the application, and ends the connection; only ends it where an answer has begun."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = why.encode()
        head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: text/plain\r\n"
        self._head.clear()
        self._out.unread = False  # wakes the reader of a body that will never arrive
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Uvicorn's server for one application and one socket, which is opened once the models are warm.

    Args:
        app: the application; its `failure` says why it did not start.
        reload: loads what is new; called after SIGUSR1, never twice at a time.
        started: called when the socket is open.
        trim: called about once a second; told whether requests are being answered.
        tick: called about once a second, whatever happens.
    """

    def __init__(
        self,
        app: Application,
        *,
        reload: Callable[[], Awaitable[None]],
        started: Callable[[], None],
        trim: Callable[..., None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nothing here depends on the client's address
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                lifespan="on",
                timeout_graceful_shutdown=app.settings.shutdown_timeout,
            )
        )
        self._application = app
        self._drain_seconds = app.settings.drain_seconds
        self._reload = reload
        self._started = started
        self._trim = trim
        self._tick = tick
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._loop: asyncio.AbstractEventLoop | None = None  # once the socket is open
        # Until the event loop takes the signal over; what is announced during the start is loaded after it.
        signal.signal(signal.SIGUSR1, self._note_reload)
        Protocol.guard = Guard(_raise_file_limit(app.settings.max_connections))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, then listens."""
        # Uvicorn would print a failure's traceback; whoever runs the server says it in a line.
        uvicorn_logger = logging.getLogger("uvicorn.error")
        uvicorn_logger.disabled = True
        try:
            await super().startup(sockets)
        finally:
            uvicorn_logger.disabled = False
        self._started()
        loop = self._loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._begin_reload)
        if self._reload_again:
            self._begin_reload()
        loop.call_later(_SWEEP_SECONDS, self._sweep, time.monotonic() + _SWEEP_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops being ready at once, drains after the first SIGTERM, finishes what was accepted, then ends."""
        self._application.ready = False
        if self._reloading is not None:
            self._reloading.cancel()
        if sig == signal.SIGTERM and self._loop and self._drain_seconds and not Protocol.guard.draining:
            Protocol.guard.draining = True
            # Another handler's turn may be interrupted here, so the loop is asked to set the timer itself.
            self._loop.call_soon_threadsafe(self._drain)
        else:
            super().handle_exit(sig, frame)

    def _drain(self) -> None:
        """Answers whoever has not heard yet that this server is ending, and ends a while later."""
        logger.info("not ready any more; connections are answered for %g s", self._drain_seconds)
        asyncio.get_running_loop().call_later(self._drain_seconds, super().handle_exit, signal.SIGTERM, None)

    def _sweep(self, due: float) -> None:
        """Looks after the connections, and measures how late the event loop calls back."""
        now = time.monotonic()
        self._application.metrics.loop_lag.observe(max(0.0, now - due))
        try:
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.check(now)
            self._tick()
            self._trim(busy=bool(self.server_state.tasks))
        except Exception:  # without file descriptors or threads, say; the limits must hold all the same
            logger.exception("the periodic check of the connections failed; it is repeated in %g s", _SWEEP_SECONDS)
        asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep, time.monotonic() + _SWEEP_SECONDS)

    def _note_reload(self, *_: object) -> None:
        self._reload_again = True

    def _begin_reload(self) -> None:
        # However many signals come during a reload, one more follows it: what they announce may have come too late
        # for the one that runs.
        self._reload_again = True
        if self._reloading is None and self._application.ready:
            self._reloading = asyncio.get_running_loop().create_task(self._reload_until_quiet())

    async def _reload_until_quiet(self) -> None:
        while self._reload_again:
            self._reload_again = False
            await self._reload()
        self._reloading = None


def _end_of_head(data: bytes, start: int, stop: int) -> int:
    """The index behind the first empty line, which ends a head; -1 where there is none before `stop`."""
    usual = data.find(b"\n\r\n", start, stop)
    bare = data.find(b"\n\n", start, stop if usual < 0 else usual)
    if bare >= 0:
        return bare + 2
    return usual + 3 if usual >= 0 else -1


def _stated_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """The length of a body by its headers, which the parser has checked; None where it comes in chunks."""
    length = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value)
    return length


def _raise_file_limit(connections: int) -> int:
    """Lets the process open as many files as the connections need.

    Returns:
        How many connections there can be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft < wanted:
        possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, possible), hard))
        soft = max(soft, possible)
    if soft < wanted:
        logger.warning("the system allows %d open files: at most %d connections", soft, soft - _OTHER_FILES)
    return min(connections, soft - _OTHER_FILES)
