"""Object detection: a light one-stage detector on a pretrained backbone, on any data set of boxes."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import nn

from quartet.captured.items import Captured
from service.inference.cards import GoldenCard, ListCard
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.detection.manifest import DetectorManifest, LetterboxInput
from training.backbones.registry import check_backbone
from training.baseline import Baseline
from training.data.recognise import Recognised, Source
from training.detection.added import with_captures
from training.detection.baseline import fit_baseline
from training.detection.data import DetectionData, load_detection
from training.detection.evaluation import EVALUATION_BATCH, average_precision
from training.detection.evaluator import INPUT, MOST_TRAINING, DetectionEvaluator, choose, ood_data_from_photographs
from training.detection.formats import recognise_boxes
from training.detection.graph import OUTPUTS, TRANSLATIONS, DetectorGraph, network_outputs
from training.detection.labelled import BoxedImages
from training.detection.learner import DetectionLearner, DetectionSettings, detect
from training.detection.network import Detector, build
from training.detection.options import DEFAULTS, DetectionOptions, NetworkSettings, defaults
from training.detection.report import CURVES, draw_boxes, write_augmented, write_report
from training.engine.checkpoint import FitState
from training.engine.interpolate import interpolate
from training.engine.settings import FitSettings
from training.engine.weights import best_weights
from training.export.cards import data_card, record_cost, training_card
from training.export.graph import export, write_golden
from training.export.histograms import Observed, observed_images
from training.export.history import EPOCH, INTERPOLATION, SUPPRESSION
from training.export.labelled import Labelled
from training.export.ood import OodData
from training.options import override
from training.phases import Work
from training.recipe import Draft, Recipe
from training.registry import training_of
from training.report.curves import Published, between, write_curves
from training.report.earlier import earlier_runs
from training.report.record import update_record
from training.run import Run

DetectionRun = Run[DetectionOptions, DetectionData]

MAX_BATCH = 16
# What the export and the plots take, whatever the data.
_EXPORT_SECONDS = 40
# Detections with nearly the same score may swap positions, and a GPU's arithmetic is less exact than a CPU's.
GOLDEN_LISTS = ListCard(order="scores", above=0.3, tolerances={"boxes": 2.0, "scores": 0.02, "classes": 0.5})
# On one machine's CPU the exported graph agrees with PyTorch far better than that.
_EXPORT_LISTS = ListCard(order="scores", above=0.05, tolerances={"boxes": 0.1, "scores": 1e-3, "classes": 0.5})


class DetectionRecipe(Recipe[DetectionOptions, DetectionData]):
    """A one-stage detector on images with boxes."""

    name = "detection"
    items = "images"
    manifests = (DetectorManifest,)

    def recognise(self, source: Source) -> Recognised | None:
        return recognise_boxes(source)

    def load(self, options: DetectionOptions) -> DetectionData:
        check_backbone(options.network.backbone, options.network.weights)
        seed = override(DEFAULTS, options.fit).seed
        return load_detection(options.data, size=options.image_size, bad=options.bad, limit=options.limit, seed=seed)

    def add(self, data: DetectionData, items: Sequence[Captured]) -> DetectionData:
        return with_captures(data, items)

    def draw(self, data: DetectionData) -> Image:
        return draw_boxes(data)

    def describe(self, data: DetectionData) -> str:
        return f" in frames of {data.size[0]}x{data.size[1]}, {_count(data.classes)}"

    def settings(self, options: DetectionOptions, data: DetectionData) -> FitSettings:
        return override(defaults(len(data.train)), options.fit)

    def model_name(self, options: DetectionOptions) -> str:
        return "detector"

    def fast_precision(self, options: DetectionOptions, data: DetectionData) -> Collection[str]:
        return {"cpu", "cuda"}

    def build(self, run: DetectionRun) -> Detector:
        data = run.data
        labels = {"validation": np.concatenate(data.validation.labels), "test": np.concatenate(data.test.labels)}
        run.warn_of_absent(data.classes, labels)
        return build(_network(run), data.size, len(data.classes), run.settings.seed)

    def baseline(self, run: DetectionRun, network: nn.Module) -> Baseline:
        assert isinstance(network, Detector)  # noqa: S101 - see `build`
        return fit_baseline(network, run.data, _learning(run).suppression, run.options.network.backbone)

    def work(self, run: DetectionRun) -> Sequence[Work]:
        train, validation, test = (len(split) for split in (run.data.train, run.data.validation, run.data.test))
        # The suppression is chosen on validation; everything is measured on validation and test, and the
        # out-of-distribution score on training images too; histograms are of validation.
        passes = 4 * validation + 2 * test + min(train, MOST_TRAINING)
        return (
            Work(name="baseline on test", items=test),
            Work(name="export and evaluation", items=passes, seconds=_EXPORT_SECONDS),
        )

    def learner(self, run: DetectionRun, network: nn.Module) -> DetectionLearner:
        return DetectionLearner(run.data.train, run.data.choice, run.data.classes, _learning(run))

    def origin(self, run: DetectionRun) -> Mapping[str, Any]:
        return {"network": _network(run), "learning": _learning(run)}

    def drafts(self, run: DetectionRun, network: nn.Module, state: FitState) -> Sequence[Draft]:
        if not run.is_main:
            return []
        assert isinstance(network, Detector)  # noqa: S101 - see `build`
        data, options, interpolated = run.data, run.options, 1.0
        if options.interpolate and options.init_from:
            choice, suppression = data.choice, _learning(run).suppression

            def score(candidate: Any) -> float:
                return average_precision(detect(candidate, choice, suppression), choice, data.classes).map

            interpolated = interpolate(network, best_weights(options.init_from), score)
            run.console.print(f"{interpolated:.0%} of the way from {options.init_from} to the trained weights is best")
        evaluator = DetectionEvaluator(data)
        write = partial(_write_version, run, network, evaluator, interpolated, state)
        ood_data = partial(ood_data_from_photographs, data)
        parts: Any = {"ood_data": ood_data, "observed": partial(_observed, data), "evaluator": evaluator}
        return [Draft(name=run.name, write=write, network=network, **parts)]

    def reload(self, manifest: DetectorManifest, folder: Path, options: Any) -> DetectionData:
        size, seed = (manifest.image.height, manifest.image.width), int(training_of(manifest).settings["seed"])
        return load_detection(options.data, size=size, bad=options.bad, limit=options.limit, seed=seed)

    def labelled(self, manifest: DetectorManifest, options: Any) -> Labelled:
        return BoxedImages(manifest, options)

    def evaluator(self, manifest: DetectorManifest, folder: Path, data: DetectionData) -> DetectionEvaluator:
        return DetectionEvaluator(data)

    def ood_data(
        self, manifest: DetectorManifest, folder: Path, data: DetectionData, foreign: Mapping[str, str]
    ) -> OodData:
        return ood_data_from_photographs(data, foreign)

    def observed(self, manifest: DetectorManifest, folder: Path, data: DetectionData) -> Observed:
        return _observed(data)


def _network(run: DetectionRun) -> NetworkSettings:
    return run.options.network.for_images(len(run.data.train))


def _observed(data: DetectionData) -> Observed:
    return observed_images(data, EVALUATION_BATCH)


def _count(classes: Sequence[str]) -> str:
    return "1 class" if len(classes) == 1 else f"{len(classes)} classes"


def _learning(run: DetectionRun) -> DetectionSettings:
    return DetectionSettings(augment=run.options.augment)


def _write_version(
    run: DetectionRun, network: Detector, judge: DetectionEvaluator, interpolated: float, state: FitState, target: Path
) -> DetectorManifest:
    data, images, learning = run.data, run.data.test.images[:MAX_BATCH], _learning(run)
    stated = run.stated(_network(run), learning) | {"interpolated": interpolated}
    with run.phase("choice of the suppression"):
        outputs = network_outputs(network, data.validation)
        suppression = choose(*outputs, data.validation, data.classes, learning.suppression)
    graph, path = DetectorGraph(network, suppression), target / MODEL
    names: dict[str, Any] = {"input_name": INPUT, "output_names": OUTPUTS}
    checked = GoldenCard(rows=MAX_BATCH, atol=1e-3, lists=_EXPORT_LISTS)
    more = {"max_batch": MAX_BATCH, "translations": TRANSLATIONS, **names}
    inputs, specs, difference = export(graph, images, path, card=checked, **more)
    golden = GoldenCard(rows=min(4, len(images)), atol=1e-3, lists=GOLDEN_LISTS)
    write_golden(graph, images[: golden.rows], target / GOLDEN, **names)
    fields, found = judge.evaluate(path)
    metrics, (height, width) = fields["metrics"], data.size
    run.console.print(f"test mAP at 0.5 {metrics.map_50:.4f}, at 0.5 to 0.95 {metrics.map:.4f}")
    chosen = (EPOCH, INTERPOLATION) if run.options.interpolate else (EPOCH,)
    uses = (*judge.scored(*chosen), *judge.tuned(SUPPRESSION), *judge.measured())
    manifest = DetectorManifest(
        name=run.name,
        description=f"{data.name}, {_count(data.classes)}: one-stage detector on {run.options.network.backbone}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=specs,
        max_batch=MAX_BATCH,
        image=LetterboxInput(height=height, width=width),
        # A small frame may have fewer cells than detections are allowed.
        suppression=suppression.model_copy(update={"max_detections": specs[1].shape[1]}),
        data=data_card(data),
        **fields,
        training=training_card("python -m training detection", stated, state, network),
        history=run.history(stated, state, *uses),
        golden=golden,
        files={},
    )
    with run.optional("report"):
        write_report(target, manifest, found, data)
        write_augmented(target, data, learning.augment)
        earlier, published = earlier_runs(run.options.init_from), None
        if interpolated < 1:
            reached = average_precision(detect(network, data.choice, learning.suppression), data.choice, data.classes)
            figures = {"map_50": reached.map_50, "map": reached.map}
            published = Published(between(interpolated, state.best_epoch), figures)
        write_curves(target, state, *CURVES, before=run.lineage.before, earlier=earlier, published=published)
        record_cost(target, images, MAX_BATCH)
    update_record(target, onnx_difference=f"{difference.value:.1g} ({difference.output})")
    return manifest
