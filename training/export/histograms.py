"""Histograms of a version's inputs and answers on the validation split, with which the service compares its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from service.drift.histograms import make_histogram
from service.inference.cards import ManifestBase, Use
from service.inference.manifest import MODEL
from service.tasks.base import Values
from service.tasks.histograms import ObservedManifest
from service.tasks.registry import BUILT_IN
from training.export import history
from training.export.evaluator import Array, run_in_batches
from training.export.ood import some_indices

# Validation items that are measured.
MOST_OBSERVED = 2000
# Items that are measured together.
_TOGETHER = 64

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


def _joined(every: list[Values]) -> Values:
    weights = [each.weights for each in every if each.weights is not None]
    return Values(np.concatenate([each.values for each in every]), np.concatenate(weights) if weights else None)
