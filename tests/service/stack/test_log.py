"""The lines of requests reach the stream together, in pieces that no other process's lines break up."""

from collections.abc import Callable

from service.stack.log import RequestLog


class Stream:
    def __init__(self) -> None:
        self.pieces: list[str] = []

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def flush(self) -> None:
        self.pieces.append("")


def test_lines_are_written_together_and_never_broken():
    stream = Stream()
    pending: list[Callable[[], None]] = []
    log = RequestLog(lambda _seconds, callback: pending.append(callback), stream)  # type: ignore[arg-type]
    for number in range(200):
        log.write({"path": f"/{number}", "method": "GET", "quartet.id": str(number)}, {}, 200, 0.001)
    assert not stream.pieces
    (flush,) = pending
    flush()
    pieces = [piece for piece in stream.pieces if piece]
    assert 3 < len(pieces) < 10
    assert all(len(piece) <= 4096 and piece.endswith("\n") for piece in pieces)
    assert [line.split()[4] for line in "".join(pieces).splitlines()] == ["GET"] * 200
    assert stream.pieces.count("") == len(pieces)
