"""Starts the server: reads the settings, binds the port, and serves in this process or supervises several."""

import asyncio
import gc
import re
import socket
from typing import TYPE_CHECKING, Any

from quartet.console import fail
from quartet.extras import needs
from service.access.keys import InvalidKeys
from service.access.start import generate, needs_generated, ring_of
from service.observe.log import configure as configure_log
from service.processes.supervisor import Supervisor, url_of
from service.processes.worker import Worker
from service.settings import InvalidSettings, Settings, read_settings

if TYPE_CHECKING:
    from service.tasks.registry import Registry

# Bytes of a request that the kernel buffers: what a connection can bring in a round trip.
_RECEIVE_BUFFER = 1 << 17


def launch(registry: "Registry | None" = None, **overrides: Any) -> int:
    """Runs the server until SIGTERM or SIGINT.

    Args:
        registry: the tasks to serve; None for the built-in ones.
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
    configure_log(settings)
    try:
        ring_of(settings)  # a mistake in the key file ends the start before anything else does
    except InvalidKeys as error:
        return fail(2, f"QUARTET_KEYS: {error}")
    try:
        if settings.workers > 1:
            _bind(settings).close()  # fails if another service has the port, which SO_REUSEPORT would allow
        listener = _bind(settings, shared=settings.workers > 1 or worker is not None)
    except OSError as error:
        address = f"{settings.host}:{settings.port} ({error.strerror or error})"
        advice = "stop what uses it, or set QUARTET_HOST or QUARTET_PORT (0 picks a free one)."
        return fail(1, f"cannot listen on {address}: {advice}")
    access: dict[str, Any] = {"share": 1 / settings.workers}
    if worker:
        access = dict(worker.access)
    elif needs_generated(settings):
        access["generated"] = generate(_own_url(listener))
    if settings.workers > 1:
        return asyncio.run(Supervisor(settings, listener, access).run())
    # Imported here, since it is most of a process's memory and start, and a supervisor needs none of it.
    with needs("server"):
        from service import memory
        from service.inference.versions import folders_to_open
        from service.models import opener_of, policies_of
        from service.tasks.registry import BUILT_IN
    registry = registry or BUILT_IN
    memory.configure()
    opener = opener_of(settings, registry)
    opener.begin(folders_to_open(settings.models, policies_of(settings)))
    # Importing FastAPI takes half a second, in which models are opened already.
    gc.disable()  # until `memory.settle` runs
    from service.app import create_app
    from service.server import Server

    board = worker.board() if worker else None
    app = create_app(settings, registry, opener=opener, board=board, ring=ring_of(settings, **access))
    return Server(app, worker).serve_until_signal(listener)


def _bind(settings: Settings, *, shared: bool = False) -> socket.socket:
    """Binds a socket without listening, so that a busy port is found before the models are loaded.

    With `shared`, other processes can bind the same address.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. By default the kernel buffers megabytes of each body, even of one that is refused.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


def _own_url(listener: socket.socket) -> str:
    """The address of the server for a program on this machine, whose requests reach every address."""
    return re.sub(r"//(0\.0\.0\.0|\[::\])", "//localhost", url_of(listener))
