"""Fixed shapes: nothing else ever reaches a session, and padding changes no answer."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.inference.shapes import Shape, Shapes, trim
from service.tasks.registry import read_manifest
from tests.server import ROOT

COUNTS = st.integers(1, 150)
SETS = st.builds(
    lambda batches, lengths: Shapes(tuple(sorted(batches)), tuple(sorted(lengths))),
    st.sets(st.integers(1, 70), min_size=1, max_size=4),
    st.sets(st.integers(1, 40), min_size=1, max_size=3),
)


def model(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Ignores zeros at the end, as graphs that take sequences do."""
    return [inputs["ids"].sum(1), np.stack([inputs["ids"].max(1), inputs["weights"][:, 0]], 1)]


@given(SETS, COUNTS, st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_no_other_shape_is_run_and_padding_changes_no_answer(shapes: Shapes, count: int, length: int, seed: int):
    length = min(length, shapes.lengths[-1])
    random = np.random.default_rng(seed)
    inputs = {
        "ids": random.integers(0, 9, (count, length)),
        "weights": random.integers(0, 9, (count, 2)).astype(np.float32),
    }
    seen = []

    def run(shape: Shape, padded: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        assert padded["ids"].shape == shape
        assert padded["weights"].shape == (shape.batch, 2)
        assert padded["weights"].dtype == np.float32
        seen.append(shape)
        return model(padded)

    outputs = shapes.run(run, inputs, {"ids": (1,), "weights": ()})
    assert {*seen} <= {*shapes}
    for padded, plain in zip(outputs, model(inputs), strict=True):
        np.testing.assert_array_equal(padded, plain)


def test_a_batch_takes_the_smallest_shape_that_holds_it():
    shapes = Shapes((1, 8, 64), (32, 128))
    assert [shapes.smallest(count, 1).batch for count in (1, 2, 8, 9, 64, 200)] == [1, 8, 8, 64, 64, 64]
    assert [shapes.smallest(1, length).length for length in (1, 32, 33, 128)] == [32, 32, 128, 128]
    with pytest.raises(ValueError, match="129 long, and at most 128"):
        shapes.smallest(1, 129)


def test_the_largest_shape_comes_first():
    assert list(Shapes((1, 8), (4, 16))) == [(8, 16), (8, 4), (1, 16), (1, 4)]
    assert list(Shapes((1, 8, 64))) == [(64, 0), (8, 0), (1, 0)]


def test_shapes_of_a_model():
    topics, classifier = (read_manifest(ROOT / "models" / name / "1") for name in ("topics", "classifier"))
    assert Shapes.of(topics, 64) == Shapes((1, 8, 64), (32, 128, 512))
    assert Shapes.of(classifier, 200) == Shapes((1, 8, 64, 200))
    assert Shapes.of(classifier, 1) == Shapes((1,))


@given(st.integers(1, 1000), st.integers(1, 5000))
def test_shapes_are_few_and_hold_everything(batch: int, longest: int):
    manifest = TOPICS.model_copy(update={"max_length": longest})
    shapes = Shapes.of(manifest, batch)
    assert len(list(shapes)) <= 15
    assert shapes.smallest(batch, longest) == (batch, longest)
    assert shapes.smallest(1, 1).batch == 1


TOPICS = read_manifest(ROOT / "models" / "topics" / "1")


def test_trim():
    ids = np.array([[1, 0, 2, 0, 0], [3, 0, 0, 0, 0]])
    assert trim(ids, 1).tolist() == [[1, 0, 2], [3, 0, 0]]
    assert trim(ids[:1] * 0, 1).tolist() == [[0]]
    assert trim(ids[:, :, None], 1).shape == (2, 3, 1)
