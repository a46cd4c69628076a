"""A published version and the data that it was trained on, for what is done to it afterwards."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from service.inference.cards import ManifestBase
from service.inference.manifest import MANIFEST
from service.inference.versions import versions_in
from training.data.contents import fingerprint_like
from training.data.dataset import DataSet
from training.data.splits import division_digest
from training.export import history
from training.export.gate import Gate
from training.export.publish import publish
from training.registry import read_manifest, recipe_of

# Changes a copy of a version; returns its manifest.
Change = Callable[[Path, ManifestBase], ManifestBase]


def find_version(models: Path, model: str) -> Path:
    """The folder of `NAME/VERSION`, or of the newest version of `NAME`; raises ValueError if there is none such."""
    name, _, version = model.partition("/")
    found = versions_in(models / name) if (models / name).is_dir() else []
    if not found or (version and version not in found):
        raise ValueError(f"{models / model}: is no published version; give NAME or NAME/VERSION")
    return models / name / (version or found[0])


def publish_changed(options: Any, console: Console, kind: str, change: Change) -> None:
    """Publishes a changed copy of a version, with a step of this kind in its history.

    Args:
        options: of the command; see `training.published_options`.
        console: where the outcome goes.
        kind: of the step.
        change: gets the folder of the copy, without its manifest, and the manifest with the step.
    """
    started = time.perf_counter()
    folder = find_version(options.models, options.model)
    manifest = read_manifest(folder)
    step = history.begun(kind, getattr(options, "command_line", None), manifest.data.fingerprint)

    def write(target: Path) -> ManifestBase:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        changed = change(target, history.with_step(manifest, step))
        return history.with_end(changed, time.perf_counter() - started)

    gate = Gate.of(options)
    (version,) = publish(options.models, [(manifest.name, write)], gate)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in read_manifest(version).headline.items())
    console.print(f"published {version}" + (f": {figures}" if figures else ""))
    gate.print(console)


def reload(manifest: ManifestBase, folder: Path, options: Any) -> Any:
    """The data that a version was trained on, by its recipe; see `training.recipe.Recipe.reload`.

    Raises:
        DataError: the data cannot be read.
        ValueError: it is other data, or its validation split is divided in another way.
    """
    data: DataSet = recipe_of(manifest).reload(manifest, folder, options)
    if fingerprint_like(data, manifest.data.fingerprint) != manifest.data.fingerprint:
        raise ValueError(
            f"--data {options.data}: is not what {manifest.name} was trained on ({manifest.data.name}), or not split "
            "in the same way: its figures would say nothing. Give the data and the options that its recipe had."
        )
    recorded = manifest.data.division or history.chosen_by(manifest)
    # Without a recorded division, all of validation chose the epoch, or another half of it than today's.
    alike = recorded == division_digest(data.division[1]) if recorded else manifest.training.chosen_on is None
    if not alike:
        raise ValueError(
            f"{manifest.name}: its validation split was divided differently when it was trained, so items that chose "
            "its epoch would calibrate it. Train it again."
        )
    return data
