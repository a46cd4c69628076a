"""Confidence thresholds, chosen by their figures on the validation split."""

from dataclasses import dataclass

import numpy as np

from service.errors import InvalidRequest, shown
from service.tasks.detection.manifest import DetectorManifest, ThresholdCurves


@dataclass(frozen=True, slots=True)
class Threshold:
    """A confidence threshold with its figures on the test split."""

    confidence: float
    precision: float
    recall: float


def best_f1(curves: ThresholdCurves) -> float:
    """The threshold with the best balance of precision and recall, over all classes."""
    f1 = curves.overall.f1
    return curves.confidence[max(range(len(f1)), key=f1.__getitem__)]


def best_figures(curves: ThresholdCurves) -> dict[str, float]:
    """The best precision and the best recall of any threshold."""
    # A threshold that finds nothing has a precision of 1.
    useful = [p for p, found in zip(curves.overall.precision, curves.overall.recall, strict=True) if found]
    return {"precision": max(useful, default=0.0), "recall": max(curves.overall.recall)}


def choose_threshold(
    manifest: DetectorManifest,
    confidence: float | None = None,
    precision: float | None = None,
    recall: float | None = None,
) -> Threshold:
    """The threshold that was asked for, or the one with the best F1, with its figures on the test split.

    The validation split chooses the threshold, so the test figures are unbiased.

    Args:
        manifest: holds the curves.
        confidence: the threshold itself.
        precision: choose the lowest threshold with this precision, which has the highest recall.
        recall: choose the highest threshold with this recall, which has the highest precision.

    Raises:
        InvalidRequest: more than one choice, or a figure that no threshold reached.
    """
    choices = {"confidence": confidence, "precision": precision, "recall": recall}
    given = {name: value for name, value in choices.items() if value is not None}
    if len(given) > 1:
        raise InvalidRequest(f"{' and '.join(given)} each choose the threshold: give one of them.")
    curves = manifest.curves
    points = zip(curves.confidence, curves.overall.precision, curves.overall.recall, strict=True)
    if precision is not None:
        reached = [threshold for threshold, right, found in points if right >= precision and found > 0]
    elif recall is not None:
        reached = [threshold for threshold, _, found in points if found >= recall][::-1]
    else:
        reached = [best_f1(curves) if confidence is None else confidence]
    if not reached:
        ((name, wanted),) = given.items()
        raise InvalidRequest(
            f"{name}={wanted:g}: no threshold of {manifest.name!r} reached it on the validation split; the best is "
            f"{best_figures(curves)[name]:.4f}."
        )
    measured = manifest.measured_curves
    # The curves are step functions: the next lower point applies.
    index = max(0, int(np.searchsorted(measured.confidence, reached[0] + 1e-9, side="right")) - 1)
    return Threshold(reached[0], measured.overall.precision[index], measured.overall.recall[index])


def class_filter(manifest: DetectorManifest, names: str | None) -> frozenset[int] | None:
    """The indices of comma-separated labels; None for all.

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
