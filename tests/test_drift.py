"""Drift in real data is noticed within 2,000 items, and undisturbed data raises no alarm."""

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.drift import WINDOWS, Case, Stream, brighter, case_of, inverted, rotated
from benchmarks.drift import false_alarms as alarms_of
from benchmarks.drift import items_until_alarm as items_of
from benchmarks.results import FOLDER
from service.inference.manifest import MODEL
from service.tasks.registry import read_manifest
from service.tasks.statistics import measure_images
from tests.server import ROOT
from training.export.evaluator import run_in_batches
from training.export.histograms import Observed, with_histograms

SOON = 2000


def run(graph: Any, images: Any) -> Any:
    return run_in_batches(graph, "images", images)


def stream(graph: Any, images: Any) -> Stream:
    return Stream(images, list(zip(*run(graph, images), strict=True)))


@pytest.fixture(scope="module")
def digits() -> Case:
    """Digits of another source than MNIST, in its size, as the encoder sees them; half of them are its validation."""
    pixels = (load_digits().images * 15.9).astype(np.uint8)
    resized = [np.asarray(Image.fromarray(each).resize((28, 28), Image.Resampling.BICUBIC)) for each in pixels]
    images = np.stack(resized)[np.random.default_rng(0).permutation(len(resized))][..., None]
    folder = ROOT / "models" / "encoder" / "1"
    known, others = images[:898], images[898:]
    manifest = with_histograms(folder, read_manifest(folder), Observed(known, run))
    disturbed = {
        name: lambda change=change: stream(folder / MODEL, change(others))
        for name, change in (("rotated", rotated), ("inverted", inverted))
    }
    return Case(manifest, stream(folder / MODEL, others), disturbed)


def test_no_alarm_on_undisturbed_digits(digits: Case):
    assert alarms_of(digits)[0] == 0


@pytest.mark.parametrize("how", ["rotated", "inverted"])
def test_digits_that_are_rotated_or_inverted(digits: Case, how: str):
    items, distances = items_of(digits, digits.disturbed[how]())
    assert items is not None
    assert items <= SOON
    assert distances


def test_a_table_with_a_column_in_other_units():
    case = case_of("tabular", ROOT / "models" / "tabular" / "1", ROOT)
    assert alarms_of(case)[0] == 0
    ((_, make),) = case.disturbed.items()
    items, distances = items_of(case, make())
    assert items is not None
    assert items <= SOON
    assert "mean radius" in dict(distances)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_smears_of_another_brightness(factor: float):
    folder = ROOT / "models" / "detector" / "1"
    manifest: Any = read_manifest(folder)
    with np.load(folder / "golden.npz") as golden:
        frames = golden["images"]
    random = np.random.default_rng(0)
    corners = zip(*(random.integers(0, most, 1000) for most in (len(frames), 208, 272)), strict=True)
    crops = np.stack([frames[frame, y : y + 208, x : x + 272] for frame, y, x in corners])
    of_boxes = np.zeros((len(crops), 4)), np.zeros((len(crops), 4)), np.zeros((len(crops), 4), np.int64)
    outputs = [*of_boxes, np.ones(len(crops))]
    known = with_histograms(folder, manifest, Observed(crops[:500], lambda *_: [each[:500] for each in outputs]))
    rows = list(zip(*outputs, strict=True))
    case = Case(known, Stream(crops[500:], rows[500:]), {})
    assert alarms_of(case)[0] == 0
    changed = brighter(crops[500:], factor)
    assert (measure_images(changed)[0].values != measure_images(crops[500:])[0].values).all()
    items, distances = items_of(case, Stream(changed, rows[500:]))
    assert items is not None
    assert items <= SOON
    assert "brightness" in dict(distances)


def test_the_results_in_the_documents():
    found = json.loads((FOLDER / "drift.json").read_text())["figures"]
    assert found.keys() == {"autoencoder", "encoder", "classifier", "detector", "topics", "tabular"}
    for each in found.values():
        assert each["false_alarms"] == 0
        assert each["drift"]
        for disturbance in each["drift"].values():
            assert disturbance["items"] <= SOON
    assert WINDOWS == 20
