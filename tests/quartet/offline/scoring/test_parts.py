"""What has been scored is found again, and nothing else is taken for it."""

import json
from pathlib import Path

import pytest

from quartet.offline.scoring.outputs import JsonLines
from quartet.offline.scoring.parts import Parts
from quartet.offline.scoring.sources import UnusableInput

FORMAT = JsonLines()


def add(parts: Parts, first: int, end: int) -> None:
    parts.add(FORMAT, first, end, [FORMAT.encode([{"row": row} for row in range(first, end)])])


def test_parts_become_the_output(tmp_path: Path):
    output = tmp_path / "out.jsonl"
    with Parts(output) as parts:
        parts.begin({"model": "a/1"})
        add(parts, 0, 2)
        assert not output.exists()
    with Parts(output) as parts:
        parts.begin({"model": "a/1"})
        assert parts.done(FORMAT) == 2
        add(parts, 2, 5)
        parts.finish(FORMAT)
    assert [json.loads(line)["row"] for line in output.read_text().splitlines()] == list(range(5))
    assert list(tmp_path.iterdir()) == [output]
    with pytest.raises(UnusableInput, match="exists"), Parts(output):
        pass


def test_a_draft_is_no_part(tmp_path: Path):
    with Parts(tmp_path / "out.jsonl") as parts:
        parts.begin({})
        add(parts, 0, 2)
        (tmp_path / "out.jsonl.parts" / "000000000000002-000000000000009.draft").touch()
        assert parts.done(FORMAT) == 2


def test_parts_of_another_job_are_left_alone(tmp_path: Path):
    with Parts(tmp_path / "out.jsonl") as parts:
        parts.begin({"model": "a/1", "source": "x"})
        add(parts, 0, 2)
    with Parts(tmp_path / "out.jsonl") as parts, pytest.raises(UnusableInput, match="model was a/1"):
        parts.begin({"model": "a/2", "source": "x"})


def test_a_gap_is_found(tmp_path: Path):
    with Parts(tmp_path / "out.jsonl") as parts:
        parts.begin({})
        add(parts, 0, 2)
        add(parts, 7, 9)
        assert parts.missing(FORMAT, 12, 3) == [(2, 5), (5, 7), (9, 12)]
        # Who works in order has no use for what comes later.
        assert parts.done(FORMAT) == 2
        assert parts.missing(FORMAT, 4, 3) == [(2, 4)]


def test_only_one_process_writes(tmp_path: Path):
    with Parts(tmp_path / "out.jsonl") as parts:
        parts.begin({})
        with pytest.raises(UnusableInput, match="Another process"), Parts(tmp_path / "out.jsonl"):
            pass


def test_what_has_not_begun_leaves_nothing(tmp_path: Path):
    with Parts(tmp_path / "out.jsonl"):
        pass
    assert not list(tmp_path.iterdir())
