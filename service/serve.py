"""The process that serves: the application, its signals, and what happens once a second."""

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time

from quartet.console import fail
from service import memory
from service.inference.device import DeviceUnavailable
from service.inference.repository import NothingToServe
from service.inference.versions import newest_versions
from service.models import opener_of
from service.processes.supervisor import url_of
from service.processes.worker import Worker
from service.settings import Settings
from service.tasks.registry import Registry

logger = logging.getLogger("service")

# How long threads may go on after the server has ended.
_THREADS_SECONDS = 2.0


def serve(settings: Settings, registry: Registry, listener: socket.socket, worker: Worker | None = None) -> int:
    """Serves until SIGTERM or SIGINT.

    Args:
        settings: of the service.
        registry: the tasks that are served.
        listener: a bound socket.
        worker: this process as one of several; None if it is the only one.

    Returns:
        0 after a clean end, 1 if there are no models or no device to serve with.
    """
    memory.configure()
    opener = opener_of(settings, registry)
    opener.begin(newest_versions(settings.models))
    # Importing FastAPI takes half a second, in which models are opened already.
    gc.disable()  # until `memory.settle` runs
    from service.api import documentation
    from service.app import create_app, load_models
    from service.server import Server

    app = create_app(settings, registry, opener=opener)
    if worker:
        app.others_ready = lambda: worker.status.serving
        app.metrics.exposed = worker.metrics()

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
        # Generated on the first request, the document would block the event loop.
        threading.Thread(target=documentation.prepare, args=(app,), daemon=True).start()
        if worker:
            worker.started()
        else:
            logger.info("serving on %s, to be opened in a browser; its API is described at /docs", url_of(listener))

    def tick() -> None:
        if worker:
            app.measure_queues()
            worker.heartbeat()
            if app.ready and (trouble := app.trouble()):
                logger.error("%s The worker ends, to be started again.", trouble)
                os.kill(os.getpid(), signal.SIGTERM)

    # A thread that runs batches needs the GIL after each one. At Python's default of 5 ms the device would idle.
    sys.setswitchinterval(0.0005)
    # Uvicorn raises the signal again at its end; with handlers that do nothing, the exit code is 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = Server(app, reload=reload, started=started, tick=tick)
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
    """Waits for threads, up to a limit: C code that outlives the interpreter may crash."""
    end = time.monotonic() + _THREADS_SECONDS
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))
