"""Starts the server: reads the settings, takes the port, and serves in this process or supervises several."""

import logging
import socket
import time
from typing import TYPE_CHECKING, Any

from quartet.console import fail
from quartet.extras import needs
from service.processes.supervisor import supervise
from service.processes.worker import Worker
from service.settings import InvalidSettings, Settings, read_settings

if TYPE_CHECKING:
    from service.tasks.registry import Registry

# Bytes of a request that the kernel buffers: what a connection can bring in a round trip.
_RECEIVE_BUFFER = 1 << 17


def launch(registry: "Registry | None" = None, **overrides: Any) -> int:
    """Runs the server until SIGTERM or SIGINT.

    Args:
        registry: the tasks that are served; None for the built-in ones.
        overrides: settings from the command line, as `read_settings` takes them.

    Returns:
        0 after a clean end, 1 if it cannot serve (a busy port, no models, no device), 2 for an invalid setting. A CUDA
        error that makes the GPU unusable ends the process with 3 (`service.inference.device`).
    """
    worker = Worker.join()
    try:
        settings = read_settings(**overrides | dict(worker.settings if worker else {}))
    except InvalidSettings as error:
        return fail(2, str(error))
    _configure_logging(settings)
    try:
        if settings.workers > 1:
            bind(settings).close()  # fails if another service has the port, which SO_REUSEPORT would allow
        listener = bind(settings, shared=settings.workers > 1 or worker is not None)
    except OSError as error:
        return fail(
            1,
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): stop what uses it, or set "
            "QUARTET_HOST or QUARTET_PORT (0 picks a free one).",
        )
    if settings.workers > 1:
        return supervise(settings, listener)
    # Imported here, since it is most of a process's memory and start, and a supervisor needs none of it.
    with needs("server"):
        from service.serve import serve
        from service.tasks.registry import BUILT_IN
    return serve(settings, registry or BUILT_IN, listener, worker)


def bind(settings: Settings, *, shared: bool = False) -> socket.socket:
    """Binds a socket that does not listen yet, so that a busy port is found before the models are loaded.

    Args:
        settings: name the address.
        shared: whether further processes bind the same address.

    Raises:
        OSError: the address is in use, or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. With the default, the kernel buffers megabytes of each body, even of those that are about
    # to be refused.
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
