"""Confidence thresholds, chosen by their figures on the validation split."""

import numpy as np
from pydantic import BaseModel, Field

from service.errors import Fault, InvalidRequest, truncate
from service.faults import Faults
from service.tasks.detection.manifest import DetectorManifest, ThresholdCurves


class ThresholdAnswer(BaseModel):
    """The threshold that was used, and its figures on the test split over all classes, if the model was evaluated."""

    confidence: float = Field(examples=[0.7])
    precision: float | None = Field(None, examples=[0.902027], description="share of the detections that were right")
    recall: float | None = Field(None, examples=[0.565079], description="share of the objects that were found")


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
) -> ThresholdAnswer:
    """The threshold that was asked for, or the one with the best F1.

    A `precision` chooses the lowest threshold that reached it, which has the highest recall; a `recall` the highest
    threshold, which has the highest precision. The validation split chooses, so the test figures are unbiased.

    Raises:
        InvalidRequest: more than one choice, or a figure that no threshold reached or that was never measured.
    """
    choices = {"confidence": confidence, "precision": precision, "recall": recall}
    given = {name: value for name, value in choices.items() if value is not None}
    if len(given) > 1:
        detail = f"{' and '.join(given)} each choose the threshold: give one of them."
        raise InvalidRequest(detail, faults=[Fault(detail, parameter=name) for name in given])
    curves, measured = manifest.curves, manifest.measured_curves
    if curves is None or measured is None:
        if name := next((name for name in given if name != "confidence"), None):
            raise InvalidRequest(
                f"{name}={given[name]:g}: {manifest.name} was never evaluated, so nothing is known of its thresholds: "
                "give `confidence`.",
                parameter=name,
            )
        return ThresholdAnswer(confidence=manifest.default_confidence if confidence is None else confidence)
    points = zip(curves.confidence, curves.overall.precision, curves.overall.recall, strict=True)
    if precision is not None:
        reached = [threshold for threshold, right, found in points if right >= precision and found > 0]
    elif recall is not None:
        reached = [threshold for threshold, _, found in points if found >= recall][::-1]
    else:
        reached = [curves.best_f1 if confidence is None else confidence]
    if not reached:
        ((name, wanted),) = given.items()
        raise InvalidRequest(
            f"{name}={wanted:g}: no threshold of {manifest.name!r} reached it on the validation split; the best is "
            f"{best_figures(curves)[name]:.4f}.",
            parameter=name,
        )
    # The curves are step functions: the next lower point applies.
    index = max(0, int(np.searchsorted(measured.confidence, reached[0] + 1e-9, side="right")) - 1)
    return ThresholdAnswer(
        confidence=reached[0], precision=measured.overall.precision[index], recall=measured.overall.recall[index]
    )


def class_filter(manifest: DetectorManifest, names: str | None) -> frozenset[int] | None:
    """The indices of comma-separated labels; None for all.

    Raises:
        InvalidRequest: a name that is none of the labels.
    """
    if names is None:
        return None
    wanted = [name.strip() for name in names.split(",")]
    faults = Faults()
    for name in wanted:
        if name not in manifest.labels:
            said = f"classes: {truncate(name)!r} is none of the labels: {', '.join(manifest.labels)}."
            faults.add(said, parameter="classes")
    faults.check()
    return frozenset(map(manifest.labels.index, wanted))
