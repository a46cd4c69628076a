"""python -m service: reads the settings, takes the port, serves until SIGTERM or SIGINT."""

import asyncio
import ctypes
import gc
import logging
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app, load_models
from service.inference.repository import NothingToServe
from service.inference.session import DeviceUnavailable
from service.settings import InvalidSettings, Settings, read_settings
from service.transport import Protocol

logger = logging.getLogger("service")


class Server(uvicorn.Server):
    """Uvicorn's server for one application and one socket, which is opened once the models are warm."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._application = app
        self._reloads: set[asyncio.Future[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, then listens; a failure is left in `app.state.failure`."""
        # Uvicorn would print the failure's traceback; `main` says it in a line.
        uvicorn_logger = logging.getLogger("uvicorn.error")
        uvicorn_logger.disabled = True
        try:
            await super().startup(sockets)
        finally:
            uvicorn_logger.disabled = False
        _settle_memory()
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            logger.info("serving on http://%s:%d, described at /docs", f"[{host}]" if ":" in host else host, port)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._begin_reload)

    def _begin_reload(self) -> None:
        task = asyncio.ensure_future(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        try:
            await load_models(self._application)
        except Exception as error:  # what serves goes on serving, whatever is wrong with what is new
            logger.error("no models reloaded: %s", error)
        await self._application.state.repository.settled()
        _settle_memory()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops being ready at once, finishes what was accepted, then ends."""
        self._application.state.ready = False
        super().handle_exit(sig, frame)


def _settle_memory() -> None:
    """Frees what is of no more use, and exempts the rest from collection; takes a tenth of a second or so."""
    gc.unfreeze()
    gc.collect()
    # What was loaded stays: the collector need not walk it again and again between requests.
    gc.freeze()
    # What only loading needed goes back to the system; the C library would keep it for later (glibc alone can).
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def main() -> int:
    """Runs the server.

    Returns:
        0 after a clean end, 1 if it cannot serve (a busy port, no models, no device), 2 for an unusable setting.
    """
    try:
        settings = read_settings()
    except InvalidSettings as error:
        return _fail(2, str(error))
    _configure_logging(settings)
    try:
        listener = bind(settings)
    except OSError as error:
        return _fail(
            1,
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): stop what uses it, or set "
            "QUARTET_HOST or QUARTET_PORT (0 picks a free one).",
        )
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here depends on the client's address
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    # The batcher's thread asks for the interpreter after each batch: at Python's default of 5 ms the device would idle.
    sys.setswitchinterval(0.0005)
    # Uvicorn sends itself the signal again once it has ended; as a plain return, the exit code is 0.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    try:
        Server(config, app).run(sockets=[listener])
    except SystemExit:
        failure = app.state.failure
        if isinstance(failure, NothingToServe | DeviceUnavailable):
            return _fail(1, str(failure))
        if failure is None:
            raise
        raise failure from None
    return 0


def bind(settings: Settings) -> socket.socket:
    """A bound socket, not yet listening: a busy port shows before the models are loaded.

    Raises:
        OSError: the address is in use, or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


def _fail(code: int, message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
