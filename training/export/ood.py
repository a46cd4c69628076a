"""Adds an out-of-distribution score to the graphs of a version; the command does so for a published one."""

import tempfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from rich.console import Console
from sklearn.metrics import roc_auc_score

from service.inference.cards import GoldenCard, ManifestBase, TensorSpec, Use
from service.inference.manifest import MODEL
from service.tasks.cards import LEVELS, FamiliarityCard, ForeignFigures
from service.tasks.familiarity import UNFAMILIAR, FamiliarManifest
from training.data.foreign import named
from training.export import history
from training.export.distances import append, cross_fitted, measure, write_features
from training.export.golden import as_defined, kernel_ratios, rounded_up
from training.export.ood_data import OodData
from training.export.published import publish_changed, reload
from training.registry import recipe_of

_TRUE_POSITIVE_RATE = 0.95
_SPEC = TensorSpec(name=UNFAMILIAR, dtype="float32", shape=(-1,))
# Rounding on another machine may move so many held-out items across a distance.
_STEPS, _LEAST_TOLERANCE = 2, 0.002
# A golden file that accepted more would catch nothing; few held-out items make steps that are larger.
_MOST_TOLERATED = 0.05
ManifestT = TypeVar("ManifestT", bound=FamiliarManifest)


def run(options: Any, console: Console) -> None:
    """Publishes a version with the score."""

    def add(target: Path, manifest: ManifestBase) -> ManifestBase:
        if not isinstance(manifest, FamiliarManifest):
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} have no out-of-distribution score")
        data = reload(manifest, target, options)
        ood_data = recipe_of(manifest).ood_data(manifest, target, data, named(options.foreign))
        return with_ood(target, manifest, ood_data, console)

    publish_changed(options, console, "ood", add)


def with_ood(folder: Path, manifest: ManifestT, data: OodData, console: Console) -> ManifestT:
    """Adds the output `unfamiliar` to all graphs of the version in `folder`, in place of an earlier one.

    Args:
        folder: with graphs and golden files.
        manifest: of the version; its `files` are not looked at.
        data: of the model.
        console: where the figures go.

    Returns:
        The manifest of what `folder` holds then.
    """
    card = add_ood(folder / MODEL, data)
    outputs = (*manifest.answers, _SPEC)
    golden = _complete_golden(folder, MODEL, manifest.golden, manifest, card)
    changes: dict[str, Any] = {"outputs": outputs, "familiarity": card, "golden": golden}
    if manifest.variants:
        whole = manifest.model_copy(update={"outputs": outputs})
        changes["variants"] = tuple(_variant(folder, variant, whole, data) for variant in manifest.variants)
    for each in card.foreign:
        console.print(
            f"{each.data}: AUROC {each.auroc:.3f} against test items; false-positive rate {each.false_alarms:.1%} at "
            f"a true-positive rate of {_TRUE_POSITIVE_RATE:.0%}",
            highlight=False,
        )
    measured = Use(split="test", purpose=history.FIGURES, items=len(data.test))
    return history.with_uses(manifest.model_copy(update=changes), *data.uses, measured)


def _variant(folder: Path, variant: Any, manifest: FamiliarManifest, data: OodData) -> Any:
    card = add_ood(folder / variant.file, data)
    golden = _complete_golden(folder, variant.file, variant.golden, manifest, card)
    size = (folder / variant.file).stat().st_size
    return variant.model_copy(update={"familiarity": card, "golden": golden, "size": size})


def add_ood(graph: Path, data: OodData) -> FamiliarityCard:
    """Adds a score of the graph's own features to it, and measures it.

    Args:
        graph: which is changed.
        data: of the model.
    """
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
    foreign = tuple(
        _figures(name, known, data.run(graph, items)[-1], card.level) for name, items in data.foreign.items()
    )
    return card.model_copy(update={"foreign": foreign})


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
    """Adds the graph's p-values, as ONNX defines them, to a golden file, and their tolerance to its card.

    Raises:
        ValueError: kernels differ so much that the file would catch nothing.
    """
    path = folder / golden.file
    with np.load(path) as file:
        arrays = dict(file)
    inputs = {spec.name: arrays[spec.name] for spec in manifest.inputs}
    arrays[UNFAMILIAR] = as_defined(folder / graph, inputs)[UNFAMILIAR]
    np.savez_compressed(path, allow_pickle=False, **arrays)
    least = max(_LEAST_TOLERANCE, _STEPS * card.smallest)
    # As multiples of a tolerance of 1.
    differences = kernel_ratios(
        folder / graph, inputs, {UNFAMILIAR: arrays[UNFAMILIAR]}, GoldenCard(rows=golden.rows, atol=1.0)
    )
    tolerance, most = max(least, 2 * differences[UNFAMILIAR]), max(_MOST_TOLERATED, least)
    if tolerance > most:
        raise ValueError(
            f"{graph}: its {UNFAMILIAR} may be off by {tolerance:.3g} from one kernel to another, and a golden file "
            f"may accept {most:.3g} at most"
        )
    return golden.model_copy(update={"tolerances": golden.tolerances | {UNFAMILIAR: rounded_up(tolerance)}})
