"""Has a model tell how unlike its training data an input is; and the command that has a published one do so.

The command publishes a new version whose graphs are the old ones with that added, without a training.
"""

import shutil
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from rich.console import Console
from sklearn.metrics import roc_auc_score

from service.inference.cards import GoldenCard, ManifestBase, TensorSpec, Use
from service.inference.golden import compare
from service.inference.manifest import MANIFEST, MODEL
from service.inference.session import Session
from service.tasks.cards import LEVELS, FamiliarityCard, ForeignFigures
from service.tasks.familiarity import UNFAMILIAR, FamiliarManifest
from service.tasks.registry import read_manifest
from training.data.foreign import named
from training.export import history
from training.export.evaluator import Array
from training.export.familiarity import Parts, append, cross_fitted, measure, write_features
from training.export.gate import Gate
from training.export.publish import publish
from training.export.published import find_version, parts_of
from training.export.variants import as_defined, rounded_up

_CAUGHT = 0.95
_SPEC = TensorSpec(name=UNFAMILIAR, dtype="float32", shape=(-1,))
# Rounding on another machine may make so many held-out items change sides.
_STEPS, _LEAST_TOLERANCE = 2, 0.002
# A golden file that accepted more would catch nothing; few held-out items make steps that are larger.
_MOST_TOLERATED = 0.05
ManifestT = TypeVar("ManifestT", bound=FamiliarManifest)


def run(arguments: Namespace, console: Console) -> None:
    """Publishes a version that tells."""
    folder = find_version(arguments.models, arguments.model)
    manifest = read_manifest(folder)
    if not isinstance(manifest, FamiliarManifest):
        raise ValueError(f"{manifest.name}: models of the task {manifest.task} cannot tell what is unfamiliar")
    started = time.perf_counter()
    parts = parts_of(manifest, folder, arguments, named(arguments.foreign))
    step = history.begun("familiarize", arguments.command_line, manifest.data.fingerprint)

    def write(target: Path) -> ManifestBase:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        told = with_familiarity(target, history.with_step(manifest, step), parts, console)
        return history.with_end(told, time.perf_counter() - started)

    gate = Gate.of(arguments)
    (version,) = publish(arguments.models, [(manifest.name, write)], gate)
    console.print(f"published {version}")
    gate.print(console)


def with_familiarity(folder: Path, manifest: ManifestT, parts: Parts, console: Console) -> ManifestT:
    """Has all graphs of the version in `folder` tell, in place of what they told before.

    Args:
        folder: with graphs and golden files.
        manifest: of the version; its `files` are not looked at.
        parts: the model's data.
        console: where the figures go.

    Returns:
        The manifest of what `folder` holds then.
    """
    card = add_familiarity(folder / MODEL, parts)
    outputs = (*manifest.answers, _SPEC)
    changes: dict[str, Any] = {
        "outputs": outputs,
        "familiarity": card,
        "golden": _complete_golden(folder, MODEL, manifest.golden, manifest, card),
    }
    if manifest.variants:
        changes["variants"] = tuple(
            _variant(folder, variant, manifest.model_copy(update={"outputs": outputs}), parts)
            for variant in manifest.variants
        )
    for each in card.foreign:
        console.print(
            f"{each.data}: told from test items with AUROC {each.auroc:.3f}; {each.false_alarms:.1%} false alarms at "
            f"{_CAUGHT:.0%} caught",
            highlight=False,
        )
    return history.with_uses(
        manifest.model_copy(update=changes),
        *parts.uses,
        Use(split="test", purpose=history.FIGURES, items=len(parts.test)),
    )


def _variant(folder: Path, variant: Any, manifest: FamiliarManifest, parts: Parts) -> Any:
    card = add_familiarity(folder / variant.file, parts)
    golden = _complete_golden(folder, variant.file, variant.golden, manifest, card)
    size = (folder / variant.file).stat().st_size
    return variant.model_copy(update={"familiarity": card, "golden": golden, "size": size})


def add_familiarity(graph: Path, parts: Parts) -> FamiliarityCard:
    """Has the graph tell, by its own features, and measures what that is worth.

    Args:
        graph: which is changed.
        parts: the model's data.
    """
    method = parts.method
    layers = method.layers(onnx.load(graph))
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch) / MODEL
        write_features(graph, layers, bare)
        distances = method.fit(layers, parts.run(bare, parts.train), parts.labels)
        held_out = measure(distances, parts.run(bare, parts.held_out))
    append(graph, distances, held_out)
    known = parts.run(graph, parts.test)[-1]
    card = FamiliarityCard(
        method=method.words,
        method_chosen_on=method.chosen_on,
        calibrated_on=len(held_out),
        test_below=_below(known),
        cross_fitted_below=_below(cross_fitted(held_out)),
    )
    foreign = tuple(
        _figures(data, known, parts.run(graph, items)[-1], card.level) for data, items in parts.foreign.items()
    )
    return card.model_copy(update={"foreign": foreign})


def _below(told: Array) -> dict[str, float]:
    return {f"{level:g}": float((told < level).mean()) for level in LEVELS}


def _figures(data: str, known: Array, foreign: Array, level: float) -> ForeignFigures:
    is_known = np.repeat((True, False), (len(known), len(foreign)))
    return ForeignFigures(
        data=data,
        items=len(foreign),
        auroc=float(roc_auc_score(is_known, np.concatenate((known, foreign)))),
        false_alarms=float((known <= np.quantile(foreign, _CAUGHT, method="higher")).mean()),
        caught=float((foreign < level).mean()),
    )


def _complete_golden(
    folder: Path, graph: str, golden: GoldenCard, manifest: FamiliarManifest, card: FamiliarityCard
) -> GoldenCard:
    """Adds to a golden file what the graph means, as ONNX defines it, and to its card by how much that may be off.

    Raises:
        ValueError: kernels differ so much that the file would catch nothing.
    """
    path = folder / golden.file
    with np.load(path) as file:
        arrays = dict(file)
    inputs = {spec.name: arrays[spec.name] for spec in manifest.inputs}
    arrays[UNFAMILIAR] = as_defined(folder / graph, inputs)[UNFAMILIAR]
    np.savez_compressed(path, allow_pickle=False, **arrays)
    tolerance = max(_LEAST_TOLERANCE, _STEPS * card.smallest)
    most = max(_MOST_TOLERATED, tolerance)
    single = golden.model_copy(update={"lists": None})
    for threads in (1, 0):
        session = Session(folder / graph, "cpu", threads)
        for count in (1, golden.rows):
            given = {name: array[:count] for name, array in inputs.items()}
            found = dict(zip(session.outputs, session.run(given), strict=True))
            want = {UNFAMILIAR: arrays[UNFAMILIAR][:count]}
            tolerance = max(tolerance, 2 * compare(want, found, single).value)
    if tolerance > most:
        raise ValueError(
            f"{graph}: its {UNFAMILIAR} may be off by {tolerance:.3g} from one kernel to another, and a golden file "
            f"may accept {most:.3g} at most"
        )
    tolerances = golden.tolerances | {UNFAMILIAR: rounded_up(tolerance)}
    return golden.model_copy(update={"tolerances": tolerances})
