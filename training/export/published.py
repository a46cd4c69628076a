"""A published version and the data that it was trained on, for what is done to it afterwards."""

import shutil
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from tokenizers import Tokenizer

from service.inference.cards import ManifestBase
from service.inference.manifest import MANIFEST
from service.inference.versions import versions_in
from service.tasks.autoencoder.manifest import AutoencoderManifest, EncoderManifest
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.registry import read_manifest
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.text.manifest import TOKENIZER, TextManifest
from training.classification.evaluator import ClassificationEvaluator
from training.data.contents import fingerprint_like
from training.data.dataset import DataSet
from training.data.images import load_images
from training.data.splits import division_digest
from training.detection.data import load_detection
from training.detection.evaluator import DetectionEvaluator
from training.detection.ood import ood_data_from_photographs
from training.export import history
from training.export.evaluator import Evaluator
from training.export.gate import Gate
from training.export.ood_data import MAPS, OodData, ood_data_from_images
from training.export.publish import publish
from training.tabular.data import load_table
from training.tabular.ood import ood_data_from_rows
from training.text.data import load_with
from training.text.evaluator import TextEvaluator
from training.text.ood import ood_data_from_texts

# Changes a copy of a version; returns its manifest.
Change = Callable[[Path, ManifestBase], ManifestBase]


def find_version(models: Path, model: str) -> Path:
    """The folder of a version.

    Args:
        models: the models folder.
        model: `NAME` for its newest version, or `NAME/VERSION`.

    Raises:
        ValueError: there is none such.
    """
    name, _, version = model.partition("/")
    found = versions_in(models / name) if (models / name).is_dir() else []
    if not found or (version and version not in found):
        raise ValueError(f"{models / model}: is no published version; give NAME or NAME/VERSION")
    return models / name / (version or found[0])


def publish_changed(arguments: Namespace, console: Console, kind: str, change: Change) -> None:
    """Publishes a changed copy of a version, with a step of this kind in its history.

    Args:
        arguments: of the command line; see `training.published_options`.
        console: where the outcome goes.
        kind: of the step.
        change: gets the folder of the copy, without its manifest, and the manifest with the step.
    """
    started = time.perf_counter()
    folder = find_version(arguments.models, arguments.model)
    manifest = read_manifest(folder)
    step = history.begun(kind, getattr(arguments, "command_line", None), manifest.data.fingerprint)

    def write(target: Path) -> ManifestBase:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        changed = change(target, history.with_step(manifest, step))
        return history.with_end(changed, time.perf_counter() - started)

    gate = Gate.of(arguments)
    (version,) = publish(arguments.models, [(manifest.name, write)], gate)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in read_manifest(version).headline.items())
    console.print(f"published {version}: {figures}")
    gate.print(console)


def reload(manifest: ManifestBase, folder: Path, arguments: Namespace) -> Any:  # noqa: ARG001
    """The data that a version was trained on.

    Args:
        manifest: of the version.
        folder: likewise.
        arguments: of the command line, see `training.published_options`.

    Raises:
        DataError: the data cannot be read.
        ValueError: it is other data than the version was trained on, or its task cannot be measured again.
    """
    seed = int(manifest.training.settings.get("seed", 0))
    common = {"bad": arguments.bad, "seed": seed}
    data: DataSet
    match manifest:
        case ClassifierManifest() | EncoderManifest() | AutoencoderManifest():
            height, width = manifest.image.height, manifest.image.width
            data = load_images(
                arguments.data,
                size=height if height == width else None,
                labelled=isinstance(manifest, ClassifierManifest),
                limit=arguments.limit,
                encoding=arguments.encoding,
                **common,
            )
        case DetectorManifest():
            size = (manifest.image.height, manifest.image.width)
            data = load_detection(arguments.data, size=size, limit=arguments.limit, **common)
        case TextManifest():
            data = load_with(arguments, seed)
        case TabularManifest():
            columns = [column.name for column in manifest.columns]
            data = load_table(
                arguments.data,
                manifest.target,
                kind=manifest.kind,
                columns=columns,
                encoding=arguments.encoding,
                **common,
            )
        case _:
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")
    check_data(data, manifest, arguments.data)
    return data


def evaluator_for(manifest: ManifestBase, folder: Path, data: Any) -> Evaluator:
    """The evaluator of a version's data.

    Raises:
        ValueError: its task has none.
    """
    match manifest:
        case ClassifierManifest():
            return ClassificationEvaluator(data)
        case DetectorManifest():
            return DetectionEvaluator(data)
        case TextManifest():
            return TextEvaluator.of(data, Tokenizer.from_file(str(folder / TOKENIZER)))
        case _:
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")


def ood_data_for(manifest: ManifestBase, folder: Path, data: Any, sources: Mapping[str, str] | None = None) -> OodData:
    """The data that a version's out-of-distribution score is fitted and measured on.

    Args:
        manifest: of the version.
        folder: likewise.
        data: that it was trained on.
        sources: other data, by name; see `training.data.foreign`.

    Raises:
        DataError: other data cannot be read.
        ValueError: models of its task have no such score.
    """
    match manifest:
        case ClassifierManifest():
            return ood_data_from_images(data, sources)
        case DetectorManifest():
            return ood_data_from_photographs(data, sources)
        case EncoderManifest() | AutoencoderManifest():
            return ood_data_from_images(data, sources, MAPS)
        case TextManifest():
            return ood_data_from_texts(data, Tokenizer.from_file(str(folder / TOKENIZER)), sources)
        case TabularManifest():
            if sources:
                raise ValueError("--foreign: of tables only made-up rows are measured; leave it out")
            return ood_data_from_rows(data)
        case _:
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} have no out-of-distribution score")


def check_data(data: DataSet, manifest: ManifestBase, source: str) -> None:
    """Refuses other data than a version was trained on, and another division of its validation split.

    Raises:
        ValueError: says which.
    """
    if fingerprint_like(data, manifest.data.fingerprint) != manifest.data.fingerprint:
        raise ValueError(
            f"--data {source}: is not what {manifest.name} was trained on ({manifest.data.name}), or not split in the "
            "same way: its figures would say nothing. Give the data and the options that its recipe had."
        )
    recorded = manifest.data.division or history.chosen_by(manifest)
    # Without a recorded division, all of validation chose the epoch, or another half of it than today's.
    alike = recorded == division_digest(data.division[1]) if recorded else manifest.training.chosen_on is None
    if not alike:
        raise ValueError(
            f"{manifest.name}: its validation split was divided differently when it was trained, so items that chose "
            "its epoch would calibrate it. Train it again."
        )
