"""The log: one line for each request, and the records of Python's loggers, as text or as JSON."""

import functools
import json
import logging
import math
import sys
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import pydantic_core

from service.errors import truncate
from service.observe.events import RequestEnded
from service.settings import Settings

_MAX_PATH = 200
# A write of this size to a pipe is atomic, however many processes write to it (POSIX, PIPE_BUF).
_PIPE_BUF = 4096
# Lines in a delivery of events, of which there are 20 a second, for each class of statuses: a flood of refusals must
# neither fill the disk nor hide what succeeds or fails. Of more, every second, third, … is written.
_MOST_LINES = 100


def configure(settings: Settings) -> None:
    """Sets up Python's loggers to write to stderr."""
    logging.Formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JsonFormatter()
        if as_json(settings)
        else logging.Formatter(
            "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
        )
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def as_json(settings: Settings) -> bool:
    """Whether lines are JSON."""
    return settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())


class RequestLog:
    """An observer that writes the lines of many requests together; a write for each costs more than the rest of it.

    Args:
        stream: receives the lines.
        json: whether a line is a JSON object.
    """

    tensors = False

    def __init__(self, stream: TextIO, *, json: bool = False) -> None:
        self._stream = stream
        self._line: Callable[[RequestEnded, int], str] = _json_line if json else _text_line

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        requests = [event for event in events if type(event) is RequestEnded]
        counts = Counts(request.status // 100 for request in requests)
        steps = {each: math.ceil(count / _MOST_LINES) for each, count in counts.items()}
        seen, lines = Counts[int](), []
        for request in requests:
            each = request.status // 100
            if seen[each] % steps[each] == 0:
                lines.append(self._line(request, steps[each]))
            seen[each] += 1
        for text in _pieces(lines):
            self._stream.write(text)
            self._stream.flush()


class _JsonFormatter(logging.Formatter):
    """A record as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{_stamp(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


@functools.lru_cache(maxsize=256)
def _target(method: str, path: str) -> str:
    return f"{_escape(truncate(method))} {_escape(truncate(path, _MAX_PATH))}"


def _escape(text: str) -> str:
    return text if text.isprintable() and " " not in text else ascii(text).replace(" ", "\\x20")


@functools.lru_cache(maxsize=2)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _time(request: RequestEnded) -> str:
    return f"{_stamp(int(request.time))}.{int(request.time * 1000) % 1000:03d}Z"


def _text_line(request: RequestEnded, one_of: int) -> str:
    facts = "".join(f" {name}={value}" for name, value in request.facts.items())
    left_out = f" one_of={one_of}" if one_of > 1 else ""
    return (
        f"{_time(request)} info request id={request.id} {_target(request.method, request.path)}"
        f" status={request.status} ms={request.seconds * 1000:.2f}{facts}{left_out}\n"
    )


def _json_line(request: RequestEnded, one_of: int) -> str:
    line: dict[str, object] = {
        "time": _time(request),
        "level": "info",
        "logger": "request",
        "id": request.id,
        "method": truncate(request.method),
        "path": truncate(request.path, _MAX_PATH),
        "route": request.route,
        "status": request.status,
        "ms": round(request.seconds * 1000, 2),
        **request.facts,
    }
    if "model" in request.facts:
        line["model"], _, line["version"] = str(request.facts["model"]).partition("/")
    if one_of > 1:
        line["one_of"] = one_of
    # Escaped, so that no character of a path can end the line or move a terminal's cursor.
    return pydantic_core.to_json(line, ensure_ascii=True, fallback=str).decode() + "\n"


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
