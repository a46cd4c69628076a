"""Uvicorn as the service runs it. Whatever of uvicorn is leaned on beyond its documentation is here alone.

Answers that are ready together are sent together, the port opens once the models are warm, and a signal has the models
reloaded.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Sized
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.stack.application import Application

logger = logging.getLogger("service")


class _Gathering:
    """A transport that, beside other requests, sends what it is given at the end of the event loop's step.

    Uvicorn writes a response's head and its body one after the other, and the event loop sends each at once, which
    wakes the client between them and between the answers of a batch. At the end of the step each answer is one
    system call, and the client finds many: its next requests come together too. A lone request does not wait.

    Args:
        transport: the connection's.
        tasks: one for each request that is being answered, of all connections.
        loop: the event loop.
    """

    def __init__(self, transport: asyncio.Transport, tasks: Sized, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._tasks = tasks
        self._call_soon = loop.call_soon
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            self._held.append(data)
        elif len(self._tasks) > 1:
            self._held.append(data)
            self._call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():  # the client may have gone within the step
            self._transport.write(b"".join(held))


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol on a gathering transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        super().connection_made(_Gathering(transport, self.tasks, self.loop))  # type: ignore[arg-type]


class Server(uvicorn.Server):
    """Uvicorn's server for one application and one socket, which is opened once the models are warm.

    Args:
        app: the application; its `failure` says why it did not start.
        shutdown_timeout: seconds that requests have to finish after SIGTERM.
        reload: loads what is new; called after SIGUSR1, never twice at a time.
        started: called when the socket is open.
    """

    def __init__(
        self,
        app: Application,
        *,
        shutdown_timeout: int,
        reload: Callable[[], Awaitable[None]],
        started: Callable[[], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nothing here depends on the client's address
                server_header=False,
                lifespan="on",
                timeout_graceful_shutdown=shutdown_timeout,
            )
        )
        self._application = app
        self._reload = reload
        self._started = started
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False

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
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            logger.info("serving on http://%s:%d, described at /docs", f"[{host}]" if ":" in host else host, port)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._begin_reload)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops being ready at once, finishes what was accepted, then ends."""
        self._application.ready = False
        super().handle_exit(sig, frame)

    def _begin_reload(self) -> None:
        # However many signals come during a reload, one more follows it: what they announce may have come too late
        # for the one that runs.
        self._reload_again = True
        if self._reloading is None:
            self._reloading = asyncio.get_running_loop().create_task(self._reload_until_quiet())

    async def _reload_until_quiet(self) -> None:
        while self._reload_again:
            self._reload_again = False
            await self._reload()
        self._reloading = None
