"""The lines of requests: written together, in pieces that are atomic, and not to be forged by a client."""

import io
import json
import logging
import re
import sys

import pytest

from service.observe.events import RequestEnded
from service.observe.log import RequestLog, _JsonFormatter

NOON = 1_800_000_000.25


def ended(path: str, status: int = 200, seconds: float = 0.001, method: str = "POST", **facts: object) -> RequestEnded:
    return RequestEnded("a-1", method, path, "/v1/predict", facts, status, seconds, NOON)


def lines_of(*events: object, **options: bool) -> list[str]:
    stream = io.StringIO()
    RequestLog(stream, **options).observe(events)
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
    for line in lines_of(ended(path), ended("/", method=path)):
        assert line.isprintable()
        assert len(line.split(" ")) == 8


def test_a_line_is_bounded():
    paths = ("/" + "x" * 60_000, "/" + "\x1b" * 60_000, "/" + "\U0001f431" * 60_000)
    lines = lines_of(*(ended(path) for path in paths))
    assert len(lines) == 3
    assert all(len(line) < 1200 for line in lines)
    assert re.search("/xxx", lines[0])


def test_lines_as_json():
    (line,) = lines_of(ended("/v1/predict", model="classifier/1", items=2, trace="0af7", queue_ms=0.5), json=True)
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250Z", "level": "info", "logger": "request", "id": "a-1", "method": "POST",
        "path": "/v1/predict", "route": "/v1/predict", "status": 200, "ms": 1.0, "model": "classifier",
        "version": "1", "items": 2, "trace": "0af7", "queue_ms": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/a\nb", '/a","status":500,"x":"', "/\x1b[31mred", "/a\u2028b", "/" + "\U0001f431" * 60_000]
)
def test_a_path_cannot_forge_a_json_line(path: str):
    (line,) = lines_of(ended(path), json=True)
    assert line.isascii()
    assert line.isprintable()
    assert (json.loads(line)["status"], len(line) < 4000) == (200, True)


def test_of_many_requests_a_sample_is_written_and_rare_failures_are():
    many = [ended(f"/{number}", status=500 if number == 77 else 200) for number in range(1001)]
    lines = lines_of(*many)
    succeeded = [number for number in range(1001) if number != 77][::10]
    assert [line.split()[5] for line in lines] == [f"/{number}" for number in sorted([*succeeded, 77])]
    assert sum("one_of=10" in line for line in lines) == 100
    assert all("one_of" not in line for line in lines if "status=500" in line)


def test_a_flood_of_refusals_neither_fills_the_log_nor_hides_the_rest():
    flood = [ended("/flood", status=429) for _ in range(5000)]
    lines = lines_of(*flood[:2500], ended("/good"), ended("/failed", status=500), *flood[2500:], json=True)
    found = [json.loads(line) for line in lines]
    assert sum(line["status"] == 429 for line in found) == 100
    assert {line["one_of"] for line in found if line["status"] == 429} == {50}
    assert [line["path"] for line in found if line["status"] != 429] == ["/good", "/failed"]
    assert all("one_of" not in line for line in found if line["status"] != 429)


def test_records_of_loggers_are_objects_too():
    formatter = _JsonFormatter()
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.LogRecord("service", logging.ERROR, "file", 1, "it %s", ("failed\n",), sys.exc_info())
    line = formatter.format(record)
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("error", "service", "it failed\n")
    assert "ValueError" in found["exception"]
    assert "\n" not in line


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
    RequestLog(stream).observe([ended(f"/{number}") for number in range(100)])
    assert 1 < len(stream.pieces) < 10
    assert all(len(piece) <= 4096 and piece.endswith("\n") for piece in stream.pieces)
    assert [line.split()[5] for line in "".join(stream.pieces).splitlines()] == [f"/{number}" for number in range(100)]
