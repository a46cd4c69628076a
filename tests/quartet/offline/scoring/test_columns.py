"""Columns of an input: which one the model reads, and which are carried over."""

import pytest

from quartet.offline.scoring.columns import choose_carried, find_column
from quartet.offline.scoring.sources import UnusableJob

REVIEWS = [
    {"id": str(number), "city": "Seoul", "review": f"a film of {number} scenes", "title": f"film no {number} of all"}
    for number in range(9)
]


def without(*names):
    return [{name: value for name, value in row.items() if name not in names} for row in REVIEWS]


def test_a_usual_name_comes_first_and_what_the_training_found_before_it():
    assert find_column("text", ["body"], ["text", "body"], []) == "body"
    assert find_column("text", [], ["body", "text"], REVIEWS) == "text"
    assert find_column("image", [], ["path", "image"], []) == "image"


def test_the_only_column_that_fits():
    rows = without("title")
    assert find_column("text", [], list(rows[0]), rows) == "review"
    assert find_column("text", [], ["words"], []) == "words"
    korean = [{"id": str(number), "내용": f"정말재미있는영화였습니다{number}"} for number in range(4)]
    assert find_column("text", [], list(korean[0]), korean) == "내용"
    for value in (b"\xff\xd8", {"bytes": b"", "path": None}, "a/b.JPG"):
        assert find_column("image", [], ["id", "photo"], [{"id": "1", "photo": value}]) == "photo"


def test_several_columns_that_fit_are_named():
    with pytest.raises(UnusableJob, match=r"lacks the column text; it has id, .*'review' and 'title' may be meant"):
        find_column("text", [], list(REVIEWS[0]), REVIEWS)
    with pytest.raises(UnusableJob, match=r"lacks the column image or path; it has id: name one with --column"):
        find_column("image", [], ["id"], [{"id": "1"}])
    with pytest.raises(UnusableJob, match="lacks the column text; it has id, city:"):
        find_column("text", [], ["id", "city"], without("review", "title"))


def test_what_the_model_does_not_read_is_carried_over_unless_columns_are_named():
    found = ["id", "text", "label"]
    assert choose_carried(None, found, found, ["text"], ["row", "label", "error"]) == {
        "id": "id",
        "label": "input_label",
    }
    assert choose_carried(("text", "id", "id"), found, found, ["text"], ["row"]) == {"text": "text", "id": "id"}
    assert choose_carried((), found, found, ["text"], ["row"]) == {}
    assert choose_carried(("anything",), None, [], ["text"], ["row"]) == {"anything": "anything"}
    with pytest.raises(UnusableJob, match="no column 'Id': did you mean 'id'"):
        choose_carried(("Id",), found, found, ["text"], ["row"])
    with pytest.raises(UnusableJob, match="no column 'date': it has id, text, label"):
        choose_carried(("date",), found, found, ["text"], ["row"])


def test_no_two_columns_of_the_output_share_a_name():
    found = ["label", "input_label", "row"]
    names = choose_carried(None, found, found, [], ["row", "label"])
    assert names == {"label": "input_input_label", "input_label": "input_label", "row": "input_row"}
