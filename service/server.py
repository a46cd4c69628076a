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
from service.transport import CoalescingTransport, Turns

logger = logging.getLogger("service")

# The most bytes of a request's line and headers.
_MOST_HEAD = 65_536
# Seconds in which a head has to come.
_HEAD_SECONDS = 10.0
# A body has to bring so many bytes in so many seconds, for as long as it is wanted.
_BODY_BYTES, _BODY_SECONDS = 10_000, 10.0
# Chunk headers, chunk extensions and trailers of a body: a share of its content, and so many bytes.
_FRAMING_SHARE, _MOST_FRAMING = 1 / 8, 1 << 14
# What is parsed at once, before the limits are looked at again.
_SLICE = 1 << 16
# Seconds since the last request after which a connection is idle.
_IDLE_SECONDS = 1.0
# Seconds after which a client that is waited for gives way where there are too many.
_WAITED_FOR_SECONDS = 5.0
# Seconds for which an idle connection is kept: longer than load balancers keep theirs, or they would use a closed one.
_KEEP_ALIVE_SECONDS = 75
# Seconds for which a client may take nothing of its answer.
_STALL_SECONDS = 120.0
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
        turns: to read bodies.
        draining: whether clients are to open their next connection, which another server will get.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.turns = Turns()
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
    """Uvicorn's HTTP protocol on a coalescing transport, for clients that may mean ill.

    The parser sees a head only when it is complete and of a bounded length. `check` ends connections that have not
    sent what they began.

    Attributes:
        guard: of the server's connections.
        since: when the head that is awaited could have begun, or the last one did; on the monotonic clock.
    """

    guard = Guard(1_000_000)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        self._out = CoalescingTransport(transport, self.tasks, self.loop, self.guard.turns)
        super().connection_made(self._out)  # type: ignore[arg-type]
        self._head = bytearray()
        self._in_body = False
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
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Called when the client has closed its sending side: it may still wait for its answer, or have gone."""
        if self.cycle is None or self.cycle.response_complete or self._in_body:
            return False
        self.cycle.keep_alive = False
        self.loop.call_later(_HALF_CLOSED_SECONDS, self.transport.close)
        return True

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with what has come."""
        if len(data) > _SLICE:
            for start in range(0, len(data), _SLICE):
                if not self.transport.is_closing():
                    self.data_received(data[start : start + _SLICE])
            return
        self._received += len(data)
        if self._in_body:
            self._framing += len(data)
            super().data_received(data)
            if self._framing > _MOST_FRAMING and self._in_body:
                self.end_request(400, "the body of the request has too little in its chunks, or too much around them")
            return
        # A head is due; the parser would keep whatever comes, however much, until it ends.
        if not self._head:
            self.since = time.monotonic()
        head = bytes(self._head + data) if self._head else data
        end = head.find(b"\n\r\n")
        if end < 0:
            end = head.find(b"\n\n")
        if end > _MOST_HEAD or (end < 0 and len(head) > _MOST_HEAD):
            self._refuse(431, f"the head of the request is over {_MOST_HEAD} bytes")
        elif end < 0:
            self._head += data
            self._unset_keepalive_if_required()
        else:
            self._head.clear()
            self._framing = 0.0
            self._marked, self._marked_at = self._received, self.since
            self.guard.idle.pop(self, None)
            # No other protocol is spoken here, which a server says by ignoring the offer; the parser would stop.
            if b"pgrade" in head[:end] and _UPGRADE.search(head, 0, end + 1):
                head = _UPGRADE.sub(b"\nx-upgrade:", head[: end + 1]) + head[end + 1 :]
            super().data_received(head)
            if self._in_body and self.cycle is not None and not self.transport.is_closing():
                # Until the application asks for it: of a body that is refused no more is taken in, and what the kernel
                # of a client on this machine sends meanwhile would cost this process's time.
                self.flow.pause_reading()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_body = self._out.unread = True
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
        if self._out.lingering or not (self.pipeline or self.transport.is_closing()):
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
        if self.cycle is None or self.cycle.response_started:
            self.transport.abort()
        else:
            self._refuse(status, why)

    def check(self, now: float) -> None:
        """Ends the connection if its client does not go on; called once a second or so."""
        if self.transport.is_closing():
            return
        if self._in_body:
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
        """Answers a client that never gets to the application, and ends the connection."""
        body = why.encode()
        head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: text/plain\r\n"
        self._head.clear()
        self._out.unread = False  # whoever waits for the rest of the body has to hear at once that it will not come
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
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol):
                connection.check(now)
        self._tick()
        self._trim(busy=bool(self.server_state.tasks))
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
