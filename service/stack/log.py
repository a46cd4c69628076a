"""One line in the log for each request."""

import time
from collections.abc import Callable, Mapping
from typing import TextIO

from starlette.types import Scope

from service.errors import shown

_DELAY_SECONDS = 0.05
_LONGEST_PATH = 200
# As many bytes reach a pipe in one piece, however many processes write to it (POSIX, PIPE_BUF).
_PIECE = 4096


class RequestLog:
    """Gathers lines and writes them together: a write for every line would cost more than the rest.

    Args:
        call_later: has a function called on the event loop after so many seconds.
        stream: takes the lines.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object], stream: TextIO) -> None:
        self._call_later = call_later
        self._stream = stream
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""

    def write(self, scope: Scope, facts: Mapping[str, object], status: int, seconds: float) -> None:
        """Notes one request; the line reaches the stream within 50 ms."""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        more = "".join(f" {name}={value}" for name, value in facts.items())
        path = shown(scope["path"], _LONGEST_PATH)
        if not path.isprintable() or " " in path:
            path = ascii(path).replace(" ", "\\x20")
        self._lines.append(
            f"{self._stamp}.{int(now * 1000) % 1000:03d}Z info request id={scope['quartet.id']}"
            f" {shown(scope['method'])} {path} status={status} ms={seconds * 1000:.2f}{more}\n"
        )
        if len(self._lines) == 1:
            self._call_later(_DELAY_SECONDS, self.flush)

    def flush(self) -> None:
        """Writes what has gathered."""
        lines, self._lines = self._lines, []
        piece: list[str] = []
        size = 0
        for line in lines:
            if size + len(line) > _PIECE:
                self._write(piece)
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        self._write(piece)

    def _write(self, lines: list[str]) -> None:
        if lines:
            self._stream.write("".join(lines))
            self._stream.flush()
