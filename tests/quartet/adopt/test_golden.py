import numpy as np
import pytest
from onnx import helper

from quartet.adopt import golden as module
from quartet.adopt.batching import decide
from quartet.adopt.golden import make_golden
from quartet.adopt.graph import CannotAdopt, inputs_of, open_session
from quartet.adopt.samples import Samples, draw
from service.inference.cards import ListCard
from tests.quartet.adopt.graphs import linear, make


def golden_of(model, samples: Samples | None = None, lists: ListCard | None = None, most: int = 8):
    samples = samples or draw(inputs_of(model), {}, open_session(model, "m").run, 64)
    batching = decide(model, samples, most, rows=lists is not None, lists=lists)
    return make_golden(batching.model, samples, batching, lists)


def test_items_are_rows_with_their_answers_alone():
    golden, card = golden_of(linear())
    assert golden.inputs["x"].shape == (16, 4)
    assert golden.answers["y"].shape == (16, 2)
    assert card.rows == 16
    assert card.chosen_from is None
    # At least 1e-4 of the largest probability.
    assert 1e-4 * golden.answers["y"].max() <= card.tolerances["y"] <= 1e-4


def test_without_batches_an_item_is_a_call():
    model = make(
        [helper.make_node("Mul", ["x", "s"], ["y"])],
        {"x": ("float32", ["time", 4]), "s": ("float32", [])},
        {"y": ("float32", ["time", 4])},
    )
    golden, card = golden_of(model)
    assert golden.inputs["x"].shape == (8, 2, 4)
    assert golden.inputs["s"].shape == (8,)
    assert golden.answers["y"].shape == (8, 2, 4)
    assert card.rows == 8


def test_integers_booleans_and_strings_are_exact():
    model = make(
        [
            helper.make_node("Cast", ["x"], ["text"], to=8),
            helper.make_node("Cast", ["x"], ["yes"], to=9),
            helper.make_node("Identity", ["x"], ["same"]),
        ],
        {"x": ("int64", ["batch", 2])},
        {"text": ("str", ["batch", 2]), "yes": ("bool", ["batch", 2]), "same": ("int64", ["batch", 2])},
    )
    golden, card = golden_of(model)
    assert golden.answers["text"].dtype.kind == "U"
    assert set(card.tolerances.values()) == {0.5}


def test_items_that_depend_on_how_the_graph_is_run_are_left_out(monkeypatch: pytest.MonkeyPatch):
    model = make(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)],
        {"x": ("float32", ["batch", 3])},
        {"y": ("int64", ["batch"])},
    )
    real = module._open_unfused

    def unfused(model):
        run = real(model)
        return lambda inputs: [run(inputs)[0] + (inputs["x"][:, 0] > 0.5)]

    monkeypatch.setattr(module, "_open_unfused", unfused)
    golden, card = golden_of(model)
    assert card.chosen_from == 16
    assert card.rows == len(golden.inputs["x"]) < 16
    assert (golden.inputs["x"][:, 0] <= 0.5).all()
    monkeypatch.setattr(module, "_open_unfused", lambda model: lambda inputs: [real(model)(inputs)[0] + 1])
    with pytest.raises(CannotAdopt, match="a value of int64 is another"):
        golden_of(model)


def test_nan_and_infinity_are_golden_answers_too():
    model = make(
        [helper.make_node("Log", ["x"], ["y"])], {"x": ("float32", ["batch", 3])}, {"y": ("float32", ["batch", 3])}
    )
    x = np.array([[-1, 0, 1], [2, 3, -4]], np.float32)
    golden, _ = golden_of(model, Samples.of_rows({"x": x}, "given"))
    assert np.isnan(golden.answers["y"][0, 0])
    assert np.isinf(golden.answers["y"][0, 1])


def test_lists_have_their_own_tolerances():
    model = make(
        [helper.make_node("TopK", ["x", "k"], ["scores", "places"])],
        {"x": ("float32", ["batch", 5])},
        {"scores": ("float32", ["batch", 2]), "places": ("int64", ["batch", 2])},
        weights={"k": np.array([2])},
    )
    lists = ListCard(order="scores", above=0.0, tolerances={"scores": 1e-3, "places": 0.5})
    _, card = golden_of(model, lists=lists)
    assert card.lists == lists
    assert card.tolerances == {}


def test_large_items_are_few(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    golden, _ = golden_of(linear())
    assert len(golden.inputs["x"]) == 4
