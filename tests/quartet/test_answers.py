"""Answers: what a newer server adds does no harm, frames, and what a notebook shows."""

import pandas
import pytest

import quartet
from quartet.answers import Model

DOCUMENT = {"model": "m", "version": "2", "device": "cuda", "variant": "int8", "future": {"a": 1}, "results": []}
HEADERS = {"server-timing": 'decode;dur=0.5, cache;desc="x", queue;desc=y;dur=1.25', "x-request-id": "r-1"}
SERVED = quartet.ServedBy.read(DOCUMENT, HEADERS)
LABELS = [
    {"label": "<b>", "index": 1, "probability": 0.75, "future": 0},
    {"label": "dog", "index": 0, "probability": 0.25, "future": 0},
]


def prediction(**more: object) -> quartet.Prediction:
    return quartet.Prediction.read({"labels": LABELS, "future": 1}, SERVED, **more)


def test_who_answered():
    assert (SERVED.model, SERVED.version, SERVED.device, SERVED.variant) == ("m", "2", "cuda", "int8")
    assert SERVED.timing == {"decode": 0.5, "queue": 1.25}
    assert SERVED.request_id == "r-1"
    assert quartet.ServedBy.read({"model": "m", "version": "1", "device": "cpu"}, {}).variant is None


def test_fields_of_a_newer_server_do_no_harm():
    assert (prediction().label, prediction().probability, prediction().label_set) == ("<b>", 0.75, None)
    box = {"label": "RBC", "index": 0, "score": 0.5, "x_min": 0, "y_min": 1, "x_max": 2, "y_max": 3, "future": 0}
    threshold = {"confidence": 0.5, "precision": 0.9, "recall": 0.8, "future": 0}
    result = {"boxes": [box], "counts": {"RBC": 1}, "width": 4, "height": 5, "threshold": threshold, "future": 1}
    assert quartet.Detections.read(result, SERVED).boxes[0].x_max == 2
    words = [{"word": "oil", "start": 0, "weight": 1.5, "future": 0}]
    result = {"labels": LABELS, "tokens": 1, "unknown": 0, "cut_off": 0, "words": words}
    assert quartet.TextPrediction.read(result, SERVED).words == (quartet.Word(word="oil", start=0, weight=1.5),)
    assert quartet.RowPrediction.read({"target": "price", "value": 3.5, "future": 1}, SERVED).prediction == 3.5
    entry = {name: name for name in ("name", "version", "task", "description", "device")}
    assert Model.read({**entry, "metrics": {"f": 1.0}, "future": 1}).fields["future"] == 1


def test_what_is_unlike_the_training_data_may_have_no_label():
    assert prediction().typicality is None
    known = quartet.Prediction.read({"labels": LABELS, "typicality": 0.4}, SERVED)
    nothing = quartet.Prediction.read({"labels": [], "label_set": [], "typicality": 0.001}, SERVED)
    assert (nothing.label, nothing.probability, nothing.label_set) == (None, None, ())
    frame = quartet.Results([known, nothing]).to_pandas()
    assert list(frame["typicality"]) == [0.4, 0.001]
    assert list(frame["label"].isna()) == [False, True]
    assert nothing._repr_html_()
    row = quartet.RowPrediction.read({"target": "price", "value": None, "typicality": 0.001}, SERVED)
    assert (row.prediction, row.typicality) == (None, 0.001)
    encoded = quartet.Encoding.read({"latents": [1.0], "inverted": False, "typicality": 0.2}, SERVED)
    assert encoded.typicality == 0.2


def test_an_older_server_and_older_programs_call_it_unfamiliar():
    answer = quartet.Prediction.read({"labels": LABELS, "unfamiliar": 0.4}, SERVED)
    assert answer.typicality == 0.4
    with pytest.warns(DeprecationWarning, match="typicality"):
        assert answer.unfamiliar == 0.4


def test_a_model_names_its_variant():
    entry = {name: name for name in ("name", "version", "task", "description", "device")}
    assert Model.read({**entry, "metrics": {}, "variant": "int8"}).variant == "int8"
    assert Model.read({**entry, "metrics": {}}).variant is None


def test_results_as_a_frame_have_the_index_of_what_came_in():
    error = quartet.InvalidItemError("is missing")
    error.name = "c.jpg"
    results = quartet.Results([prediction(name="a.jpg"), error], index=pandas.Index(["p", "q"]))
    frame = results.to_pandas()
    assert list(frame.index) == ["p", "q"]
    assert list(frame["label"].fillna("")) == ["<b>", ""]
    assert frame.loc["q", "error"] == "c.jpg: is missing"
    assert results.errors == {1: error}
    assert quartet.Results().to_pandas().empty


def test_a_notebook_shows_no_foreign_html():
    evil = "<script>"
    many = quartet.Results([prediction(name=evil)] * 60)
    assert "… and 10 more" in many._repr_html_()
    for shown in (prediction()._repr_html_(), many._repr_html_()):
        assert "<b>" not in shown
        assert "&lt;b&gt;" in shown
        assert evil not in shown


def test_a_notebook_shows_pictures(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8abc")
    assert "data:image/jpeg;base64,/9hhYmM=" in prediction(source=path)._repr_html_()
    picture = quartet.Picture(png=b"\x89PNG")
    picture.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == picture._repr_png_()
