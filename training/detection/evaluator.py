"""How graphs of a detector are judged: see `Evaluator`."""

from pathlib import Path
from typing import Any

from service.inference.cards import Use
from service.inference.manifest import MODEL
from service.tasks.detection.manifest import DetectorManifest, DetectorMetrics
from training.detection.data import DetectionData, DetectionSplit
from training.detection.evaluation import Detections, average_precision, precision_intervals, threshold_curves
from training.detection.graph import OUTPUTS
from training.detection.learner import EVALUATION_BATCH, DetectionSettings, in_originals
from training.detection.report import write_report
from training.detection.tuning import choose, graph_outputs, replace_post_process
from training.export import history
from training.export.evaluator import Evaluator, run_in_batches, sample
from training.export.graph import renew_golden
from training.export.history import FIGURES, THRESHOLDS
from training.export.layers import Inputs

INPUT = "images"
# All activations of a batch are in memory at once.
_CALIBRATION_BATCH = 2
_MOST_EXAMPLES = 16


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
        return self.evaluate(graph)[0]

    def renew(self, folder: Path, manifest: DetectorManifest, *, fit: bool) -> DetectorManifest:
        """Chooses anew, too, what the graph keeps of its boxes."""
        if fit:
            raise ValueError(f"--calibrate: {manifest.name} is no classifier of images; leave it out")
        manifest = self._choose_suppression(folder, manifest)
        manifest = history.with_uses(manifest, *self.tuned(history.SUPPRESSION))
        fields, found = self.evaluate(folder / MODEL)
        manifest = manifest.model_copy(update=fields)
        write_report(folder, manifest, found, self.data)
        return manifest

    def _choose_suppression(self, folder: Path, manifest: DetectorManifest) -> DetectorManifest:
        settings = DetectionSettings.stated(manifest.training.settings)
        base = settings.suppression.model_copy(update={"max_detections": manifest.suppression.max_detections})
        graph, split = folder / MODEL, self.data.validation
        suppression = choose(graph_outputs(graph, split), split, self.data.classes, base)
        # Variants have a suppression of their own, which would stay.
        if suppression == manifest.suppression or manifest.variants:
            return manifest
        replace_post_process(graph, suppression)
        renew_golden(graph, folder, manifest)
        return manifest.model_copy(update={"suppression": suppression})

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
