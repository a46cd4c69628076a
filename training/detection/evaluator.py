"""How graphs of a detector are judged, and what is chosen by it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.inference.cards import Use
from service.inference.manifest import MODEL
from service.tasks.detection.letterbox import Letterbox, place
from service.tasks.detection.manifest import DetectorManifest, DetectorMetrics, Suppression
from service.tasks.images import UInt8Array
from training.data import foreign
from training.detection.data import DetectionData, DetectionSplit
from training.detection.evaluation import (
    EVALUATION_BATCH,
    Detections,
    average_precision,
    in_originals,
    precision_intervals,
    threshold_curves,
)
from training.detection.graph import OUTPUTS, PostProcess, graph_outputs, relative_spread, replace_post_process
from training.detection.learner import DetectionSettings
from training.detection.network import moments
from training.detection.report import write_report
from training.export import history
from training.export.evaluator import Evaluator, run_in_batches, sample
from training.export.golden import renew_golden
from training.export.layers import Inputs
from training.export.ood import MAPS, OodData, ood_uses, some_indices
from training.registry import training_of

INPUT = "images"
PENALTIES = (0.0, 4.0, 8.0, 12.0)
OVERLAPS = tuple((soft, iou) for soft in (False, True) for iou in (0.5, 0.6, 0.7))
CLASS_AGNOSTIC = (False, True)
# Scores that are lowered fall below a threshold that was made for higher ones.
SCORE_THRESHOLDS = (0.01, 0.002)
# A more complicated choice has to be better by more than what rounding may change.
_LEAST_GAIN = 5e-4
_LIKELY = 0.3
# Of the out-of-distribution score: a photograph takes as long as hundreds of small images.
MOST_TRAINING, _MOST_OTHERS, _MOST_FOREIGN = 1000, 400, 100


class DetectionEvaluator(Evaluator):
    """Evaluates detectors."""

    figure = "map"
    max_drop = 0.005
    compared = "scores"

    def __init__(self, data: DetectionData) -> None:
        self.data = data
        self._choice = data.choice

    def calibration(self, count: int) -> list[Inputs]:
        # A photograph has as many activations as dozens of small images.
        images = self.data.train.images[sample(count // 16, len(self.data.train))]
        # All activations of a batch are in memory at once.
        return [{INPUT: images[start : start + 2]} for start in range(0, len(images), 2)]

    def examples(self, count: int) -> Inputs:
        return {INPUT: self._choice.images[: min(count, 16)]}

    def score(self, graph: Path) -> float:
        return average_precision(answers(graph, self._choice), self._choice, self.data.classes).map

    def tuned(self, *purposes: str) -> tuple[Use, ...]:
        """The record of choices by all of validation."""
        return tuple(Use(split="validation", purpose=each, items=len(self.data.validation)) for each in purposes)

    def measured(self, *, fit: bool = True) -> tuple[Use, ...]:  # noqa: ARG002 - there is no calibration
        return (*self.tuned(history.THRESHOLDS), Use(split="test", purpose=history.FIGURES, items=len(self.data.test)))

    def finish(self, graph: Path) -> dict[str, Any]:
        return self.evaluate(graph)[0]

    def renew(self, folder: Path, manifest: DetectorManifest, *, fit: bool) -> DetectorManifest:
        if fit:
            raise ValueError(f"--calibrate: {manifest.name} is no classifier of images; leave it out")
        settings = DetectionSettings.stated(training_of(manifest).settings)
        graph, split = folder / MODEL, self.data.validation
        base = settings.suppression.model_copy(update={"max_detections": manifest.suppression.max_detections})
        suppression = choose(*graph_outputs(graph, split), split, self.data.classes, base)
        # Variants have a suppression of their own, which would stay.
        if suppression != manifest.suppression and not manifest.variants:
            replace_post_process(graph, suppression)
            renew_golden(graph, folder, manifest)
            manifest = manifest.model_copy(update={"suppression": suppression})
        manifest = history.with_uses(manifest, *self.tuned(history.SUPPRESSION))
        fields, found = self.evaluate(graph)
        manifest = manifest.model_copy(update=fields)
        write_report(folder, manifest, found, self.data)
        return manifest

    def evaluate(self, graph: Path) -> tuple[dict[str, Any], list[Detections]]:
        """The fields of a manifest that are measured, by name, and the detections in the test images."""
        data = self.data
        chosen, found = answers(graph, data.validation), answers(graph, data.test)
        precision = average_precision(found, data.test, data.classes)
        metrics = DetectorMetrics(
            map_50=precision.map_50,
            map_75=precision.map_75,
            map=precision.map,
            validation_map=average_precision(chosen, data.validation, data.classes).map,
            per_class=precision.per_class,
        )
        fields = {
            "metrics": metrics,
            "curves": threshold_curves(chosen, data.validation, data.classes),
            "test_curves": threshold_curves(found, data.test, data.classes),
            "intervals": precision_intervals(found, data.test, data.classes),
        }
        return fields, found


def answers(graph: Path, split: DetectionSplit) -> list[Detections]:
    """The detections in each image, in pixels of the originals."""
    outputs = run_in_batches(graph, INPUT, split.images, EVALUATION_BATCH)
    return in_originals(split.letterboxes, outputs[: len(OUTPUTS)])


def choose(
    logits: Tensor, box_logits: Tensor, split: DetectionSplit, classes: tuple[str, ...], base: Suppression
) -> Suppression:
    """What to keep of a detector's boxes, chosen by average precision; no weight changes.

    The choices are made one after the other, each with what the earlier ones chose.

    Args:
        logits: of the network for the first images of the split, as `box_logits`.
        base: what would be kept without a choice.
    """
    chosen = split.without_pixels(np.arange(len(logits)))
    height, width = split.images.shape[1:3]
    batches = list(zip(logits.split(EVALUATION_BATCH), box_logits.split(EVALUATION_BATCH), strict=True))

    def score(suppression: Suppression) -> float:
        parts = zip(*(PostProcess((height, width), suppression)(*batch) for batch in batches), strict=True)
        found = in_originals(chosen.letterboxes, [torch.cat(part).numpy() for part in parts])
        return average_precision(found, chosen, classes).map

    # Of the boxes of each class that are likely to be right. Small objects have a larger spread, and average precision
    # does not notice if all scores of a class are lower; a threshold for all classes does.
    spread = relative_spread(*moments(box_logits))
    likely = [spread[logits[..., index].sigmoid() > _LIKELY] for index in range(len(classes))]
    class_spread = tuple(round(float(part.median()), 3) if len(part) else 0.0 for part in likely)
    kept, reached = base, score(base)
    for changes in (
        [{"spread_penalty": penalty, "usual_spreads": class_spread if penalty else ()} for penalty in PENALTIES],
        [
            {"class_agnostic": agnostic, "soft": soft, "iou": iou}
            for agnostic in (CLASS_AGNOSTIC if len(classes) > 1 else (False,))
            for soft, iou in OVERLAPS
        ],
        [{"floor": floor} for floor in SCORE_THRESHOLDS],
    ):
        for candidate in [kept.model_copy(update=change) for change in changes]:
            # Where nothing can be measured, nothing is better.
            if (value := score(candidate)) > reached + _LEAST_GAIN:
                kept, reached = candidate, value
    return kept


def ood_data_from_photographs(data: DetectionData, sources: Mapping[str, str] | None = None) -> OodData:
    """The data that the out-of-distribution score is fitted and measured on: whole images, letterboxed.

    The thresholds of boxes, which all of validation chooses, have no part in the score.

    Args:
        sources: other images, by name; see `training.data.foreign.read_images`.
    """

    def framed(pixels: UInt8Array, height: int, width: int) -> UInt8Array:
        return place(pixels, Letterbox.of(pixels.shape[0], pixels.shape[1], height, width), height, width)

    shape = (*data.size, 3)
    train, (_, calibration) = some_indices(len(data.train), MOST_TRAINING), data.division
    others = foreign.made_up_images(shape, _MOST_FOREIGN)
    others |= {
        name: foreign.read_images(source, shape, _MOST_FOREIGN, framed) for name, source in (sources or {}).items()
    }
    return OodData(
        MAPS,
        data.train.images[train],
        np.zeros(len(train), np.int64),
        data.validation.images[calibration[some_indices(len(calibration), _MOST_OTHERS)]],
        data.test.images[some_indices(len(data.test), _MOST_OTHERS)],
        others,
        lambda graph, images: run_in_batches(graph, INPUT, images, EVALUATION_BATCH),
        ood_uses(len(train), data.division, _MOST_OTHERS),
    )
