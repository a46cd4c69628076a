"""Adds an out-of-distribution score to the graphs of a version, and measures it."""

import tempfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from rich.console import Console
from sklearn.metrics import roc_auc_score

from service.inference.cards import GoldenCard, TensorSpec, Use
from service.inference.manifest import MODEL
from service.tasks.cards import LEVELS, FamiliarityCard, ForeignFigures
from service.tasks.familiarity import UNFAMILIAR, FamiliarManifest
from training.export import history
from training.export.distances import append, cross_fitted, measure, write_features
from training.export.golden import as_defined, kernel_ratios, rounded_up
from training.export.ood_data import OodData

_TRUE_POSITIVE_RATE = 0.95
ManifestT = TypeVar("ManifestT", bound=FamiliarManifest)


def with_ood(folder: Path, manifest: ManifestT, data: OodData, console: Console) -> ManifestT:
    """Adds the output `unfamiliar` to all graphs of the version in `folder`, in place of an earlier one.

    Returns:
        The manifest of what `folder` holds then.

    Raises:
        ValueError: kernels differ so much that a golden file would catch nothing.
    """

    def add(graph: str, golden: GoldenCard) -> dict[str, Any]:
        card = add_ood(folder / graph, data)
        return {"familiarity": card, "golden": _complete_golden(folder, graph, golden, manifest, card)}

    fields = add(MODEL, manifest.golden)
    variants: list[Any] = []
    for variant in manifest.variants:
        own = add(variant.file, variant.golden)
        variants.append(variant.model_copy(update={**own, "size": (folder / variant.file).stat().st_size}))
    for each in fields["familiarity"].foreign:
        console.print(
            f"{each.data}: AUROC {each.auroc:.3f} against test items; false-positive rate {each.false_alarms:.1%} at "
            f"a true-positive rate of {_TRUE_POSITIVE_RATE:.0%}",
            highlight=False,
        )
    outputs = (*manifest.answers, TensorSpec(name=UNFAMILIAR, dtype="float32", shape=(-1,)))
    changed = manifest.model_copy(update={**fields, "outputs": outputs, "variants": tuple(variants)})
    return history.with_uses(changed, *data.uses, Use(split="test", purpose=history.FIGURES, items=len(data.test)))


def add_ood(graph: Path, data: OodData) -> FamiliarityCard:
    """Adds a score of the graph's own features to its file, and measures it."""
    method = data.method
    layers = method.layers(onnx.load(graph))
    with tempfile.TemporaryDirectory() as scratch:
        features = Path(scratch) / MODEL
        write_features(graph, layers, features)
        distances = method.fit(layers, data.run(features, data.train), data.labels)
        held_out = measure(distances, data.run(features, data.held_out))
    append(graph, distances, held_out)
    known = data.run(graph, data.test)[-1]
    card = FamiliarityCard(
        method=method.words,
        method_chosen_on=method.chosen_on,
        calibrated_on=len(held_out),
        test_below=_below(known),
        cross_fitted_below=_below(cross_fitted(held_out)),
    )
    figures = [_figures(name, known, data.run(graph, items)[-1], card.level) for name, items in data.foreign.items()]
    return card.model_copy(update={"foreign": tuple(figures)})


def _below(values: npt.NDArray[Any]) -> dict[str, float]:
    return {f"{level:g}": float((values < level).mean()) for level in LEVELS}


def _figures(name: str, known: npt.NDArray[Any], foreign: npt.NDArray[Any], level: float) -> ForeignFigures:
    is_known = np.repeat((True, False), (len(known), len(foreign)))
    threshold = np.quantile(foreign, _TRUE_POSITIVE_RATE, method="higher")
    return ForeignFigures(
        data=name,
        items=len(foreign),
        auroc=float(roc_auc_score(is_known, np.concatenate((known, foreign)))),
        false_alarms=float((known <= threshold).mean()),
        caught=float((foreign < level).mean()),
    )


def _complete_golden(
    folder: Path, graph: str, golden: GoldenCard, manifest: FamiliarManifest, card: FamiliarityCard
) -> GoldenCard:
    """Adds the graph's p-values, as ONNX defines them, to a golden file, and their tolerance to its card."""
    path = folder / golden.file
    with np.load(path) as file:
        arrays = dict(file)
    inputs = {spec.name: arrays[spec.name] for spec in manifest.inputs}
    arrays[UNFAMILIAR] = as_defined(folder / graph, inputs)[UNFAMILIAR]
    np.savez_compressed(path, allow_pickle=False, **arrays)
    # Rounding on another machine may move two held-out items across a distance.
    least = max(0.002, 2 * card.smallest)
    # As multiples of a tolerance of 1.
    unit = GoldenCard(rows=golden.rows, atol=1.0)
    difference = kernel_ratios(folder / graph, inputs, {UNFAMILIAR: arrays[UNFAMILIAR]}, unit)[UNFAMILIAR]
    # A golden file that accepted more would catch nothing; few held-out items make steps that are larger.
    tolerance, most = max(least, 2 * difference), max(0.05, least)
    if tolerance > most:
        raise ValueError(
            f"{graph}: its {UNFAMILIAR} may be off by {tolerance:.3g} from one kernel to another, and a golden file "
            f"may accept {most:.3g} at most"
        )
    return golden.model_copy(update={"tolerances": golden.tolerances | {UNFAMILIAR: rounded_up(tolerance)}})
