"""Measures a published model anew and writes its report: a new version with the same weights, without a training.

For what has changed since it was published: how figures are measured, what chooses thresholds, how reports look. What
a detector keeps of its boxes is chosen anew too, and where that is asked for, how a classifier is calibrated.
"""

import json
import re
import shutil
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from service.inference.cards import ManifestBase
from service.inference.manifest import MANIFEST, MODEL
from service.inference.session import Session
from service.tasks.cards import ClassifierVariant
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.registry import read_manifest
from training.classification.compare import RESULT, read_result
from training.classification.evaluator import ClassificationEvaluator
from training.classification.report import write_report as write_classification_report
from training.data.splits import division_digest
from training.detection.augment import BoxAugment
from training.detection.data import DetectionData
from training.detection.evaluation import Detections
from training.detection.evaluator import DetectionEvaluator
from training.detection.report import write_report as write_detection_report
from training.detection.task import DetectionSettings
from training.detection.tuning import choose, graph_outputs, replace_best
from training.export import history
from training.export.evaluator import Evaluator
from training.export.figures import milliseconds_per_image
from training.export.gate import Gate
from training.export.publish import publish
from training.export.published import evaluator_of, find_version
from training.export.scaling import Scaling
from training.export.variants import renew_golden, write_golden

# What only the training knows is kept of the old report.
_KEPT = ("## The effect of filters, layers and dropout", "## What it does not know", "## Variants")
_COMPARED, _LAST = "## Comparison of architectures", "## Provenance"
# The settings of a detector's training that say what it kept meanwhile.
_SUPPRESSION = ("iou", "floor", "max_detections")


def run(arguments: Namespace, console: Console) -> None:
    """Evaluates, and publishes the version."""
    folder = find_version(arguments.models, arguments.model)
    manifest = read_manifest(folder)
    if arguments.calibrate and not isinstance(manifest, ClassifierManifest):
        raise ValueError(f"--calibrate: {manifest.name} is no classifier of images; leave it out")
    if not isinstance(manifest, ClassifierManifest | DetectorManifest):
        # Their reports show what the graph does not tell, such as word vectors.
        raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")
    started = time.perf_counter()
    evaluator = evaluator_of(manifest, folder, arguments)
    step = history.begun("evaluate", arguments.command_line, manifest.data.fingerprint)
    recorded = history.with_step(manifest, step)

    def write(target: Path) -> ManifestBase:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        card = target / "report" / "README.md"
        before = card.read_text() if card.exists() else ""
        measured = _measure(target, recorded, evaluator, arguments.compare, fit=arguments.calibrate)
        _keep_sections(card, before, compared=bool(arguments.compare))
        measured = history.with_uses(measured, *evaluator.measured(fit=arguments.calibrate))
        return history.with_end(measured, time.perf_counter() - started)

    gate = Gate.of(arguments)
    (version,) = publish(arguments.models, [(manifest.name, write)], gate)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in read_manifest(version).headline.items())
    console.print(f"published {version}: {figures}")
    gate.print(console)


def _measure(
    target: Path, manifest: ManifestBase, evaluator: Evaluator, compare: Sequence[Path], *, fit: bool
) -> ManifestBase:
    """Measures the graphs in `target`, and writes the report beside them.

    Args:
        target: the new version.
        manifest: of the old one.
        evaluator: of its data.
        compare: other runs or versions, for the report of a classifier.
        fit: whether its calibration is fitted anew first.

    Returns:
        The manifest with the new figures.
    """
    match manifest, evaluator:
        case ClassifierManifest(), ClassificationEvaluator():
            others = [read_result(folder) for folder in compare]
            if fit:
                Session(target / MODEL, "cpu").check(target, manifest)  # since its golden file is to be renewed
            evaluation = evaluator.evaluate(target / MODEL, fit=fit)
            if fit:
                renew_golden(target / MODEL, target, manifest)
            division = division_digest(evaluator.data.division[1])
            described = manifest.data.model_copy(update={"division": division})
            card = manifest.model_copy(update=evaluation.fields | {"data": described})
            variants = tuple(_measure_variant(target, card, variant, evaluator, fit) for variant in manifest.variants)
            card = card.model_copy(update={"variants": variants})
            result = read_result(target) | {
                "accuracy": evaluation.metrics.accuracy,
                "ece_after": evaluation.calibration.ece_after,
            }
            data = replace(evaluator.data, name=manifest.data.name)  # as its recipe was told
            write_classification_report(target / "report", card, evaluation, data, result, others)
            (target / "report" / RESULT).write_text(json.dumps(result, indent=1) + "\n")
            return card
        case DetectorManifest(), DetectionEvaluator():
            manifest = _choose_suppression(target, manifest, evaluator.data)
            manifest = history.with_uses(manifest, *evaluator.tuned(history.SUPPRESSION))
            measured = evaluator.evaluate(target / MODEL)
            photographs = manifest.model_copy(update=measured.fields)
            _write_detection_report(target, photographs, evaluator.data, measured.found)
            return photographs
    raise TypeError(f"{type(manifest).__name__} and {type(evaluator).__name__} are of two tasks")


def _choose_suppression(target: Path, manifest: DetectorManifest, data: DetectionData) -> DetectorManifest:
    """Chooses what the graph in `target` keeps of its boxes, and makes it and its golden file do so."""
    settings = DetectionSettings(**{name: manifest.training.settings[name] for name in _SUPPRESSION})
    base = settings.suppression.model_copy(update={"max_detections": manifest.suppression.max_detections})
    graph = target / MODEL
    suppression = choose(graph_outputs(graph, data.validation), data.validation, data.classes, base)
    # Variants have a suppression of their own, which would stay.
    if suppression == manifest.suppression or manifest.variants:
        return manifest
    replace_best(graph, suppression)
    renew_golden(graph, target, manifest)
    return manifest.model_copy(update={"suppression": suppression})


def _measure_variant(
    target: Path,
    manifest: ClassifierManifest,
    variant: ClassifierVariant,
    evaluator: ClassificationEvaluator,
    fit: bool,
) -> ClassifierVariant:
    graph = target / variant.file
    changes = evaluator.at(Scaling.of(variant.calibration)).evaluate(graph, fit=fit).fields
    if fit:
        changes["golden"] = write_golden(graph, variant.name, target, manifest)
        changes["size"] = graph.stat().st_size
    return variant.model_copy(update=changes)


def _write_detection_report(
    target: Path, manifest: DetectorManifest, data: DetectionData, found: Sequence[Detections]
) -> None:
    graph, training = target / MODEL, manifest.training
    some = data.test.images[: manifest.max_batch]
    result = {
        "parameters": training.parameters,
        "training_seconds": training.seconds,
        "ms_batch_1": milliseconds_per_image(graph, some, 1),
        "ms_batch_max": milliseconds_per_image(graph, some, manifest.max_batch, repeats=5),
        "max_batch": manifest.max_batch,
        "history": [],
        "onnx_difference": "unknown",
    }
    augment = BoxAugment.stated(training.settings)
    write_detection_report(target / "report", manifest, found, data, augment, result)


def _keep_sections(card: Path, before: str, *, compared: bool) -> None:
    """Puts what only a training knows back into a report, and removes the pictures that it no longer shows."""
    text = card.read_text()
    if not compared and (comparison := _section(before, _COMPARED)):
        text = text.replace(_section(text, _COMPARED), comparison)
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
