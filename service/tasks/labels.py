"""Labels with calibrated probabilities, and label sets with a chosen coverage (split conformal)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from service.errors import InvalidRequest
from service.inference.cards import MainFigure, optional
from service.tasks.cards import Calibration, ClassifierMetrics, ClassifierVariant, ConformalPoint
from service.tasks.familiarity import (
    FamiliarManifest,
    StrictOptions,
    strict_level,
    typicality_field,
    unfamiliar_field,
    with_familiarity,
)


class LabelManifest(FamiliarManifest):
    """A classifier with calibrated probabilities and a conformal table; without these if it was never evaluated."""

    labels: tuple[str, ...]
    metrics: ClassifierMetrics | None = optional(None)
    calibration: Calibration | None = optional(None)
    conformal: tuple[ConformalPoint, ...] = optional(())
    variants: tuple[ClassifierVariant, ...] = Field((), exclude_if=lambda variants: not variants)

    @property
    def main_figure(self) -> MainFigure | None:
        return MainFigure("accuracy", self.metrics.accuracy, is_share=True) if self.metrics else None

    @property
    def highest_coverage(self) -> float:
        """The highest coverage of the conformal table; 0 without one."""
        return max((point.coverage for point in self.conformal), default=0.0)


class LabelOptions(StrictOptions):
    """The options of an operation that answers with labels."""

    top_k: int = Field(5, ge=1, le=1000, description="the most labels in each answer")
    coverage: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="target coverage: adds `label_set`, a set of labels that contains the true label with this "
        "probability (split conformal prediction)",
    )


class Label(BaseModel):
    """A label and how likely it is."""

    label: str = Field(examples=["cat"])
    index: int = Field(examples=[3], description="its index among the model's labels")
    probability: float = Field(
        examples=[0.97],
        description="calibrated: 90 % of answers with 0.9 are right on inputs like the training data; as the network "
        "gives it where the model has no figures, since it was never evaluated",
    )


class Labelled(BaseModel):
    """The answer for one input."""

    labels: list[Label] = Field(description="the likeliest first; none with `strict` for an unfamiliar input")
    label_set: list[str] | None = Field(
        None,
        examples=[["cat", "dog"]],
        description="only with `coverage`: a set of labels that contains the true label with this probability",
    )
    typicality: float | None = typicality_field()
    unfamiliar: float | None = unfamiliar_field()


def top(probabilities: npt.NDArray[np.float32], labels: tuple[str, ...], k: int) -> list[dict[str, Any]]:
    """The `k` likeliest labels as `Label` describes them, the likeliest first; `probabilities` has shape (labels,)."""
    values: list[float] = probabilities.tolist()
    # Calibration supports no more than six decimals; they take half the bytes of a float32 written as a float64.
    return [
        {"label": labels[index], "index": index, "probability": round(values[index], 6)}
        for index in _ranking(values)[:k]
    ]


def label_set(probabilities: npt.NDArray[np.float32], labels: tuple[str, ...], threshold: float) -> list[str]:
    """The labels with a probability of at least `threshold`, the likeliest first and always among them."""
    values: list[float] = probabilities.tolist()
    likeliest, *others = _ranking(values)
    return [labels[index] for index in (likeliest, *(index for index in others if values[index] >= threshold))]


def _ranking(values: list[float]) -> list[int]:
    """Indices from the largest value down, ties in order (for so few values faster than numpy)."""
    return sorted(range(len(values)), key=values.__getitem__, reverse=True)


def conformal_point(manifest: LabelManifest, coverage: float) -> ConformalPoint:
    """The row of the conformal table with the least coverage that is at least `coverage`.

    Raises:
        InvalidRequest: the coverage is above the table's highest, or there is no table.
    """
    if not manifest.conformal:
        raise InvalidRequest(
            f"coverage={coverage}: {manifest.name} has no label sets, since it was never evaluated: leave it out.",
            parameter="coverage",
        )
    enough = [point for point in manifest.conformal if point.coverage >= coverage - 1e-9]
    if not enough:
        raise InvalidRequest(
            f"coverage={coverage}: the highest that {manifest.name} was calibrated for is {manifest.highest_coverage}.",
            parameter="coverage",
        )
    return min(enough, key=lambda point: point.coverage)


def labelling(manifest: LabelManifest, options: LabelOptions) -> Callable[..., dict[str, Any]]:
    """The function that turns the outputs for one input into its result; keyword arguments become further fields.

    Raises:
        InvalidRequest: the model does not support the `coverage` or the `strict` level.
    """
    level = strict_level(manifest, options)
    point = None if options.coverage is None else conformal_point(manifest, options.coverage)

    def describe(outputs: Sequence[Any], **fields: Any) -> dict[str, Any]:
        probabilities, *more = outputs
        result = {"labels": top(probabilities, manifest.labels, options.top_k), **fields}
        if point is not None:
            result["label_set"] = label_set(probabilities, manifest.labels, point.threshold)
        return with_familiarity(result, more, level, labels=[], label_set=[])

    return describe


def label_bounds(manifest: LabelManifest, _limit: int) -> dict[str, Any]:
    """The values accepted for `coverage`; see `service.tasks.base.Operation.bounds`."""
    return {"coverage": {"maximum": manifest.highest_coverage}} if manifest.conformal else {}
