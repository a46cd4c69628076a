"""TLS between a transport and the HTTP connection on it.

asyncio's own TLS tells of a connection only after its handshake, so nobody could count it before, or end it in time. It
also keeps what waits to be sent in buffers of its own, where a slow reader cannot be told from an idle one.
"""

import asyncio
import math
import ssl
import time
from contextlib import suppress
from typing import Any

from uvicorn.server import ServerState

from service.http.connection import Connection
from service.http.pool import Pool

# Seconds for the whole handshake.
_HANDSHAKE_SECONDS = 10.0
# The same once the server ends.
_LAST_HANDSHAKE_SECONDS = 1.0
# The content of the largest record.
_RECORD_BYTES = 1 << 14


class Tls(asyncio.Protocol, asyncio.Transport):
    """The transport of an HTTP connection, and the protocol of a TCP transport.

    Until its handshake is complete, it takes the place of its connection in the pool: that of one without a request.

    Args:
        context: has the certificate.
        connection: begins once the handshake is complete.
        pool: of the connection.
        state: of uvicorn's server.

    Attributes:
        since: when the client has connected (monotonic).
        waits_for_client: as of `Connection`.
    """

    waits_for_client = False

    def __init__(self, context: ssl.SSLContext, connection: Connection, pool: Pool, state: ServerState) -> None:
        self._connection = connection
        self._pool = pool
        self._state = state
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._secured = False
        self._stays_open: bool | None = None  # after the client has closed its sending side
        self._ending = False  # the server ends
        self.since = time.monotonic()

    # What the TCP transport calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._raw = transport
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn's type names its own protocols
        if self._pool.join(self):
            self._pool.idle[self] = None
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._secured:
            self._connection.connection_lost(exc)
        else:
            self._leave()
        del self._connection  # which refers to this

    def data_received(self, data: bytes) -> None:
        if self._stays_open is not None:
            return  # nobody reads what follows the end
        self._incoming.write(data)
        if self._secured:
            self._read()
        else:
            # A handshake takes up to some milliseconds of the event loop.
            self._raw.pause_reading()
            self._pool.handshakes.request(self, self._shake)

    def eof_received(self) -> bool:
        return self._secured and self._end()

    def pause_writing(self) -> None:
        if self._secured:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        if self._secured:
            self._connection.resume_writing()

    # The handshake.

    def _shake(self) -> None:
        if self._raw.is_closing():
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            self._raw.resume_reading()
            return
        except ssl.SSLError:
            self._send()  # an alert that says why
            self._raw.close()
            return
        self._leave()
        self._secured = True
        self._raw.resume_reading()
        self._connection.connection_made(self)
        if self._ending:
            self._connection.shutdown()
        self._send()
        self._read()

    def _leave(self) -> None:
        self._state.connections.discard(self)
        self._pool.leave(self)

    def idle_seconds(self, now: float) -> float:  # noqa: ARG002
        """As of `Connection`: infinite before the first request."""
        return math.inf

    def check(self, now: float) -> None:
        """Ends a handshake that takes too long. Called once a second."""
        if now - self.since > _HANDSHAKE_SECONDS:
            self._raw.abort()

    def refuse(self, status: int, why: str) -> None:  # noqa: ARG002
        """Ends the handshake: nothing can be said before it is complete."""
        self._raw.abort()

    def shutdown(self) -> None:
        """Called by uvicorn when the server ends: a client that has just connected still gets an answer."""
        self._ending = True
        asyncio.get_running_loop().call_later(_LAST_HANDSHAKE_SECONDS, self._end_handshake)

    def _end_handshake(self) -> None:
        if not self._secured:
            self._raw.abort()

    # What is received.

    def _read(self) -> None:
        if self._raw.is_closing():
            return
        parts = []
        ended = False
        try:
            while self._incoming.pending or self._tls.pending():
                part = self._tls.read(_RECORD_BYTES)
                if not part:
                    ended = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError:
            self._raw.abort()
            return
        if parts and not self._raw.is_closing():
            self._connection.data_received(b"".join(parts))
        if ended and not self._end():
            self.close()

    def _end(self) -> bool:
        """Called when the client has closed its sending side, in TLS or TCP; returns whether it gets its answer."""
        if self._stays_open is None:
            self._stays_open = self._connection.eof_received()
        return self._stays_open

    # What the connection calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError:
            self._raw.abort()
        else:
            self._send()

    def write_eof(self) -> None:
        self._say_end()
        self._raw.write_eof()

    def close(self) -> None:
        if not self._secured:
            self._raw.abort()
        elif not self._raw.is_closing():
            self._say_end()
            self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def _say_end(self) -> None:
        """Sends a close_notify, without waiting for that of the client (RFC 8446, 6.1)."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._send()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data and not self._raw.is_closing():
            self._raw.write(data)
