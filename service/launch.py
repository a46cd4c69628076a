"""Starts the server: reads the settings, binds the port, and serves in this process or supervises several."""

import asyncio
import gc
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from quartet.console import fail
from quartet.extras import needs
from service.access.keys import InvalidKeys
from service.access.start import generate, needs_generated, ring_of
from service.certificate import Certificate, InvalidCertificate, certificate_of
from service.listeners import CannotListen, Listeners, bind
from service.observe.log import configure as configure_log
from service.processes.supervisor import Supervisor
from service.processes.worker import Worker
from service.settings import InvalidSettings, Settings, read_settings

if TYPE_CHECKING:
    from service.tasks.registry import Registry


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
        certificate = certificate_of(settings)
    except InvalidKeys as error:
        return fail(2, f"QUARTET_KEYS: {error}")
    except InvalidCertificate as error:
        return fail(2, f"QUARTET_TLS_CERT, QUARTET_TLS_KEY: {error}")
    if certificate and not worker:
        certificate.warn()
    try:
        bound = bind(settings, worker=worker is not None, unix=worker.unix if worker else None)
    except CannotListen as error:
        return fail(1, str(error))
    with closing(bound) as listeners:
        return _serve(settings, listeners, certificate, worker, registry)


def _serve(
    settings: Settings,
    listeners: Listeners,
    certificate: Certificate | None,
    worker: Worker | None,
    registry: "Registry | None",
) -> int:
    access: dict[str, Any] = {"share": 1 / settings.workers}
    if worker:
        access = dict(worker.access)
    elif needs_generated(settings):
        # The address of the server for a program on this machine, whose requests reach every address.
        access["generated"] = generate(re.sub(r"//(0\.0\.0\.0|\[::\])", "//localhost", listeners.url))
    if settings.workers > 1:
        return asyncio.run(Supervisor(settings, listeners, access).run())
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
    ring = ring_of(settings, **access)
    app = create_app(settings, registry, opener=opener, board=board, ring=ring, certificate=certificate)
    return Server(app, listeners, worker).serve_until_signal()
