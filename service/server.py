"""The server process: uvicorn with connections of its own, periodic checks, reload on a signal, and a drain."""

import asyncio
import logging
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import FrameType
from typing import cast

import uvicorn

from service.http.connection import Connection
from service.http.pool import Pool
from service.stack.application import Application

logger = logging.getLogger("service")

_CHECK_SECONDS = 1.0
# Files and sockets beside the connections: listener, models, threads, libraries.
_OTHER_FILES = 128


class Server(uvicorn.Server):
    """Uvicorn's server for one application and one socket, which is opened once the models are warm.

    Args:
        app: the application; its `failure` says why it did not start.
        reload: loads new models; called after SIGUSR1, never twice at a time.
        started: called when the socket is open.
        tick: called once a second.
    """

    def __init__(
        self,
        app: Application,
        *,
        reload: Callable[[], Awaitable[None]],
        started: Callable[[], None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = Pool(_raise_file_limit(app.settings.max_connections))
        super().__init__(
            uvicorn.Config(
                app,
                # Uvicorn calls this with its configuration and state for each connection.
                http=cast("type[asyncio.Protocol]", partial(Connection, app, self._pool)),
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nothing here depends on the client's address
                server_header=False,
                lifespan="on",
                timeout_graceful_shutdown=app.settings.shutdown_timeout,
            )
        )
        self._application = app
        self._drain_seconds = app.settings.drain_seconds
        self._reload = reload
        self._started = started
        self._tick = tick
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._loop: asyncio.AbstractEventLoop | None = None  # once the socket is open
        # Until the event loop handles the signal: a reload requested during the start follows it.
        signal.signal(signal.SIGUSR1, self._note_reload)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, then listens."""
        # Uvicorn would log a failure with its traceback. The command reports it in one line.
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
        loop.call_later(_CHECK_SECONDS, self._check, time.monotonic() + _CHECK_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends readiness at once, drains after the first SIGTERM, finishes accepted requests, then exits."""
        self._application.ready = False
        if self._reloading is not None:
            self._reloading.cancel()
        if sig == signal.SIGTERM and self._loop and self._drain_seconds and not self._pool.draining:
            self._pool.draining = True
            # A signal may interrupt any callback, so the timer is set from the loop.
            self._loop.call_soon_threadsafe(self._drain)
        else:
            super().handle_exit(sig, frame)

    def _drain(self) -> None:
        """Answers clients that do not know yet that this server is ending, and ends after the drain time."""
        logger.info("not ready any more; connections are answered for %g s", self._drain_seconds)
        asyncio.get_running_loop().call_later(self._drain_seconds, super().handle_exit, signal.SIGTERM, None)

    def _check(self, due: float) -> None:
        """Checks the connections, and measures how late the event loop calls back."""
        now = time.monotonic()
        self._application.metrics.loop_lag.observe(max(0.0, now - due))
        try:
            for connection in list(self.server_state.connections):
                cast(Connection, connection).check(now)
            self._tick()
        except Exception:  # without file descriptors or threads, for example; the limits must hold all the same
            logger.exception("the periodic check of the connections failed; it is repeated in %g s", _CHECK_SECONDS)
        asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check, time.monotonic() + _CHECK_SECONDS)

    def _note_reload(self, *_: object) -> None:
        self._reload_again = True

    def _begin_reload(self) -> None:
        # Signals during a reload cause one more reload: the current one may have missed what they announce.
        self._reload_again = True
        if self._reloading is None and self._application.ready:
            self._reloading = asyncio.get_running_loop().create_task(self._reload_until_quiet())

    async def _reload_until_quiet(self) -> None:
        while self._reload_again:
            self._reload_again = False
            await self._reload()
        self._reloading = None


def _raise_file_limit(connections: int) -> int:
    """Raises the limit of open files to what the connections need.

    Returns:
        The number of connections that the limit permits.
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
