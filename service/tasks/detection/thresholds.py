"""Confidence thresholds that are chosen by what they did on the validation split."""

from dataclasses import dataclass

import numpy as np

from service.errors import InvalidRequest, shown
from service.tasks.detection.manifest import DetectorManifest, ThresholdCurves


@dataclass(frozen=True, slots=True)
class Threshold:
    """A confidence and the figures that it had on the test split."""

    confidence: float
    precision: float
    recall: float


def best_f1(curves: ThresholdCurves) -> float:
    """The threshold with the best balance of precision and recall, over all classes."""
    f1 = curves.overall.f1
    return curves.confidence[max(range(len(f1)), key=f1.__getitem__)]


def best_figures(curves: ThresholdCurves) -> dict[str, float]:
    """The best precision and the best recall that a threshold reached."""
    # A threshold that finds nothing is never wrong, which is no use to anyone.
    useful = [p for p, found in zip(curves.overall.precision, curves.overall.recall, strict=True) if found]
    return {"precision": max(useful, default=0.0), "recall": max(curves.overall.recall)}


def choose_threshold(
    manifest: DetectorManifest,
    confidence: float | None = None,
    precision: float | None = None,
    recall: float | None = None,
) -> Threshold:
    """The threshold that was asked for, or the one of the best F1, with what it did on the test split.

    The validation split chooses, so what comes of the choice is no better than it looks.

    Args:
        manifest: holds the curves.
        confidence: the threshold itself.
        precision: the share of detections that shall be right: the lowest threshold that reached it, for that finds
            the most.
        recall: the share of objects that shall be found: the highest threshold that reached it, for that is right
            most often.

    Raises:
        InvalidRequest: more than one of them, or a figure that no threshold reached.
    """
    curves = manifest.curves
    given = {
        name: value
        for name, value in (("confidence", confidence), ("precision", precision), ("recall", recall))
        if value is not None
    }
    if len(given) > 1:
        raise InvalidRequest(f"{' and '.join(given)} each choose the threshold: give one of them.")
    if precision is not None:
        index = _first_reaching(curves.overall.precision, precision, manifest, "precision")
    elif recall is not None:
        last = _first_reaching(curves.overall.recall[::-1], recall, manifest, "recall")
        index = len(curves.confidence) - 1 - last
    else:
        confidence = best_f1(curves) if confidence is None else confidence
        return _with_figures(manifest, confidence)
    return _with_figures(manifest, curves.confidence[index])


def _with_figures(manifest: DetectorManifest, confidence: float) -> Threshold:
    curves = manifest.measured_curves
    # The curves are steps: between two thresholds the figures are those of the lower one or better.
    index = max(0, int(np.searchsorted(curves.confidence, confidence + 1e-9, side="right")) - 1)
    return Threshold(confidence, curves.overall.precision[index], curves.overall.recall[index])


def _first_reaching(values: tuple[float, ...], wanted: float, manifest: DetectorManifest, name: str) -> int:
    for index, value in enumerate(values):
        if value >= wanted and (name == "recall" or manifest.curves.overall.recall[index] > 0):
            return index
    best = best_figures(manifest.curves)[name]
    raise InvalidRequest(
        f"{name}={wanted:g}: no threshold of {manifest.name!r} reached it on the validation split; the best is "
        f"{best:.4f}."
    )


def class_filter(manifest: DetectorManifest, names: str | None) -> frozenset[int] | None:
    """The indices of the labels in a list separated by commas; None for all.

    Raises:
        InvalidRequest: a name that is none of the labels.
    """
    if names is None:
        return None
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in manifest.labels]
    if unknown:
        raise InvalidRequest(f"classes: {shown(unknown[0])!r} is none of the labels: {', '.join(manifest.labels)}.")
    return frozenset(manifest.labels.index(name) for name in wanted)
