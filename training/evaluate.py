"""Measures a published model anew and writes its report: a new version with the same graph, without a training.

For what has changed since it was published: how figures are measured, what chooses thresholds, how reports look.
"""

import json
import re
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from service.inference.cards import ManifestBase
from service.inference.manifest import MANIFEST, MODEL
from service.inference.session import Session
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.detection.manifest import DetectorManifest, DetectorMetrics
from service.tasks.registry import read_manifest
from training.calibrate import logits_of
from training.classification.compare import RESULT, read_result
from training.classification.report import write_report as write_classification_report
from training.data import DataSet
from training.detection.augment import BoxAugment
from training.detection.data import DetectionSplit, load_detection
from training.detection.evaluation import Detections, average_precision, precision_intervals, threshold_curves
from training.detection.report import write_report as write_detection_report
from training.detection.task import EVALUATION_BATCH, in_originals
from training.evaluation import evaluate, milliseconds_per_image
from training.images import load_images
from training.lazy import Images
from training.publish import publish
from training.published import find_version

_BATCH = 64
# What only the training knows is kept of the old report.
_KEPT = ("## The effect of filters, layers and dropout", "## Variants")
_LAST = "## Provenance"


def add_arguments(parser: ArgumentParser) -> None:
    """The command line."""
    parser.add_argument("model", metavar="NAME[/VERSION]", help="a published model (default: its newest version)")
    parser.add_argument("--data", required=True, help="the data that it was trained on, as its recipe took it")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--limit", type=int, help="as its recipe took it")
    parser.add_argument("--bad", choices=("refuse", "drop"), default="refuse", help="likewise")
    parser.add_argument("--compare", type=Path, nargs="*", default=[], help="other runs or versions, for the table")


def run(arguments: Namespace, console: Console) -> None:
    """Evaluates, and publishes the version."""
    folder = find_version(arguments.models, arguments.model)
    manifest = read_manifest(folder)
    measure: Callable[[Path], ManifestBase]
    match manifest:
        case ClassifierManifest():
            measure = partial(_classification, manifest=manifest, arguments=arguments)
        case DetectorManifest():
            measure = partial(_detection, manifest=manifest, arguments=arguments)
        case _:
            raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")

    def write(target: Path) -> ManifestBase:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        card = target / "report" / "README.md"
        before = card.read_text() if card.exists() else ""
        measured = measure(target)
        _keep_sections(card, before)
        return measured

    (version,) = publish(arguments.models, [(manifest.name, write)])
    figures = ", ".join(f"{name} {value:.4f}" for name, value in read_manifest(version).headline.items())
    console.print(f"published {version}: {figures}")


def _check_data(data: DataSet, manifest: ManifestBase, source: str) -> None:
    if data.fingerprint != manifest.data.fingerprint:
        raise ValueError(
            f"--data {source}: is not what {manifest.name} was trained on ({manifest.data.name}), or not split in the "
            "same way: its figures would say nothing. Give the data and the options that its recipe had."
        )


def _classification(target: Path, manifest: ClassifierManifest, arguments: Namespace) -> ManifestBase:
    """Measures an image classifier; its temperature is part of the graph, and stays."""
    others = [read_result(folder) for folder in arguments.compare]
    square = manifest.image.height if manifest.image.height == manifest.image.width else None
    seed = int(manifest.training.settings["seed"])
    data = load_images(arguments.data, size=square, limit=arguments.limit, bad=arguments.bad, seed=seed)
    _check_data(data, manifest, arguments.data)
    temperature = manifest.calibration.temperature
    validation, test = (
        logits_of(_answers(target / MODEL, split.images)[0]) * np.float32(temperature)
        for split in (data.validation, data.test)
    )
    evaluation = evaluate(data.classes, validation, data.validation.labels, test, data.test.labels, temperature)
    measured = manifest.model_copy(
        update={
            "metrics": evaluation.metrics,
            "calibration": evaluation.calibration,
            "conformal": evaluation.conformal,
            "intervals": evaluation.intervals,
        }
    )
    result = read_result(target) | {
        "accuracy": evaluation.metrics.accuracy,
        "ece_after": evaluation.calibration.ece_after,
    }
    write_classification_report(target / "report", measured, evaluation, data, result, others)
    (target / "report" / RESULT).write_text(json.dumps(result, indent=1) + "\n")
    return measured


def _detection(target: Path, manifest: DetectorManifest, arguments: Namespace) -> ManifestBase:
    """Measures a detector: validation gives the curves that choose thresholds, test those that say what they do."""
    settings = manifest.training.settings
    size = (manifest.image.height, manifest.image.width)
    data = load_detection(
        arguments.data, size=size, bad=arguments.bad, limit=arguments.limit, seed=int(settings["seed"])
    )
    _check_data(data, manifest, arguments.data)
    graph = target / MODEL
    chosen, found = (_detections(graph, split) for split in (data.validation, data.test))
    precision = average_precision(found, data.test, data.classes)
    measured = manifest.model_copy(
        update={
            "metrics": DetectorMetrics(
                map_50=precision.map_50,
                map_75=precision.map_75,
                map=precision.map,
                validation_map=average_precision(chosen, data.validation, data.classes).map,
                per_class=precision.per_class,
            ),
            "curves": threshold_curves(chosen, data.validation, data.classes),
            "test_curves": threshold_curves(found, data.test, data.classes),
            "intervals": precision_intervals(found, data.test, data.classes),
        }
    )
    augment, some = dict(settings["augment"]), data.test.images[: manifest.max_batch]
    result = {
        "parameters": manifest.training.parameters,
        "training_seconds": manifest.training.seconds,
        "ms_batch_1": milliseconds_per_image(graph, some, 1),
        "ms_batch_max": milliseconds_per_image(graph, some, manifest.max_batch, repeats=5),
        "max_batch": manifest.max_batch,
        "history": [],
        "onnx_difference": "unknown",
    }
    write_detection_report(
        target / "report", measured, found, data, BoxAugment(**augment | {"scale": tuple(augment["scale"])}), result
    )
    return measured


def _answers(graph: Path, images: Images, batch: int = _BATCH) -> list[npt.NDArray[Any]]:
    """What a graph answers to all images: an array for each output."""
    session = Session(graph, "cpu")
    parts = [session.run({session.inputs[0]: images[start : start + batch]}) for start in range(0, len(images), batch)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _detections(graph: Path, split: DetectionSplit) -> list[Detections]:
    return in_originals(split, 0, _answers(graph, split.images, EVALUATION_BATCH))


def _keep_sections(card: Path, before: str) -> None:
    """Puts what only a training knows back into a report, and removes the pictures that it no longer shows."""
    text = card.read_text()
    kept = [_section(before, heading) for heading in _KEPT if heading not in text]
    kept.append(_section(before, _LAST) or _section(text, _LAST))
    text = text.partition(f"{_LAST}\n")[0] + "\n".join(filter(None, kept))
    card.write_text(text)
    shown = set(re.findall(r"\]\(([^)/]+)\)", text))
    for picture in (*card.parent.glob("*.png"), *card.parent.glob("*.jpg")):
        if picture.name not in shown:
            picture.unlink()


def _section(text: str, heading: str) -> str:
    """A section of a report with its heading; empty if there is none."""
    _, found, rest = f"\n{text}".partition(f"\n{heading}\n")
    return f"{heading}\n{rest.partition(chr(10) + '## ')[0]}" if found else ""
