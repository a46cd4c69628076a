"""What is done with published versions: each command publishes a changed copy, with a step in its history."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from quartet.console import did_you_mean
from service.inference.cards import ManifestBase
from service.inference.manifest import MANIFEST
from service.inference.versions import versions_in
from service.tasks.familiarity import FamiliarManifest
from service.tasks.histograms import ObservedManifest
from training.data.contents import fingerprint_like
from training.data.foreign import named
from training.data.splits import division_digest
from training.export import history
from training.export.gate import Gate
from training.export.histograms import with_histograms
from training.export.measure import measure
from training.export.ood import with_ood
from training.export.publish import publish
from training.export.quantize import with_variants
from training.published_options import METHODS, UnknownVersion
from training.registry import data_of, read_manifest, recipe_of, training_of
from training.report.card import CARD, render_card

# Changes a copy of a version, given its folder, its manifest and its data; returns its manifest.
Change = Callable[[Path, Any, Any], ManifestBase]


class NothingKept(Exception):
    """No variant is worth keeping."""


def evaluate(options: Any, console: Console) -> None:
    """Measures a version on labelled data, or with `--renew` on its own data, and publishes that with a new report.

    The weights stay. With `--renew`, what a detector keeps of its boxes is chosen anew too, and with `--calibrate` how
    a classifier is calibrated.
    """
    if not (options.renew or options.calibrate):
        measure(_find_version(options.models, options.model), options, console)
        return

    def renew(target: Path, manifest: Any, data: Any) -> ManifestBase:
        evaluator = recipe_of(manifest).evaluator(manifest, target, data)
        renewed = evaluator.renew(target, manifest, fit=options.calibrate)
        renewed = history.with_uses(renewed, *evaluator.measured(fit=options.calibrate))
        return _with_renewed_histograms(target, renewed, data)

    _publish_changed(options, console, "evaluate", renew)


def quantize(options: Any, console: Console) -> None:
    """Tries variants, and publishes a version with those that are kept."""

    def add(target: Path, manifest: Any, data: Any) -> ManifestBase:
        recipe = recipe_of(manifest)
        has_ood = getattr(manifest, "familiarity", None) is not None
        ood_data = recipe.ood_data(manifest, target, data, {}) if has_ood else None
        methods = [name for name in METHODS if name in options.method]
        changed = with_variants(target, manifest, recipe.evaluator(manifest, target, data), console, ood_data, methods)
        if changed is manifest:
            raise NothingKept
        return changed

    try:
        _publish_changed(options, console, "quantize", add)
    except NothingKept:
        console.print("nothing is published")


def ood(options: Any, console: Console) -> None:
    """Publishes a version with an out-of-distribution score."""

    def add(target: Path, manifest: Any, data: Any) -> ManifestBase:
        if not isinstance(manifest, FamiliarManifest):
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} have no out-of-distribution score")
        of_task = recipe_of(manifest).ood_data(manifest, target, data, foreign)
        return _with_renewed_histograms(target, with_ood(target, manifest, of_task, console), data)

    foreign = named(options.foreign)
    _publish_changed(options, console, "ood", add)


def drift(options: Any, console: Console) -> None:
    """Publishes a version with histograms of its validation split."""

    def add(target: Path, manifest: Any, data: Any) -> ManifestBase:
        observed = recipe_of(manifest).observed(manifest, target, data)
        changed = with_histograms(target, manifest, observed)
        names = ", ".join(histogram.name for histogram in changed.histograms)
        items = f"{len(observed.items):,} validation items"
        console.print(f"histograms of {items}: {names}", highlight=False, soft_wrap=True)
        return changed

    _publish_changed(options, console, "drift", add)


def card(options: Any, console: Console) -> None:
    """Renders a version's card again, in place, from its manifest and its record."""
    folder = _find_version(options.models, options.model)
    render_card(folder, read_manifest(folder))
    console.print(f"rendered {folder / CARD}", highlight=False, soft_wrap=True)


def _with_renewed_histograms(target: Path, manifest: Any, data: Any) -> Any:
    """The manifest with histograms of the answers as they are now, if it has histograms."""
    if not (isinstance(manifest, ObservedManifest) and manifest.histograms):
        return manifest
    return with_histograms(target, manifest, recipe_of(manifest).observed(manifest, target, data))


def _find_version(models: Path, model: str) -> Path:
    name, _, version = model.partition("/")
    found = versions_in(models / name) if (models / name).is_dir() else []
    if not found:
        there = [path.name for path in sorted(models.glob("*")) if path.is_dir() and versions_in(path)]
        raise UnknownVersion(f"{models} holds no model {name}{did_you_mean(name, there, 'it holds')}")
    if version and version not in found:
        raise UnknownVersion(f"{name} has no published version {version}; it has {', '.join(found)}.")
    return models / name / (version or found[0])


def _publish_changed(options: Any, console: Console, kind: str, change: Change) -> None:
    started = time.perf_counter()
    folder = _find_version(options.models, options.model)
    manifest = read_manifest(folder)
    step = history.begun(kind, options.command_line, data_of(manifest).fingerprint, torch.get_num_threads())

    def write(target: Path) -> ManifestBase:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        begun = history.with_step(manifest, step)
        changed = change(target, begun, _reload(begun, target, options))
        *before, last = changed.history
        ended = history.ended(last, time.perf_counter() - started)
        return changed.model_copy(update={"history": (*before, ended)})

    gate = Gate.of(options)
    (version,) = publish(options.models, [(manifest.name, write)], gate)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in read_manifest(version).headline.items())
    console.print(f"published {version}" + (f": {figures}" if figures else ""))
    gate.print(console)


def _reload(manifest: ManifestBase, folder: Path, options: Any) -> Any:
    data: Any = recipe_of(manifest).reload(manifest, folder, options)
    stated = data_of(manifest)
    if fingerprint_like(data, stated.fingerprint) != stated.fingerprint:
        raise ValueError(
            f"--data {options.data}: is not what {manifest.name} was trained on ({stated.name}), or not split "
            "in the same way: its figures would say nothing. Give the data and the options that its recipe had."
        )
    recorded = stated.division or history.chosen_by(manifest)
    # Without a recorded division, all of validation chose the epoch, or another half of it than today's.
    alike = recorded == division_digest(data.division[1]) if recorded else training_of(manifest).chosen_on is None
    if not alike:
        raise ValueError(
            f"{manifest.name}: its validation split was divided differently when it was trained, so items that chose "
            "its epoch would calibrate it. Train it again."
        )
    return data
