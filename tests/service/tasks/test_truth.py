"""What counts as a truth, and how answers are scored against it."""

import math

import pytest

from service.tasks.detection.truth import BOXES
from service.tasks.truth import LABEL, NUMBER

BOX = {"label": "RBC", "x_min": 0, "y_min": 0, "x_max": 10, "y_max": 10}


def gist(*boxes: dict) -> list:
    return BOXES.gist({"boxes": [{"index": 0, "score": 0.9, **box} for box in boxes]})


def test_labels():
    assert LABEL.gist({"labels": [{"label": "cat"}, {"label": "dog"}]}) == "cat"
    assert LABEL.score("cat", LABEL.read("cat")) == (1, 1)
    assert LABEL.score("cat", LABEL.read("a class of its own")) == (0, 1)
    assert LABEL.score(LABEL.gist({"labels": []}), "cat") == (0, 0)  # withheld


@pytest.mark.parametrize("value", ["", " cat", "a\nb", "\x1b[2J", "x" * 201, 3, None, ["cat"]])
def test_what_is_no_label(value):
    with pytest.raises(ValueError, match="must be a label"):
        LABEL.read(value)


def test_numbers():
    assert NUMBER.score(NUMBER.gist({"value": 3.5}), NUMBER.read("5")) == (1.5, 1)
    assert NUMBER.score(NUMBER.gist({"value": None}), 5.0) == (0, 0)


@pytest.mark.parametrize("value", [True, "x", math.nan, math.inf, 10**400, "nan", None, [1]])
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match="must be a finite number"):
        NUMBER.read(value)


def test_boxes():
    other = {**BOX, "x_min": 100, "x_max": 110}
    assert BOXES.score(gist(BOX), BOXES.read([BOX])) == (2, 2)
    assert BOXES.score(gist(BOX, other), [BOX]) == (2, 3)
    assert BOXES.score(gist(BOX), [{**BOX, "label": "WBC"}]) == (0, 2)
    assert BOXES.score(gist({**BOX, "x_max": 4}), [BOX]) == (0, 2)  # an IoU of 0.4
    assert BOXES.score(gist(BOX, BOX), [BOX]) == (2, 3)  # one of two has a partner
    assert BOXES.score([], []) == (1, 1)
    assert BOXES.score([], [BOX]) == (0, 1)
    assert BOXES.confirmed(gist(BOX)) == [BOX]


@pytest.mark.parametrize(
    "value",
    ["RBC", {}, [[]], [{}], [{**BOX, "more": 1}], [{**BOX, "x_min": 10}], [{**BOX, "y_max": math.nan}], [BOX] * 1001],
)
def test_what_are_no_boxes(value):
    with pytest.raises(ValueError, match="must"):
        BOXES.read(value)
