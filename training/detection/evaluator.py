"""How graphs of a detector are judged: see `Evaluator`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.inference.cards import Use
from service.inference.manifest import MODEL
from service.tasks.detection.manifest import DetectorManifest, DetectorMetrics, ThresholdCurves
from training.detection.data import DetectionData, DetectionSplit
from training.detection.evaluation import Detections, average_precision, precision_intervals, threshold_curves
from training.detection.graph import OUTPUTS
from training.detection.report import write_report
from training.detection.task import EVALUATION_BATCH, DetectionSettings, in_originals
from training.detection.tuning import choose, graph_outputs, replace_best
from training.export import history
from training.export.evaluator import Evaluator, run_in_batches, sample
from training.export.golden import renew_golden
from training.export.history import FIGURES, THRESHOLDS
from training.export.intervals import Interval
from training.export.layers import Inputs

INPUT = "images"
# All activations of a batch are in memory at once.
_CALIBRATION_BATCH = 2
_MOST_EXAMPLES = 16
# The settings of a training that describe what it kept meanwhile.
_SUPPRESSION = ("iou", "floor", "max_detections")


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a detector.

    Attributes:
        metrics: average precision on the test split.
        curves: precision and recall by threshold, on validation.
        test_curves: likewise, on test.
        intervals: of average precision.
        found: the detections in the test images.
    """

    metrics: DetectorMetrics
    curves: ThresholdCurves
    test_curves: ThresholdCurves
    intervals: dict[str, Interval]
    found: list[Detections]

    @property
    def fields(self) -> dict[str, Any]:
        """What a manifest says of it, by the name of the field."""
        return {
            "metrics": self.metrics,
            "curves": self.curves,
            "test_curves": self.test_curves,
            "intervals": self.intervals,
        }


class DetectionEvaluator(Evaluator):
    """Evaluates detectors."""

    figure = "map"
    max_drop = 0.005
    compared = "scores"

    def __init__(self, data: DetectionData) -> None:
        self.data = data
        self._choice = data.validation.take(data.division[0])

    def calibration(self, count: int) -> list[Inputs]:
        # A photograph has as many activations as dozens of small images.
        images = self.data.train.images[sample(count // 16, len(self.data.train))]
        return [
            {INPUT: images[start : start + _CALIBRATION_BATCH]} for start in range(0, len(images), _CALIBRATION_BATCH)
        ]

    def examples(self, count: int) -> Inputs:
        return {INPUT: self._choice.images[: min(count, _MOST_EXAMPLES)]}

    def score(self, graph: Path) -> float:
        return average_precision(answers(graph, self._choice), self._choice, self.data.classes).map

    def tuned(self, *purposes: str) -> tuple[Use, ...]:
        """The record of choices by all of validation."""
        count = len(self.data.validation)
        return tuple(Use(split="validation", purpose=purpose, items=count) for purpose in purposes)

    def measured(self, *, fit: bool = True) -> tuple[Use, ...]:  # noqa: ARG002 - there is no calibration
        return (*self.tuned(THRESHOLDS), Use(split="test", purpose=FIGURES, items=len(self.data.test)))

    def finish(self, graph: Path) -> dict[str, Any]:
        return self.evaluate(graph).fields

    def renew(self, folder: Path, manifest: DetectorManifest, *, fit: bool) -> DetectorManifest:
        """Chooses anew, too, what the graph keeps of its boxes."""
        if fit:
            raise ValueError(f"--calibrate: {manifest.name} is no classifier of images; leave it out")
        manifest = self._choose_suppression(folder, manifest)
        manifest = history.with_uses(manifest, *self.tuned(history.SUPPRESSION))
        measured = self.evaluate(folder / MODEL)
        manifest = manifest.model_copy(update=measured.fields)
        write_report(folder, manifest, measured.found, self.data)
        return manifest

    def _choose_suppression(self, folder: Path, manifest: DetectorManifest) -> DetectorManifest:
        settings = DetectionSettings(**{name: manifest.training.settings[name] for name in _SUPPRESSION})
        base = settings.suppression.model_copy(update={"max_detections": manifest.suppression.max_detections})
        graph, split = folder / MODEL, self.data.validation
        suppression = choose(graph_outputs(graph, split), split, self.data.classes, base)
        # Variants have a suppression of their own, which would stay.
        if suppression == manifest.suppression or manifest.variants:
            return manifest
        replace_best(graph, suppression)
        renew_golden(graph, folder, manifest)
        return manifest.model_copy(update={"suppression": suppression})

    def evaluate(self, graph: Path) -> Measured:
        """Measures everything."""
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
        return Measured(
            metrics,
            threshold_curves(chosen, data.validation, data.classes),
            threshold_curves(found, data.test, data.classes),
            precision_intervals(found, data.test, data.classes),
            found,
        )


def answers(graph: Path, split: DetectionSplit) -> list[Detections]:
    """The detections in each image, in pixels of the originals."""
    outputs = run_in_batches(graph, INPUT, split.images, EVALUATION_BATCH)
    return in_originals(split, 0, outputs[: len(OUTPUTS)])
