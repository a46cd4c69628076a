"""Histograms of a version's inputs and answers on the validation split, with which the service compares its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from service.drift.distance import OTHERS, THRESHOLD, chance_threshold, edges
from service.inference.cards import ManifestBase, Use
from service.inference.manifest import MODEL
from service.tasks.base import Statistic, Values
from service.tasks.histograms import INNER, CategoryHistogram, NumberHistogram, ObservedManifest
from service.tasks.registry import BUILT_IN
from training.export import history
from training.export.evaluator import Array, run_in_batches
from training.export.ood import some_indices

# Validation items that are measured.
MOST_OBSERVED = 2000
# Items that are measured together.
_TOGETHER = 64
# Of more categories than that, rare ones share a bin: each bin adds noise.
_FEW_CATEGORIES, _RARE = 12, 0.01
# Inner bins reach from one quantile to the other.
_QUANTILES = (0.01, 0.99)

ManifestT = TypeVar("ManifestT", bound=ManifestBase)


@dataclass(frozen=True, slots=True)
class Observed:
    """Items of the validation split, as the graph takes them.

    Attributes:
        items: at most `MOST_OBSERVED`, which can be sliced.
        run: a graph's outputs for items, in their order.
    """

    items: Any
    run: Callable[[Path, Any], list[Array]]


def observed_items(split: Any) -> Any:
    """The part of a validation split that is measured; always the same random items."""
    return split.take(some_indices(len(split), MOST_OBSERVED))


def observed_images(data: Any, batch: int = _TOGETHER) -> Observed:
    """What is measured of a model of images, given its data set."""
    images = observed_items(data.validation).images
    return Observed(images, lambda graph, items: run_in_batches(graph, "images", items, batch))


def with_histograms(folder: Path, manifest: ManifestT, observed: Observed) -> ManifestT:
    """Adds the histograms of validation to the manifest of the version in `folder`, in place of earlier ones.

    Raises:
        ValueError: nothing is counted of models of the task.
    """
    task = BUILT_IN.tasks.get(manifest.task)
    if task is None or task.statistics is None or not isinstance(manifest, ObservedManifest):
        raise ValueError(f"{manifest.name}: of models of the task {manifest.task} no histograms are kept")
    outputs = observed.run(folder / MODEL, observed.items)
    parts = []
    for start in range(0, len(observed.items), _TOGETHER):
        chosen = slice(start, start + _TOGETHER)
        rows = list(zip(*(output[chosen] for output in outputs), strict=True))
        parts.append(task.statistics.measure(manifest, observed.items[chosen], rows))
    histograms = [
        make_histogram(statistic, _joined(every))
        for statistic, *every in zip(task.statistics.of(manifest), *parts, strict=True)
    ]
    use = Use(split="validation", purpose=history.HISTOGRAMS, items=len(observed.items))
    return history.with_uses(manifest.model_copy(update={"histograms": tuple(histograms)}), use)


def make_histogram(statistic: Statistic, values: Values) -> NumberHistogram | CategoryHistogram:
    """The histogram of the values of a statistic."""
    made = _categories(statistic, values) if statistic.categories else _numbers(statistic, values.values)
    return made.model_copy(update={"threshold": chance_threshold(made)})


def _joined(every: list[Values]) -> Values:
    weights = [each.weights for each in every if each.weights is not None]
    return Values(np.concatenate([each.values for each in every]), np.concatenate(weights) if weights else None)


def _categories(statistic: Statistic, values: Values) -> CategoryHistogram:
    names = statistic.categories
    counts = np.bincount(values.values, values.weights, len(names))
    kept = np.full(len(names), True) if len(names) <= _FEW_CATEGORIES else counts >= _RARE * counts.sum()
    bins = {name: round(float(count), 6) for name, count, keep in zip(names, counts, kept, strict=True) if keep}
    if not kept.all():
        bins[OTHERS] = round(float(counts[~kept].sum()), 6)
    return CategoryHistogram(
        part=statistic.part, name=statistic.name, threshold=THRESHOLD,
        categories=tuple(bins), counts=tuple(bins.values()),
    )  # fmt: skip


def _numbers(statistic: Statistic, values: Array) -> NumberHistogram:
    present = values[np.isfinite(values)]
    low, high = np.quantile(present, _QUANTILES) if len(present) else (0.0, 0.0)
    if low == high and len(present):  # nearly all are the same
        low, high = present.min(), present.max()
    if low == high:
        low, high = low - 1e-3 * max(1.0, abs(low)), high + 1e-3 * max(1.0, abs(high))
    width = float(high - low) / INNER
    bounds = edges(float(low), width)
    bins = np.searchsorted(bounds[1:-1], present, side="right")
    return NumberHistogram(
        part=statistic.part, name=statistic.name, threshold=THRESHOLD,
        counts=tuple(map(float, np.bincount(bins, minlength=len(bounds) - 1))),
        low=float(low), width=width,
        mean=float(present.mean()) if len(present) else 0.0,
        std=float(present.std()) or width if len(present) else width,
        missing=float(len(values) - len(present)),
    )  # fmt: skip
