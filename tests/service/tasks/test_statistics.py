"""Statistics of inputs and answers: what they are of each task, and that training and the service count the same."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.inference.golden import read_golden
from service.tasks.autoencoder import statistics as autoencoder
from service.tasks.base import Values
from service.tasks.cards import FamiliarityCard
from service.tasks.detection import statistics as detection
from service.tasks.registry import BUILT_IN, read_manifest
from service.tasks.statistics import measure_images
from service.tasks.tabular import statistics as tabular
from service.tasks.tabular.columns import ColumnCard
from service.tasks.text import statistics as text
from tests.server import ROOT

CARD = FamiliarityCard(method="m", calibrated_on=1000, test_below={})
NAMES = ("autoencoder", "classifier", "detector", "encoder", "tabular", "topics")


def lists(values: list[Values]) -> list[list[float]]:
    return [each.values.tolist() for each in values]


def test_brightness_and_sharpness():
    board = np.indices((8, 8)).sum(0) % 2 * 255
    images = [np.repeat(pixels[..., None], 3, 2).astype(np.uint8) for pixels in (np.full((8, 8), 51), board)]
    brightness, sharpness = measure_images(images)
    assert brightness.values == pytest.approx([0.2, 0.5], abs=0.02)
    assert sharpness.values == pytest.approx([0, 1])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 50, 3), (50, 1, 1), (3, 1000, 1), (416, 544, 3)])
def test_images_of_any_size(shape: tuple[int, ...]):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    brightness, sharpness = measure_images([image, image])
    assert brightness.values.shape == sharpness.values.shape == (2,)
    if image.size > 100:
        assert brightness.values == pytest.approx([image.mean() / 255] * 2, abs=0.05)
    assert ((sharpness.values >= 0) & (sharpness.values <= 1)).all()


def test_boxes_count_from_the_default_confidence_on():
    manifest: Any = SimpleNamespace(default_confidence=0.5, labels=("cat", "dog"), familiarity=CARD)
    boxes = np.zeros((3, 4), np.float32)
    rows = [
        (boxes, np.array([0.9, 0.7, 0.4], np.float32), np.array([0, 1, 1]), np.float32(0.5)),
        (boxes, np.array([0.2, 0.0, 0.0], np.float32), np.array([1, 0, 0]), np.float32(0.001)),
    ]
    assert len(detection.of(manifest)) == 6
    *_, count, labels, confidence, unfamiliar = detection.measure(manifest, [np.zeros((8, 8, 3), np.uint8)] * 2, rows)
    assert count.values.tolist() == [2, 0]
    assert labels.values.tolist() == [0, 1]
    assert labels.weights is not None
    assert labels.weights.tolist() == [0.5, 0.5]
    assert confidence.values[0] == pytest.approx(0.8)
    assert np.isnan(confidence.values[1])
    assert unfamiliar.values.tolist() == [0, 1]


def test_words_of_a_text():
    manifest: Any = SimpleNamespace(labels=("a", "b"), familiarity=None)
    rows = [(np.array([0.25, 0.75], np.float32),), (np.array([1, 0], np.float32),)]
    found = text.measure(manifest, [np.array([5, 1, 1, 7, 0, 0]), np.array([4])], rows)
    assert lists(found) == [[4, 1], [0.5, 0], [1, 0], [0.75, 1]]


def test_columns_of_a_table():
    columns = (
        ColumnCard(name="size", mean=1, std=1),
        ColumnCard(name="colour", kind="category", values=("red", "blue")),
        ColumnCard(name="new", kind="boolean", values=("no", "yes")),
    )
    manifest: Any = SimpleNamespace(columns=columns, kind="regression", labels=(), familiarity=None)
    assert [each.categories for each in tabular.of(manifest)] == [
        (), ("red", "blue", "(unknown)", "(missing)"), ("no", "yes", "(unknown)", "(missing)"), (),
    ]  # fmt: skip
    items = [np.array(row, np.float32) for row in ([1, 1, 0], [2, -1, 1], [np.nan, np.nan, np.nan])]
    size, colour, new, value = tabular.measure(manifest, items, [(np.array([number]),) for number in (3.0, 4.0, 5.0)])
    assert size.values[:2].tolist() == [1, 2]
    assert np.isnan(size.values[2])
    assert (colour.values.tolist(), new.values.tolist()) == ([1, 2, 3], [0, 1, 3])
    assert value.values.tolist() == [3, 4, 5]


def test_latents_and_errors():
    manifest: Any = SimpleNamespace(familiarity=None)
    images = [np.zeros((4, 4, 1), np.uint8)]
    *_, norm = autoencoder.measure_encoder(manifest, images, [(np.array([3, 4], np.float32),)])
    *_, error = autoencoder.measure_autoencoder(manifest, images, [(images[0], np.float32(0.25))])
    assert (norm.values.tolist(), error.values.tolist()) == ([5], [0.25])


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_models_have_histograms_of_all_their_statistics(name: str):
    folder = ROOT / "models" / name / "1"
    manifest: Any = read_manifest(folder)
    statistics = BUILT_IN.tasks[manifest.task].statistics
    assert statistics is not None
    assert [(each.part, each.name) for each in manifest.histograms] == [each[:2] for each in statistics.of(manifest)]
    inputs, answers = read_golden(folder, manifest)
    rows = list(zip(*(answers[spec.name] for spec in manifest.outputs), strict=True))
    (items,) = (list(inputs[spec.name]) for spec in manifest.inputs)
    assert len(statistics.measure(manifest, items, rows)) == len(manifest.histograms)
