"""Labels with calibrated probabilities, and label sets with a chosen coverage (split conformal)."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from service.errors import InvalidRequest
from service.tasks.cards import ConformalPoint
from service.tasks.familiarity import StrictOptions, apply_strict, strict_bounds, strict_level


class LabelOptions(StrictOptions):
    """The options of an operation that answers with labels."""

    top_k: int = Field(5, ge=1, le=1000, description="the most labels in each answer")
    coverage: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="adds `label_set`: the smallest set that holds the true label this often (split conformal)",
    )


class Label(BaseModel):
    """A label and how likely it is."""

    label: str = Field(examples=["cat"])
    index: int = Field(examples=[3], description="its index among the model's labels")
    probability: float = Field(
        examples=[0.97],
        description="calibrated: of answers with 0.9, nine in ten are right, for inputs like the training data",
    )


class LabelScore(TypedDict):
    """What `Label` describes."""

    label: str
    index: int
    probability: float


def top(probabilities: npt.NDArray[np.float32], labels: tuple[str, ...], k: int) -> list[LabelScore]:
    """The `k` likeliest labels, the likeliest first.

    Args:
        probabilities: shape (labels,).
        labels: the model's.
        k: at least 1; all labels where there are fewer.
    """
    values: list[float] = probabilities.tolist()
    order = _ranking(values)[:k]
    # Calibration supports no more than six decimals; they take half the bytes of a float32 written as a float64.
    return [{"label": labels[index], "index": index, "probability": round(values[index], 6)} for index in order]


def conformal_point(points: Sequence[ConformalPoint], coverage: float, model: str) -> ConformalPoint:
    """The row of a model's conformal table with the least coverage that is at least `coverage`.

    Raises:
        InvalidRequest: the table does not reach so far.
    """
    enough = [point for point in points if point.coverage >= coverage - 1e-9]
    if not enough:
        best = max(point.coverage for point in points)
        raise InvalidRequest(f"coverage={coverage}: the highest that {model} was calibrated for is {best}.")
    return min(enough, key=lambda point: point.coverage)


def labelling(manifest: Any, options: LabelOptions) -> Callable[..., dict[str, Any]]:
    """The function that describes the outputs for one input, for the options of a call.

    Its further keyword arguments become fields of the result.

    Args:
        manifest: of a classifier with a conformal table.
        options: of the call.

    Raises:
        InvalidRequest: the model does not support the `coverage` or the `strict` level.
    """
    level = strict_level(manifest, options)
    point = None
    if options.coverage is not None:
        point = conformal_point(manifest.conformal, options.coverage, manifest.name)

    def describe(outputs: Sequence[Any], **more: Any) -> dict[str, Any]:
        probabilities, *others = outputs
        result = {"labels": top(probabilities, manifest.labels, options.top_k), **more}
        if point is not None:
            result["label_set"] = label_set(probabilities, manifest.labels, point.threshold)
        return apply_strict(result, others, level, {"labels": [], "label_set": []})

    return describe


def label_bounds(manifest: Any) -> dict[str, Any]:
    """The values accepted for `coverage` and `strict`; see `service.tasks.base.Operation.bounds`."""
    best = max(point.coverage for point in manifest.conformal)
    return {"coverage": {"type": "number", "exclusiveMinimum": 0, "maximum": best}, **strict_bounds(manifest)}


def label_set(probabilities: npt.NDArray[np.float32], labels: tuple[str, ...], threshold: float) -> list[str]:
    """The labels with a probability of at least `threshold`, the likeliest first and always among them."""
    values: list[float] = probabilities.tolist()
    ranking = _ranking(values)
    return [labels[index] for rank, index in enumerate(ranking) if rank == 0 or values[index] >= threshold]


def _ranking(values: list[float]) -> list[int]:
    """Indices from the largest value down, ties in order (for so few values faster than numpy)."""
    return sorted(range(len(values)), key=values.__getitem__, reverse=True)
