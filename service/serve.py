"""The server process: reads the settings, takes the port, serves until SIGTERM or SIGINT."""

import logging
import signal
import socket
import sys
import threading
import time
from typing import Any

from quartet.console import fail
from service import memory
from service.api import documentation
from service.app import create_app, load_models
from service.inference.device import DeviceUnavailable
from service.inference.repository import NothingToServe
from service.processes.supervisor import supervise, url_of
from service.processes.worker import Worker
from service.server import Server
from service.settings import InvalidSettings, Settings, read_settings
from service.tasks.registry import Registry

logger = logging.getLogger("service")

# Bytes of a request that the kernel keeps: what a connection can bring in a round trip.
_RECEIVE_BUFFER = 1 << 17
# How long threads may go on after the server has ended.
_THREADS_SECONDS = 2.0


def run(registry: Registry, **overrides: Any) -> int:
    """Runs the server, or several of them on one port.

    Args:
        registry: the tasks that are served.
        overrides: settings from the command line, as `read_settings` takes them.

    Returns:
        0 after a clean end, 1 if it cannot serve (a busy port, no models, no device), 2 for an unusable setting. The
        process ends with 3, wherever it is, when its GPU has become unusable (`service.inference.device`).
    """
    worker = Worker.join()
    if worker:  # the supervisor has set the others in the environment
        overrides = {"models": overrides.get("models")}
    try:
        settings = read_settings(**overrides)
    except InvalidSettings as error:
        return fail(2, str(error))
    _configure_logging(settings)
    try:
        if settings.workers > 1:
            bind(settings).close()  # sharing the port with another service would be no error
        listener = bind(settings, shared=settings.workers > 1 or worker is not None)
    except OSError as error:
        return fail(
            1,
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): stop what uses it, or set "
            "QUARTET_HOST or QUARTET_PORT (0 picks a free one).",
        )
    if settings.workers > 1:
        return supervise(settings, listener)
    return serve(settings, registry, listener, worker)


def serve(settings: Settings, registry: Registry, listener: socket.socket, worker: Worker | None = None) -> int:
    """Serves until SIGTERM or SIGINT.

    Args:
        settings: of the service.
        registry: the tasks that are served.
        listener: a bound socket.
        worker: this process as one of several, if it is.

    Returns:
        As `run`.
    """
    app = create_app(settings, registry)
    # While the models are loaded; the first client that asks for the document would hold up all others.
    threading.Thread(target=documentation.prepare, args=(app,), daemon=True).start()
    if worker:
        app.others_ready = worker.all_wanted
        app.metrics.exposed = worker.exposed()

    async def reload() -> None:
        try:
            if await load_models(app):
                memory.settle()
        except Exception as error:  # a failed reload must not affect the loaded models
            logger.error("no models reloaded: %s", error)

    def started() -> None:
        app.repository.on_closed = memory.settle
        app.repository.one_client = lambda: len(connections) == 1
        memory.settle()
        if worker:
            worker.started()
        else:
            logger.info("serving on %s, to be opened in a browser; its API is described at /docs", url_of(listener))

    def tick() -> None:
        if worker:
            app.measure_queues()
            worker.beat(broken=app.trouble() is not None)

    # The threads that run batches ask for the interpreter after each: at Python's default of 5 ms the device would
    # idle.
    sys.setswitchinterval(0.0005)
    # Uvicorn sends itself the signal again once it has ended; as a plain return, the exit code is 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = Server(app, reload=reload, started=started, trim=memory.Trimmer(), tick=tick)
    connections = server.server_state.connections
    try:
        server.run(sockets=[listener])
    except SystemExit:
        failure = app.failure
        if isinstance(failure, NothingToServe | DeviceUnavailable):
            return fail(1, str(failure))
        if failure is None:
            raise
        raise failure from None
    _join_threads()
    return 0


def _join_threads() -> None:
    """Waits for what still runs on threads, but not for good: C code that outlives the interpreter may crash."""
    end = time.monotonic() + _THREADS_SECONDS
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))


def bind(settings: Settings, *, shared: bool = False) -> socket.socket:
    """A bound socket, not yet listening: a busy port shows before the models are loaded.

    Args:
        settings: name the address.
        shared: whether further processes bind the same one.

    Raises:
        OSError: the address is in use, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. By itself the kernel takes in megabytes of each body, even of those that are about to be
    # refused, and does nothing else meanwhile.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


def _configure_logging(settings: Settings) -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
