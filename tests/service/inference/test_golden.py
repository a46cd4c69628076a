import numpy as np
import pytest

from service.inference.cards import GoldenCard, ListCard
from service.inference.golden import compare

NUMBERS = GoldenCard(rows=1, atol=0.1)
LISTS = GoldenCard(
    rows=1, atol=1e-3, lists=ListCard(order="scores", above=0.3, tolerances={"boxes": 2.0, "scores": 0.02})
)


def found(*entries, rows=4):
    """Boxes and scores, padded with zeros."""
    boxes, scores = np.zeros((1, rows, 2)), np.zeros((1, rows))
    for index, (x, y, score) in enumerate(entries):
        boxes[0, index], scores[0, index] = (x, y), score
    return {"boxes": boxes, "scores": scores}


def test_arrays_are_compared_element_by_element():
    want = {"a": np.array([[1.0, 2.0]]), "b": np.array([[0.0]])}
    difference = compare(want, {"a": np.array([[1.0, 2.25]]), "b": np.array([[0.05]])}, NUMBERS)
    assert (difference.output, difference.value, difference.acceptable) == ("a", 0.25, False)
    assert compare(want, want, NUMBERS).acceptable


def test_an_output_may_have_a_tolerance_of_its_own():
    card = GoldenCard(rows=1, atol=1, tolerances={"error": 1e-3})
    want = {"bytes": np.array([10.0]), "error": np.array([0.02])}
    assert compare(want, {"bytes": np.array([11.0]), "error": np.array([0.0205])}, card).acceptable
    difference = compare(want, {"bytes": np.array([10.0]), "error": np.array([0.0])}, card)
    assert (difference.output, difference.acceptable) == ("error", False)


def test_nothing_makes_a_nan_acceptable():
    assert not compare({"a": np.array([1.0])}, {"a": np.array([np.nan])}, NUMBERS).acceptable
    broken = found((1, 1, 0.9))
    broken["boxes"][0, 0] = np.nan
    assert not compare(found((1, 1, 0.9)), broken, LISTS).acceptable


def test_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"output a is \(2,\), not \(1,\)"):
        compare({"a": np.zeros(1)}, {"a": np.zeros(2)}, NUMBERS)


def test_an_order_by_no_output_is_an_error():
    card = LISTS.model_copy(update={"lists": LISTS.lists.model_copy(update={"order": "nothing"})})
    with pytest.raises(ValueError, match="'nothing' is none of the outputs boxes, scores"):
        compare(found(), found(), card)


def test_entries_of_nearly_equal_score_may_be_reordered():
    one = found((10, 10, 0.901), (50, 50, 0.9))
    assert compare(one, found((50, 50, 0.901), (10, 10, 0.9)), LISTS).acceptable
    assert not compare(one, found((50, 50, 0.95), (10, 10, 0.9)), LISTS).acceptable


def test_beside_lists_an_output_with_a_tolerance_of_its_own_is_compared_element_by_element():
    card = LISTS.model_copy(update={"tolerances": {"unfamiliar": 0.01}})
    want = {**found((10, 10, 0.9)), "unfamiliar": np.array([0.5])}
    assert compare(want, {**want, "unfamiliar": np.array([0.505])}, card).acceptable
    assert compare(want, {**want, "unfamiliar": np.array([0.6])}, card).output == "unfamiliar"
    assert not compare(want, {**want, **found((50, 10, 0.9))}, card).acceptable


@pytest.mark.parametrize(
    ("got", "output"),
    [
        (found((10, 13, 0.9), (50, 50, 0.8)), "boxes"),
        (found((10, 10, 0.9), (50, 50, 0.7)), "scores"),
        (found((10, 10, 0.9)), "boxes"),  # one is missing
        (found((10, 10, 0.9), (50, 50, 0.8), (90, 90, 0.5)), "boxes"),  # one too many
    ],
)
def test_moved_missing_and_extra_entries_are_found(got, output):
    difference = compare(found((10, 10, 0.9), (50, 50, 0.8)), got, LISTS)
    assert difference.output == output
    assert not difference.acceptable


def test_entries_of_low_rank_do_not_count():
    assert compare(found((10, 10, 0.9), (70, 70, 0.2)), found((10, 11, 0.9), (30, 30, 0.25)), LISTS).acceptable
    assert compare(found((70, 70, 0.2)), found(), LISTS).acceptable


def test_strings_nan_and_infinities_are_equal_to_themselves():
    card = GoldenCard(rows=2, atol=1e-3)
    want = {"words": np.array([["a"], ["b"]]), "numbers": np.array([[np.nan], [np.inf]], np.float32)}
    same = {"words": np.array([["a"], ["b"]], object), "numbers": want["numbers"].copy()}
    assert compare(want, same, card).acceptable
    assert not compare(want, same | {"words": np.array([["a"], ["c"]], object)}, card).acceptable
    assert not compare(want, same | {"numbers": np.float32([[np.nan], [-np.inf]])}, card).acceptable
    assert not compare(want, same | {"numbers": np.float32([[0.0], [np.inf]])}, card).acceptable
