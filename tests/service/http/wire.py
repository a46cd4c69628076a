"""A transport that records what is written, and a connection on it."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from service.http.connection import Connection
from service.http.pool import Pool


class Wire:
    """A transport without a socket."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = self.ended = self.paused = self.aborted = False

    @property
    def sent(self) -> bytes:
        """Everything that was written."""
        return b"".join(self.written)

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def write_eof(self) -> None:
        self.ended = True

    def is_reading(self) -> bool:
        return not self.paused and not self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_extra_info(self, name: str) -> None:
        return None


async def empty(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers 200 with an empty body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def connect(wire: Wire, app: Any = empty, pool: Pool | None = None) -> Connection:
    """A connection of a server, as uvicorn makes it."""
    config = uvicorn.Config(app, log_config=None)
    connection = Connection(
        app,
        pool or Pool(1_000_000),
        config=config,
        server_state=ServerState(),
        app_state={},
        _loop=asyncio.get_running_loop(),
    )
    connection.connection_made(wire)  # type: ignore[arg-type]
    return connection
