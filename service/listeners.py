"""Where the server listens: its sockets, which are bound before the models are loaded."""

import fcntl
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from service.settings import Settings

# Bytes of a request that the kernel buffers: what a connection can bring in a round trip.
_RECEIVE_BUFFER = 1 << 17
# The owner of a Unix socket and its group may connect.
_UNIX_MODE = 0o660


class CannotListen(Exception):
    """An address cannot be listened on; one line says why and what to do."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """The bound sockets of a server; they do not listen yet.

    Attributes:
        main: answers everything.
        metrics: answers /metrics and the probes; None if the main one does.
        scheme: of the main one.
        path: of the main one, if this process has made the Unix socket.
    """

    main: socket.socket
    metrics: socket.socket | None = None
    scheme: str = "http"
    path: Path | None = None

    def close(self) -> None:
        """Closes the sockets, and removes a Unix socket."""
        self.main.close()
        if self.metrics:
            self.metrics.close()
        if self.path:
            self.path.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """The URL that the main socket is going to answer at."""
        return url_of(self.main, self.scheme)

    def describe(self) -> str:
        """Says in the log where the server answers."""
        browser = "" if self.main.family == socket.AF_UNIX else ", to be opened in a browser"
        metrics = f"; metrics and probes are on {url_of(self.metrics)}" if self.metrics else ""
        return f"serving on {self.url}{browser}; its API is described at /docs{metrics}"


def bind(settings: Settings, *, worker: bool = False, unix: int | None = None) -> Listeners:
    """Binds without listening, so that a busy address is found before the models are loaded.

    Args:
        settings: of the service, or of a worker.
        worker: whether the supervisor has bound the same addresses.
        unix: file descriptor of the Unix socket, which the workers share.

    Raises:
        CannotListen: an address is busy, or not of this machine.
    """
    shared = worker or settings.workers > 1
    path = None
    if unix is not None:
        main = socket.socket(fileno=unix)
    elif settings.uds:
        path = settings.uds.absolute()
        main = _bind_unix(path)
    else:
        main = _bind_tcp(settings.host, settings.port, "QUARTET_", shared, first=not worker)
    listeners = Listeners(main, None, "https" if settings.tls_cert else "http", path)
    if settings.metrics_port is None:
        return listeners
    try:
        address = settings.metrics_host, settings.metrics_port
        return replace(listeners, metrics=_bind_tcp(*address, "QUARTET_METRICS_", shared, first=not worker))
    except CannotListen:
        listeners.close()
        raise


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """The URL that a bound socket is going to answer at."""
    if listener.family == socket.AF_UNIX:
        return f"{scheme}+unix://{quote(listener.getsockname())}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _bind_tcp(host: str, port: int, prefix: str, shared: bool, *, first: bool) -> socket.socket:
    try:
        if shared and first:
            _bound(host, port, shared=False).close()  # fails if another service has the port, which sharing would allow
        return _bound(host, port, shared=shared)
    except OSError as error:
        advice = f"stop what uses it, or set {prefix}HOST or {prefix}PORT (0 picks a free one)."
        raise CannotListen(f"cannot listen on {host}:{port} ({error.strerror or error}): {advice}") from None


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. By default the kernel buffers megabytes of each body, even of one that is refused.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _bind_unix(path: Path) -> socket.socket:
    """A Unix socket at a path; one that a server has left behind is replaced."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        _lock(path)
        if path.is_socket():
            if _is_answered(path):
                raise BlockingIOError
            path.unlink()
        listener.bind(str(path))
        path.chmod(_UNIX_MODE)
    except BlockingIOError:
        listener.close()
        raise CannotListen(f"another server listens on {path}: stop it, or set QUARTET_UDS to another path.") from None
    except OSError as error:
        listener.close()
        advice = "set QUARTET_UDS to a free path in a folder that the server may write."
        raise CannotListen(f"cannot listen on {path} ({error.strerror or error}): {advice}") from None
    return listener


def _lock(path: Path) -> None:
    """Reserves a path until this process ends; raises BlockingIOError if another process has.

    A server whose models are being loaded does not answer yet, so its socket looks like one that was left behind.
    """
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # its queue is full
            return True
        except OSError:
            return False
    return True
