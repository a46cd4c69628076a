import pytest

from training.data.dataset import DataError, Inspection
from training.data.inspection import SHOWN, Problems, describe_repeats


def test_each_kind_of_problem_is_named_once_with_its_locations():
    problems = Problems()
    for line in range(2, 60):
        problems.add(f"x.csv:{line}", "the target is missing")
    problems.add("x.csv:99", "'k. A.' is no number")
    first, second = problems.shown
    assert first.startswith("x.csv:2: the target is missing; also x.csv:3, x.csv:4, ")
    assert first.endswith(" and 50 more")
    assert second == "x.csv:99: 'k. A.' is no number"
    with pytest.raises(DataError, match=r"59 unusable items in x\.csv:\n.*\n.*\nCorrect them, or leave them out with"):
        problems.settle("x.csv", "refuse", Inspection())


def test_there_is_a_limit_to_the_kinds_that_are_named():
    problems, inspection = Problems(), Inspection()
    for number in range(SHOWN + 5):
        problems.add(f"{number}.jpg", f"problem {number}")
    problems.settle("folder", "drop", inspection)
    assert inspection.dropped[0].count("\n") == SHOWN + 1
    assert inspection.dropped[0].endswith("… and 5 more")


def test_items_that_two_splits_share_are_counted_for_every_pair_of_splits():
    inspection = Inspection()
    splits = {"train": [b"a", b"b"], "validation": [b"b", b"c", b"d"], "test": [b"a", b"c", b"c", b"e"]}
    describe_repeats(inspection, splits, "rows")
    assert inspection.warnings == [
        "1 of the 3 validation rows are also training rows: the figures for validation will be too good",
        "1 of the 4 test rows are also training rows: the figures for test will be too good",
        "2 of the 4 test rows are also validation rows: the figures for test will be too good",
    ]


def test_items_that_no_two_splits_share_give_no_warning():
    inspection = Inspection()
    describe_repeats(inspection, {"train": [b"a", b"a"], "validation": [b"b"], "test": [b"c"]}, "rows")
    assert not inspection.warnings
