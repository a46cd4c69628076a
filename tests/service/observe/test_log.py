"""The lines of requests: written together, in pieces that are atomic, and not to be forged by a client."""

import io
import re

import pytest

from service.observe.events import RequestEnded
from service.observe.log import RequestLog

NOON = 1_800_000_000.25


def ended(path: str, status: int = 200, seconds: float = 0.001, **facts: object) -> RequestEnded:
    return RequestEnded("a-1", "POST", path, "/v1/predict", facts, status, seconds, NOON)


def lines_of(*events: object) -> list[str]:
    stream = io.StringIO()
    RequestLog(stream).observe(events)
    return stream.getvalue().splitlines()


def test_lines():
    first, second = lines_of(
        ended("/v1/predict", seconds=0.0123456, model="classifier/1", items=2),
        "another event",
        ended("/v1/predict", status=404, seconds=1.5),
    )
    stamp = "2027-01-15T08:00:00.250Z info request "
    assert first == stamp + "id=a-1 POST /v1/predict status=200 ms=12.35 model=classifier/1 items=2"
    assert second == stamp + "id=a-1 POST /v1/predict status=404 ms=1500.00"


@pytest.mark.parametrize("path", ["/a\nb", "/a b", "/\x1b[31mred", "/a\u2028b", "/\u202egnp.exe", "/a\r\nid=fake"])
def test_a_path_cannot_forge_a_line(path: str):
    (line,) = lines_of(ended(path))
    assert line.isprintable()
    assert len(line.split(" ")) == 8


def test_a_line_is_bounded():
    paths = ("/" + "x" * 60_000, "/" + "\x1b" * 60_000, "/" + "\U0001f431" * 60_000)
    lines = lines_of(*(ended(path) for path in paths))
    assert len(lines) == 3
    assert all(len(line) < 1200 for line in lines)
    assert re.search("/xxx", lines[0])


class Pieces(io.StringIO):
    """Keeps what each write had."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


def test_lines_are_written_together_and_never_broken():
    stream = Pieces()
    RequestLog(stream).observe([ended(f"/{number}") for number in range(200)])
    assert 3 < len(stream.pieces) < 10
    assert all(len(piece) <= 4096 and piece.endswith("\n") for piece in stream.pieces)
    assert [line.split()[5] for line in "".join(stream.pieces).splitlines()] == [f"/{number}" for number in range(200)]
