"""Image classification: an image in; labels with calibrated probabilities, or a set that holds the truth, out."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRequest
from service.inference.manifests.classification import ClassifierManifest, ConformalPoint, TextManifest
from service.tasks.images import EncodedImage, UInt8Array, fit


class LabelScore(TypedDict):
    """A label, its place among the model's labels, and its calibrated probability."""

    label: str
    index: int
    probability: float


def prepare(image: EncodedImage, manifest: ClassifierManifest) -> tuple[UInt8Array, None]:
    """The pixels that the model takes, shape (height, width, channels), as training made them; no more is needed."""
    height, width = manifest.image.height, manifest.image.width
    # Twice the size leaves the antialiased resize enough to work with.
    pixels = image.decode(manifest.image.channels, 2 * height, 2 * width)
    return fit(pixels, height, width), None


def top(probabilities: npt.NDArray[np.float32], labels: tuple[str, ...], k: int) -> list[LabelScore]:
    """The `k` likeliest labels, the likeliest first.

    Args:
        probabilities: shape (labels,).
        labels: the model's.
        k: at least 1; all labels where there are fewer.
    """
    values: list[float] = probabilities.tolist()
    order = _ranking(values)[:k]
    # Six decimals are more than calibration can mean, and half the bytes of a float32 written as a float64.
    return [{"label": labels[index], "index": index, "probability": round(values[index], 6)} for index in order]


def conformal_point(manifest: ClassifierManifest | TextManifest, coverage: float) -> ConformalPoint:
    """The row of the table with the least coverage that is at least `coverage`.

    Raises:
        InvalidRequest: the table does not reach so far.
    """
    points = [point for point in manifest.conformal if point.coverage >= coverage - 1e-9]
    if not points:
        best = max(point.coverage for point in manifest.conformal)
        raise InvalidRequest(f"coverage={coverage}: the highest that {manifest.name} was calibrated for is {best}.")
    return min(points, key=lambda point: point.coverage)


def label_set(probabilities: npt.NDArray[np.float32], labels: tuple[str, ...], threshold: float) -> list[str]:
    """The labels with a probability of at least `threshold`, the likeliest first and always among them."""
    values: list[float] = probabilities.tolist()
    ranking = _ranking(values)
    return [labels[index] for place, index in enumerate(ranking) if place == 0 or values[index] >= threshold]


def _ranking(values: list[float]) -> list[int]:
    """Indices from the largest value down, ties in order (for so few values faster than numpy)."""
    return sorted(range(len(values)), key=values.__getitem__, reverse=True)
