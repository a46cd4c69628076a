"""One line in the log for each request."""

import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from service.errors import truncate
from service.observe.events import RequestEnded

_MAX_PATH = 200
# A write of this size to a pipe is atomic, however many processes write to it (POSIX, PIPE_BUF).
_PIPE_BUF = 4096


class RequestLog:
    """An observer that writes the lines of many requests together; a write for each costs more than the rest of it.

    Args:
        stream: receives the lines.
    """

    tensors = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        for text in _pieces([_line(event) for event in events if type(event) is RequestEnded]):
            self._stream.write(text)
            self._stream.flush()


@functools.lru_cache(maxsize=256)
def _target(method: str, path: str) -> str:
    path = truncate(path, _MAX_PATH)
    if not path.isprintable() or " " in path:
        path = ascii(path).replace(" ", "\\x20")
    return f"{truncate(method)} {path}"


@functools.lru_cache(maxsize=2)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _line(request: RequestEnded) -> str:
    facts = "".join(f" {name}={value}" for name, value in request.facts.items())
    return (
        f"{_stamp(int(request.time))}.{int(request.time * 1000) % 1000:03d}Z info request id={request.id}"
        f" {_target(request.method, request.path)} status={request.status} ms={request.seconds * 1000:.2f}{facts}\n"
    )


def _pieces(lines: Sequence[str]) -> Iterator[str]:
    """The lines in pieces that can be written atomically, as far as a single line fits."""
    piece: list[str] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > _PIPE_BUF:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield "".join(piece)
