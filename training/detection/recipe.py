"""Object detection: a light one-stage detector on a pretrained backbone, on any data set of boxes.

From the data to a published version, top to bottom: load, build, fit, evaluate, export, report.
"""

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import nn

from service.inference.cards import GoldenCard, ListCard
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.detection.manifest import DetectorManifest, LetterboxInput
from training.backbones.gradients import gradients_for
from training.backbones.timm_models import check_weights
from training.detection.augment import BoxAugment
from training.detection.data import DetectionData, DetectionSplit, load_detection
from training.detection.evaluation import average_precision
from training.detection.evaluator import DetectionEvaluator
from training.detection.graph import OUTPUTS, TRANSLATIONS, DetectorGraph
from training.detection.network import Detector, build
from training.detection.ood import ood_data_from_photographs
from training.detection.options import DEFAULTS, NetworkSettings
from training.detection.report import CURVES, write_augmented, write_report
from training.detection.samples import draw_boxes
from training.detection.task import Detection, DetectionSettings, detect
from training.detection.tuning import choose, network_outputs
from training.engine.fit import FitState
from training.engine.interpolate import interpolate
from training.engine.weights import best_weights, keep_weights
from training.export.cards import data_card, record_cost, training_card
from training.export.graph import export, write_golden
from training.export.history import EPOCH, INTERPOLATION, SUPPRESSION
from training.export.ood import with_ood
from training.export.quantize import with_variants
from training.old_run import Run, as_served, begin
from training.options import check_interpolation, override
from training.report.plots import write_curves
from training.report.record import update_record

MAX_BATCH = 16
GOLDEN_ROWS = 4
# Detections with nearly the same score may swap positions, and a GPU's arithmetic is less exact than a CPU's.
GOLDEN_LISTS = ListCard(order="scores", above=0.3, tolerances={"boxes": 2.0, "scores": 0.02, "classes": 0.5})


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes if that is asked for."""
    check_interpolation(arguments)
    network = override(NetworkSettings(), arguments)
    check_weights(network.backbone, network.weights)
    settings = override(DEFAULTS, arguments)
    learning = DetectionSettings(augment=override(BoxAugment(), arguments))
    load = partial(
        load_detection,
        arguments.data,
        size=arguments.image_size,
        bad=arguments.bad,
        limit=arguments.limit,
        seed=settings.seed,
    )
    run = begin(arguments, console, load, run="detection", model="detector", draw=draw_boxes)
    data = run.data
    labels = {"validation": np.concatenate(data.validation.labels), "test": np.concatenate(data.test.labels)}
    details = f" in frames of {data.size[0]}x{data.size[1]}, {len(data.classes)} classes"
    run.announce("images", details, data.classes, labels)

    model = build(network, data.size, len(data.classes), settings.seed)
    run.start(model)
    selection, _ = data.division
    choice = data.validation.take(selection)
    task = Detection(data.train, choice, data.classes, learning)
    with gradients_for(model, run.accelerator.device, arguments.precision):
        state = run.fit(model, task, settings, network=network, learning=learning)
    if not run.reports:
        return

    model = as_served(model)
    share = 1.0
    if arguments.interpolate:
        score = partial(_validation_map, choice=choice, classes=data.classes, learning=learning)
        share = interpolate(model, best_weights(arguments.start_from), score)
        console.print(f"{share:.0%} of the way from {arguments.start_from} to the trained weights is best")
    write = partial(
        _write_version,
        run=run,
        model=model,
        network=network,
        learning=learning,
        stated=run.stated(network, settings, learning) | {"interpolated": share},
        state=state,
    )
    run.deliver((run.name, write))


def _validation_map(
    network: nn.Module, choice: DetectionSplit, classes: tuple[str, ...], learning: DetectionSettings
) -> float:
    assert isinstance(network, Detector)  # noqa: S101 - only detectors are trained here
    return average_precision(detect(network, choice, learning), choice, classes).map


def _write_version(
    target: Path,
    run: Run[DetectionData],
    model: Detector,
    network: NetworkSettings,
    learning: DetectionSettings,
    stated: dict[str, Any],
    state: FitState,
) -> DetectorManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty."""
    data, images = run.data, run.data.test.images[:MAX_BATCH]
    outputs = network_outputs(model, data.validation)
    suppression = choose(outputs, data.validation, data.classes, learning.suppression)
    graph = DetectorGraph(model, suppression)
    names: dict[str, Any] = {"input_name": "images", "output_names": OUTPUTS}
    # On one machine's CPU the two agree far better than the golden file demands of every device.
    close = ListCard(order="scores", above=0.05, tolerances={"boxes": 0.1, "scores": 1e-3, "classes": 0.5})
    checked = GoldenCard(rows=MAX_BATCH, atol=1e-3, lists=close)
    inputs, answers, difference = export(
        graph, images, target / MODEL, max_batch=MAX_BATCH, card=checked, translations=TRANSLATIONS, **names
    )
    rows = min(GOLDEN_ROWS, len(images))
    write_golden(graph, images[:rows], target / GOLDEN, **names)
    evaluator = DetectionEvaluator(data)
    measured = evaluator.evaluate(target / MODEL)
    metrics = measured.metrics
    run.console.print(f"test mAP at 0.5 {metrics.map_50:.4f}, at 0.5 to 0.95 {metrics.map:.4f}")
    height, width = data.size
    manifest = DetectorManifest(
        name=run.name,
        description=f"{data.name}, {len(data.classes)} classes: one-stage detector on {network.backbone}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=answers,
        max_batch=MAX_BATCH,
        image=LetterboxInput(height=height, width=width),
        # A small frame may have fewer cells than detections are allowed.
        suppression=suppression.model_copy(update={"max_detections": answers[1].shape[1]}),
        data=data_card(data),
        **measured.fields,
        training=training_card("python -m training detection", stated, state, model),
        history=run.history(
            stated,
            state,
            *evaluator.scored(EPOCH, *([INTERPOLATION] if run.arguments.interpolate else [])),
            *evaluator.tuned(SUPPRESSION),
            *evaluator.measured(),
        ),
        golden=GoldenCard(rows=rows, atol=1e-3, lists=GOLDEN_LISTS),
        files={},
    )
    if run.arguments.keep_weights:
        keep_weights(model, target)
    write_report(target, manifest, measured.found, data)
    write_augmented(target, data, learning.augment)
    write_curves(target, state, *CURVES)
    record_cost(target, images, MAX_BATCH)
    update_record(target, onnx_difference=f"{difference.value:.1g} ({difference.output})")
    ood_data = ood_data_from_photographs(data)
    manifest = with_ood(target, manifest, ood_data, run.console)
    if run.arguments.quantize:
        return with_variants(target, manifest, evaluator, run.console, ood_data)
    return manifest
