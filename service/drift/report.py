"""What a window says: how far each statistic is from validation, and what accuracy the answers promise."""

import math
from collections.abc import Sequence
from typing import Any

from service.drift.distance import ITEMS, Bins
from service.drift.window import Counts
from service.lifecycle.statistics import Z_95
from service.tasks.familiarity import UNFAMILIAR, FamiliarManifest
from service.tasks.histograms import NumberHistogram
from service.tasks.statistics import CONFIDENCE


def report(manifest: FamiliarManifest, every: Sequence[Bins], counts: Counts) -> dict[str, Any]:
    """The state of a version's inputs and answers, as `service.api.v1.drift.DriftState` has it.

    Args:
        manifest: of the version.
        every: the bins of its histograms.
        counts: of the window; they decide once there are `ITEMS` items.
    """
    enough = counts.items >= ITEMS
    features = [_feature(bins, counts, index, enough) for index, bins in enumerate(every)]
    return {
        "items": counts.items,
        "needed": ITEMS,
        "since": counts.since if counts.items else None,
        "drifted": [feature["name"] for feature in features if feature["drifted"]] if enough else None,
        "features": features,
        "accuracy": _accuracy(manifest, every, counts, features) if enough else None,
    }


def _feature(bins: Bins, counts: Counts, index: int, enough: bool) -> dict[str, Any]:
    histogram, found = bins.histogram, counts.bins[index]
    distance = bins.distance(found) if counts.items else None
    described: dict[str, Any] = {
        "name": histogram.name,
        "part": histogram.part,
        "kind": histogram.kind,
        "distance": distance,
        "threshold": histogram.threshold,
        "drifted": distance >= histogram.threshold if enough and distance is not None else None,
        "reference": _shares(bins.reference),
        "window": _shares(found),
    }
    if isinstance(histogram, NumberHistogram):
        mean = _mean(found[:-1].sum(), counts.sums[index][0])
        return {**described, "edges": bins.edges.tolist(), "mean": mean, "reference_mean": histogram.mean}
    return {**described, "categories": histogram.categories}


def _shares(counts: Any) -> list[float]:
    total = counts.sum()
    return [round(float(count / total), 6) if total else 0.0 for count in counts]


def _mean(count: float, total: float) -> float | None:
    return float(total / count) if count else None


def _accuracy(
    manifest: FamiliarManifest, every: Sequence[Bins], counts: Counts, features: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """The accuracy that calibrated confidence promises: its mean; None for models without calibrated probabilities.

    The interval has two parts: chance in the window, where each answer is right with its own probability, and chance in
    the validation items, by which the probabilities were calibrated.
    """
    if getattr(manifest, "calibration", None) is None:
        return None
    index = next((index for index, bins in enumerate(every) if bins.histogram.name == CONFIDENCE), None)
    histogram = None if index is None else every[index].histogram
    if index is None or not isinstance(histogram, NumberHistogram):
        return None
    mean, square = counts.sums[index] / counts.items
    calibrated_on = sum(histogram.counts)
    variance = (mean - square) / counts.items
    variance += (histogram.mean - histogram.mean**2 - histogram.std**2) / calibrated_on
    half = Z_95 * math.sqrt(max(0.0, variance))
    metrics = getattr(manifest, "metrics", None)
    doubt = _doubt(features)
    return {
        "estimate": float(mean),
        "low": max(0.0, float(mean) - half),
        "high": min(1.0, float(mean) + half),
        "test": getattr(metrics, "accuracy", None),
        "reliable": doubt is None,
        "warning": doubt,
    }


def _doubt(features: Sequence[dict[str, Any]]) -> str | None:
    """Why calibration does not apply; None if nothing speaks against it."""
    found = next((feature for feature in features if feature["name"] == UNFAMILIAR), None)
    if found is None:
        return "The model has no p-values, so nothing shows whether its calibration applies to these inputs."
    if not found["drifted"]:
        return None
    return (
        f"{found['window'][1]:.1%} of the inputs are unlike the training data ({found['reference'][1]:.1%} on "
        "validation): the model's calibration does not apply to them, and the true accuracy is probably lower."
    )
