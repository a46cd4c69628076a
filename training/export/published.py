"""A published version and the data that it was trained on, for what is done to it afterwards."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer

from service.inference.cards import ManifestBase
from service.inference.versions import versions_in
from service.tasks.autoencoder.manifest import AutoencoderManifest, EncoderManifest
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.text.manifest import TOKENIZER, TextManifest
from training.classification.evaluator import ClassificationEvaluator
from training.data.dataset import DataSet, stratified_sample
from training.data.images import ImageData, load_images
from training.data.splits import division_digest
from training.detection.data import DetectionData, load_detection
from training.detection.evaluator import DetectionEvaluator
from training.detection.parts import of_photographs
from training.export import parts
from training.export.evaluator import Evaluator
from training.export.familiarity import Parts
from training.export.history import chosen_by
from training.export.scaling import Scaling
from training.tabular.data import load_table
from training.tabular.parts import of_rows
from training.text.data import load_with
from training.text.evaluator import TextEvaluator
from training.text.parts import of_texts
from training.text.tokenizer import to_ids


def find_version(models: Path, model: str) -> Path:
    """The folder of a version.

    Args:
        models: the models folder.
        model: `NAME`, whose newest version is meant, or `NAME/VERSION`.

    Raises:
        ValueError: there is none such.
    """
    name, _, version = model.partition("/")
    found = versions_in(models / name) if (models / name).is_dir() else []
    if not found or (version and version not in found):
        raise ValueError(f"{models / model}: is no published version; give NAME or NAME/VERSION")
    return models / name / (version or found[0])


def evaluator_of(manifest: ManifestBase, folder: Path, arguments: Namespace) -> Evaluator:
    """The evaluator of a version's data.

    Args:
        manifest: of the version.
        folder: likewise.
        arguments: of the command line, see `training.published_options`.

    Raises:
        DataError: the data cannot be read.
        ValueError: they are other data than it was trained on, or its task has no evaluator.
    """
    match manifest:
        case ClassifierManifest():
            images = _images(manifest, arguments)
            _check(images, manifest, arguments)
            return ClassificationEvaluator(images, Scaling.of(manifest.calibration))
        case DetectorManifest():
            photographs = _photographs(manifest, arguments)
            _check(photographs, manifest, arguments)
            return DetectionEvaluator(photographs)
        case TextManifest():
            texts = load_with(arguments, _seed(manifest))
            _check(texts, manifest, arguments)
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            train, validation, test = (
                to_ids(tokenizer, part.texts) for part in (texts.train, texts.validation, texts.test)
            )
            return TextEvaluator(texts, train, validation, test, Scaling.of(manifest.calibration))
        case _:
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")


def parts_of(
    manifest: ManifestBase, folder: Path, arguments: Namespace, sources: Mapping[str, str] | None = None
) -> Parts:
    """A version's data, as its familiarity is fitted and measured on them.

    Args:
        manifest: of the version.
        folder: likewise.
        arguments: of the command line, `training.published_options`.
        sources: other data, by what they are; see `training.data.foreign`.

    Raises:
        DataError: the data cannot be read.
        ValueError: they are other data than it was trained on, or models of its task cannot tell.
    """
    match manifest:
        case ClassifierManifest():
            images = _images(manifest, arguments)
            _check(images, manifest, arguments)
            return parts.of_images(images, sources)
        case DetectorManifest():
            photographs = _photographs(manifest, arguments)
            _check(photographs, manifest, arguments)
            return of_photographs(photographs, sources)
        case EncoderManifest() | AutoencoderManifest():
            images = _images(manifest, arguments, labelled=False)
            _check(images, manifest, arguments)
            return parts.of_images(images, sources, parts.CODES)
        case TextManifest():
            texts = load_with(arguments, _seed(manifest))
            _check(texts, manifest, arguments)
            return of_texts(texts, Tokenizer.from_file(str(folder / TOKENIZER)), sources)
        case TabularManifest():
            if sources:
                raise ValueError("--foreign: of tables only made-up rows are measured; leave it out")
            rows = load_table(
                arguments.data,
                manifest.target,
                kind=manifest.kind,
                columns=[column.name for column in manifest.columns],
                bad=arguments.bad,
                encoding=arguments.encoding,
                seed=_seed(manifest),
            )
            _check(rows, manifest, arguments)
            return of_rows(rows)
        case _:
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} cannot tell what is unfamiliar")


def _seed(manifest: ManifestBase) -> int:
    return int(manifest.training.settings["seed"])


def _images(
    manifest: ClassifierManifest | EncoderManifest | AutoencoderManifest, arguments: Namespace, labelled: bool = True
) -> ImageData:
    return load_images(
        arguments.data,
        size=manifest.image.height if manifest.image.height == manifest.image.width else None,
        labelled=labelled,
        limit=arguments.limit,
        bad=arguments.bad,
        encoding=arguments.encoding,
        seed=_seed(manifest),
    )


def _photographs(manifest: DetectorManifest, arguments: Namespace) -> DetectionData:
    size = (manifest.image.height, manifest.image.width)
    return load_detection(arguments.data, size=size, bad=arguments.bad, limit=arguments.limit, seed=_seed(manifest))


def _check(data: DataSet, manifest: ManifestBase, arguments: Namespace) -> None:
    """Refuses other data, and a calibration half that is not the one which chose nothing in the training."""
    if data.fingerprint != manifest.data.fingerprint:
        raise ValueError(
            f"--data {arguments.data}: is not what {manifest.name} was trained on ({manifest.data.name}), or not split "
            "in the same way: its figures would say nothing. Give the data and the options that its recipe had."
        )
    if not _is_divided_alike(data, manifest):
        raise ValueError(
            f"{manifest.name}: its validation split was divided differently when it was trained, so items that chose "
            "its epoch would calibrate it. Train it again."
        )


def _is_divided_alike(data: DataSet, manifest: ManifestBase) -> bool:
    selection, calibration = data.division
    if division := manifest.data.division or chosen_by(manifest):
        return division == division_digest(calibration)
    chosen_on, validation = manifest.training.chosen_on, cast(Any, data.validation)
    # Versions that do not record a division chose by all of validation, or by the lowest ranks of every class.
    return chosen_on is None or np.array_equal(np.sort(stratified_sample(validation.labels, chosen_on, 0)), selection)
