"""The process that serves: uvicorn with connections of its own, periodic checks, reload on a signal, and a drain."""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from quartet.console import fail
from service import memory
from service.access.inside import Inside
from service.api import documentation
from service.http.connection import Connection
from service.http.pool import Pool
from service.http.tls import Tls
from service.inference.device import DeviceUnavailable
from service.inference.repository import NothingToServe
from service.listeners import Listeners
from service.processes.worker import Worker
from service.stack.application import Application

logger = logging.getLogger("service")

_CHECK_SECONDS = 1.0
# From the closing of a version to the return of its memory. By then nothing refers to it any more.
_RELEASE_SECONDS = 0.5
# Connections for metrics and probes, on the port that is theirs.
_METRICS_CONNECTIONS = 32
# Files and sockets beside the connections for models: listeners, models, threads, libraries, metrics.
_OTHER_FILES = 128 + _METRICS_CONNECTIONS
# How long threads may go on after the server has ended.
_THREADS_SECONDS = 2.0


class Server(uvicorn.Server):
    """Uvicorn's server for one application, which listens once the models are warm.

    Args:
        app: the application.
        listeners: bound sockets.
        worker: this process as one of several; None if it is the only one.
    """

    def __init__(self, app: Application, listeners: Listeners, worker: Worker | None) -> None:
        self._pool = Pool(_raise_file_limit(app.settings.max_connections))
        self._listeners = listeners
        # With what makes the protocol of each connection.
        self._served: list[tuple[socket.socket, Callable[[], asyncio.Protocol]]] = []
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # `_listen` has those of the proxies that the settings name
                server_header=False,
                lifespan="on",
                timeout_graceful_shutdown=app.settings.shutdown_timeout,
            )
        )
        self._app = app
        self._worker = worker
        if worker:
            app.others_ready = lambda: worker.status.serving
            app.metrics.exposed = worker.metrics(app.state_metrics)
            app.metrics.own = worker.own_metrics(app.state_metrics)
        self._reload_requested = asyncio.Event()
        self._policies_requested = asyncio.Event()
        self._reloading: list[asyncio.Task[None]] = []
        self._releasing: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # once the socket is open

    def serve_until_signal(self) -> int:
        """Serves until SIGTERM or SIGINT.

        Returns:
            0 after a clean end, 1 if there are no models or no device to serve with.
        """
        # A thread that runs batches needs the GIL after each one. At Python's default of 5 ms the device would idle.
        sys.setswitchinterval(0.0005)
        # Uvicorn raises the signal again at its end; with handlers that do nothing, the exit code is 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        # Until the event loop handles the signal: a reload requested during the start follows it.
        signal.signal(signal.SIGUSR1, lambda *_: self._request_reload())
        try:
            self.run(sockets=[])
        except SystemExit:
            failure = self._app.failure
            if isinstance(failure, NothingToServe | DeviceUnavailable):
                return fail(1, str(failure))
            if failure is None:
                raise
            raise failure from None
        _join_threads()
        logger.info("stopped")
        return 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, then listens in place of uvicorn, which would treat all sockets alike."""
        # Uvicorn would log a failure with its traceback. The command reports it in one line.
        uvicorn_logger = logging.getLogger("uvicorn.error")
        uvicorn_logger.disabled = True
        try:
            await super().startup(sockets)
        finally:
            uvicorn_logger.disabled = False
        app = self._app
        app.repository.on_closed = self._release_memory
        app.repository.one_client = lambda: len(self._pool.members) == 1
        memory.settle()
        await self._listen()
        # Generated on the first request, the document would block the event loop.
        threading.Thread(target=documentation.prepare, args=(app,), daemon=True).start()
        if self._worker:
            app.lifecycle.administration.notify = self._worker.notify
            self._worker.started()
        else:
            logger.info(self._listeners.describe())
        loop = self._loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._request_reload)
        self._reloading = [loop.create_task(self._reload()), loop.create_task(self._follow_policies())]
        loop.call_later(_CHECK_SECONDS, self._check, time.monotonic() + _CHECK_SECONDS)

    async def _listen(self) -> None:
        app: ASGIApp = self._app
        if proxies := self._app.settings.trusted_proxies:
            app = cast(ASGIApp, ProxyHeadersMiddleware(cast("Any", app), list(proxies)))
        self._served.append((self._listeners.main, self._protocol(app, self._pool)))
        if self._listeners.metrics:
            inside = Inside(self._app), Pool(_METRICS_CONNECTIONS)
            self._served.append((self._listeners.metrics, self._protocol(*inside, plain=True)))
        loop = asyncio.get_running_loop()
        for listener, protocol in self._served:
            self.servers.append(await loop.create_server(protocol, sock=listener, backlog=self.config.backlog))

    def _protocol(self, app: ASGIApp, pool: Pool, *, plain: bool = False) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of a connection."""
        state, lifespan_state = self.server_state, self.lifespan.state
        certificate = None if plain else self._app.certificate

        def connection() -> Connection:
            return Connection(app, pool, config=self.config, server_state=state, app_state=lifespan_state)

        if certificate is None:
            return connection
        # The certificate's context is another one once it has been renewed.
        return lambda: Tls(certificate.context, connection(), pool, state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends readiness at once, drains after the first SIGTERM, finishes accepted requests, then exits."""
        self._app.ready = False
        for task in self._reloading:
            task.cancel()
        if sig == signal.SIGTERM and self._loop and self._app.settings.drain_seconds and not self._pool.draining:
            self._pool.draining = True
            # A signal may interrupt any callback, so the timer is set from the loop.
            self._loop.call_soon_threadsafe(self._drain)
        else:
            if self._loop:  # a signal may interrupt another log record
                name = signal.Signals(sig).name
                self._loop.call_soon_threadsafe(logger.info, "%s: finishing accepted requests", name)
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts the clients that have connected, then lets every response close its connection."""
        self._pool.draining = True
        for listener, protocol in self._served:
            await self._accept_backlog(listener, protocol)
        await super().shutdown(sockets)

    async def _accept_backlog(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Accepts the connections that wait in a listener's backlog: when it closes, the kernel resets them."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        with suppress(OSError):  # there are none, or no file descriptor is left
            for _ in range(self.config.backlog):
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                await loop.connect_accepted_socket(protocol, accepted)

    def _drain(self) -> None:
        """Answers clients that do not know yet that this server is ending, and ends after the drain time."""
        seconds = self._app.settings.drain_seconds
        logger.info("not ready any more; connections are answered for %g s", seconds)
        asyncio.get_running_loop().call_later(seconds, super().handle_exit, signal.SIGTERM, None)

    def _check(self, due: float) -> None:
        """Checks the connections and the models, and measures how late the event loop calls back."""
        now = time.monotonic()
        self._app.metrics.loop_lag.observe(max(0.0, now - due))
        try:
            for connection in list(self.server_state.connections):
                cast(Connection, connection).check(now)
            if self._worker:
                self._report(self._worker)
        except Exception:  # without file descriptors or threads, for example; the limits must hold all the same
            logger.exception("the periodic check of the connections failed; it is repeated in %g s", _CHECK_SECONDS)
        asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check, time.monotonic() + _CHECK_SECONDS)

    def _report(self, worker: Worker) -> None:
        """Tells the supervisor that this worker is alive, and ends a worker that it should restart."""
        self._app.measure()
        worker.heartbeat()
        if self._app.ready and (trouble := self._app.trouble()):
            logger.error("%s The worker ends, to be started again.", trouble)
            os.kill(os.getpid(), signal.SIGTERM)

    def _request_reload(self) -> None:
        self._reload_requested.set()
        self._policies_requested.set()

    async def _follow_policies(self) -> None:
        """Puts policies in force on request, also while a reload takes its time: a rollback must not wait for it."""
        while True:
            await self._policies_requested.wait()
            self._policies_requested.clear()
            try:
                await self._app.repository.apply_policies()
            except Exception as error:
                logger.error("policies are looked at again with the next reload: %s", error)

    async def _reload(self) -> None:
        """Reloads on request. Signals during a reload cause one more: it may have missed what they announce."""
        while True:
            await self._reload_requested.wait()
            self._reload_requested.clear()
            repository = self._app.repository
            before = list(repository.versions), repository.refused
            try:
                await repository.load_all()
                if before == (list(repository.versions), repository.refused):
                    logger.info("reload: the versions on disk have not changed")
            except Exception as error:  # a failed reload must not affect the loaded models
                logger.error("no models reloaded: %s", error)
            self._release_memory()  # that of versions which were opened and rejected

    def _release_memory(self) -> None:
        """Returns freed memory to the system in a while, once for all versions that close until then."""
        if self._releasing is None and self._loop:
            self._releasing = self._loop.call_later(_RELEASE_SECONDS, self._release_now)

    def _release_now(self) -> None:
        self._releasing = None
        threading.Thread(target=memory.release, name="release", daemon=True).start()


def _raise_file_limit(connections: int) -> int:
    """Raises the limit of open files to what the connections need; returns how many connections it permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft < wanted:
        soft = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        logger.warning("the system allows %d open files: at most %d connections", soft, soft - _OTHER_FILES)
    return min(connections, soft - _OTHER_FILES)


def _join_threads() -> None:
    """Waits for threads, up to a limit: C code that outlives the interpreter may crash."""
    end = time.monotonic() + _THREADS_SECONDS
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))
