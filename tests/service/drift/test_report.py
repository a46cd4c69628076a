"""The accuracy that calibrated confidence promises, and when that promise is empty."""

from typing import Any

import numpy as np
import pytest

from service.drift.histograms import make_histogram
from service.drift.observer import Watch
from service.drift.report import report
from service.tasks.base import Values
from service.tasks.cards import FamiliarityCard
from service.tasks.classification.statistics import STATISTICS
from tests.service.drift.drifting import MANIFEST, PLAIN, images

KNOWN = PLAIN.model_copy(update={"familiarity": FamiliarityCard(method="m", calibrated_on=1000, test_below={})})


def rows(confidence: float, count: int, p_value: float | None = None) -> list[Any]:
    """Answers that are as sure as that."""
    rest = (1 - confidence) / 2
    more = () if p_value is None else (np.float32(p_value),)
    return [(np.array([confidence, rest, rest], np.float32), *more) for _ in range(count)]


def state(manifest: Any, answers: list[Any]) -> dict[str, Any]:
    watch = Watch(manifest, STATISTICS)
    watch.add(images(len(answers)), answers)
    return report(watch.manifest, watch.bins, watch.window.counts())


def with_p_values() -> Any:
    answers = [*rows(0.9, 1980, 0.5), *rows(0.9, 20, 0.001)]
    values: list[Values] = STATISTICS.measure(KNOWN, images(2000), answers)
    made = tuple(make_histogram(*pair) for pair in zip(STATISTICS.of(KNOWN), values, strict=True))
    return KNOWN.model_copy(update={"histograms": made})


def test_the_estimate_is_the_mean_confidence():
    accuracy = state(MANIFEST, [*rows(0.9, 600), *rows(0.7, 400)])["accuracy"]
    assert accuracy["estimate"] == pytest.approx(0.82)
    assert accuracy["test"] == 1.0
    half = (accuracy["high"] - accuracy["low"]) / 2
    # Chance in the window alone gives 0.023.
    assert 0.023 < half < 0.035
    assert not accuracy["reliable"]
    assert "no p-values" in accuracy["warning"]


def test_p_values_tell_whether_it_is_reliable():
    manifest = with_p_values()
    usual = state(manifest, [*rows(0.9, 990, 0.5), *rows(0.9, 10, 0.001)])["accuracy"]
    assert (usual["reliable"], usual["warning"]) == (True, None)
    found = state(manifest, [*rows(0.9, 700, 0.5), *rows(0.9, 300, 0.001)])
    assert "unfamiliar" in found["drifted"]
    assert not found["accuracy"]["reliable"]
    assert found["accuracy"]["warning"].startswith("30.0% of the inputs are unlike the training data (1.0% on ")


def test_without_calibration_nothing_is_promised():
    bare = MANIFEST.model_copy(update={"calibration": None})
    assert state(bare, rows(0.9, 1000))["accuracy"] is None
    assert state(MANIFEST, rows(0.9, 999))["accuracy"] is None
