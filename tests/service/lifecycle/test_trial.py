"""When a candidate is promoted or withdrawn, and which examples are kept."""

import pytest

from service.lifecycle import examples as module
from service.lifecycle.examples import Example, Examples, sample_of, show
from service.lifecycle.figures import AgreementFigures
from service.lifecycle.load import Load
from service.lifecycle.trial import decision
from service.policy.policy import Promotion
from service.processes.board import Board
from service.tasks.base import Sample


def figures(compared: int, agreed: int, failed: int = 0) -> AgreementFigures:
    made = AgreementFigures()
    made.compared, made.agreed, made.failed = compared, agreed, failed
    return made


@pytest.mark.parametrize(
    ("compared", "agreed", "failed", "promote"),
    [
        (999, 999, 0, None),
        (1000, 980, 0, True),
        (1000, 979, 0, False),
        (1500, 1475, 0, True),
        (980, 980, 20, True),
        (979, 979, 21, False),
        (100, 80, 0, None),  # 20 of 1000 may disagree
        (100, 79, 0, False),
        (0, 0, 20, None),
        (0, 0, 21, False),
        (0, 0, 0, None),
    ],
)
def test_the_decision(compared, agreed, failed, promote):
    decided = decision(Promotion(agreement=0.98, after=1000), figures(compared, agreed, failed))
    assert (decided and decided[0]) == promote


def test_the_reason():
    goal = Promotion(agreement=0.98, after=1000)
    assert decision(goal, figures(1000, 998)) == (
        True,
        "the answers to 998 of 1000 inputs agree: 0.9980 (95 % interval 0.9927 to 0.9995), and 0.98 after 1000 was "
        "asked for",
    )
    assert "agree, and the candidate failed on 30:" in decision(goal, figures(0, 0, 30))[1]


def example(difference: float, size: int = 10) -> Example:
    return Example(difference, "cat", {"a": 1}, {"a": 2}, Sample("text/plain", bytes(size)))


def test_the_examples_that_differ_most_are_kept():
    board = Board()
    examples = Examples(board, "m")
    for number in range(100):
        examples.add(example((number * 37 % 100) / 100))
    shown = show(board, "m", examples.ids())
    assert [each["difference"] for each in shown] == [number / 100 for number in range(99, 67, -1)]
    assert len(board._attachments) == 32
    assert sample_of(board, "m", shown[0]["id"]) == Sample("text/plain", bytes(10))
    examples.end()
    assert board._attachments == {}
    examples.add(example(1.0))
    assert board._attachments == {}
    assert sample_of(board, "m", shown[0]["id"]) is None


def test_answers_that_are_the_same_and_large_inputs_are_no_examples(monkeypatch):
    board = Board()
    examples = Examples(board, "m")
    examples.add(example(0.0))
    examples.add(example(1.0, module._MOST_BYTES))
    assert examples.ids() == []


def test_what_is_shown_together_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MOST_SHOWN_BYTES", 500)
    board = Board()
    examples = Examples(board, "m")
    for number in range(20):
        examples.add(example(1 + number))
    shown = show(board, "m", examples.ids())
    assert [each["difference"] for each in shown] == [20, 19, 18, 17, 16][: len(shown)]
    assert 3 <= len(shown) <= 6


def test_an_answer_that_is_no_number_can_be_shown():
    board = Board()
    examples = Examples(board, "m")
    examples.add(Example(1.0, None, {"value": float("nan")}, {}, Sample("text/plain", b"line\nline")))
    (shown,) = show(board, "m", examples.ids())
    assert shown["answer"] == {"value": None}
    assert sample_of(board, "m", shown["id"]).data == b"line\nline"


def test_the_load_is_that_of_the_last_second(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("service.lifecycle.load.time.monotonic", lambda: now[0])
    load = Load()
    assert not load.busy
    load.add(0.05)
    assert not load.busy
    load.add(0.08)
    assert load.busy
    now[0] += 1
    assert not load.busy
