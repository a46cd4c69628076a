"""The report of a detector: its plots, and what its card reads of the record."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from service.tasks.detection.manifest import DetectorManifest, ThresholdCurve
from service.tasks.detection.thresholds import best_f1
from service.tasks.palette import class_colour
from training.detection.data import DetectionData
from training.detection.evaluation import RECALLS, Detections, mistakes, precision_by_recall
from training.detection.options import AugmentOptions
from training.detection.pictures import (
    OVERLAPS,
    SAMPLES,
    draw_augmented,
    draw_overlap,
    draw_samples,
    overlap_examples,
)
from training.report.plots import GUIDE, MEASURED, Curve, draw_confusion, save_plot
from training.report.record import REPORT, update_record

CURVES = (
    Curve("loss", "loss (boxes, edges and classes)", logarithmic=True),
    Curve("map_50", "mAP at an IoU of 0.5"),
    Curve("map", "mAP, mean of IoU 0.5 to 0.95"),
)
_AUGMENTED = 8
_MOST_CLASSES_DRAWN = 30


def write_report(
    folder: Path, manifest: DetectorManifest, detections: Sequence[Detections], data: DetectionData
) -> None:
    """Draws and records what was measured on the test split.

    Args:
        folder: of the version.
        manifest: of the version.
        detections: in the test images.
        data: the test images.
    """
    confidence = best_f1(manifest.curves)
    wrong = mistakes(detections, data.test, data.classes, confidence)
    save_plot(folder, "thresholds.png", 12, 3.6, lambda axes: _thresholds(axes, manifest, confidence), 3)
    reached = precision_by_recall(detections, data.test, data.classes)
    save_plot(folder, "precision-recall.png", 6.4, 4.4, lambda axes: _precision_recall(axes[0], manifest, reached))
    (folder / REPORT / "overlap.jpg").unlink(missing_ok=True)
    if examples := overlap_examples(detections, data.test):
        save_plot(folder, "overlap.jpg", 12, 3.4, lambda axes: draw_overlap(axes, data.test, examples), len(OVERLAPS))
    if len(data.classes) <= _MOST_CLASSES_DRAWN:
        names, title = [*data.classes, "background"], f"Test objects at the threshold {confidence:g}"
        size = max(4.6, 2.4 + 0.42 * len(names))
        save_plot(
            folder, "confusion.png", size, size, lambda axes: draw_confusion(axes[0], wrong.confusion, names, title)
        )
    save_plot(
        folder,
        "samples.jpg",
        12,
        4.7 * SAMPLES,
        lambda axes: draw_samples(axes, data, detections, confidence),
        2,
        SAMPLES,
    )
    points = manifest.curves.confidence
    default, low, high = points.index(confidence), _nearest(points, 0.1), _nearest(points, 0.7)
    shown = sorted({default, *(_nearest(points, tenth / 10) for tenth in range(1, 10))})
    update_record(
        folder,
        thresholds={"default": default, "low": low, "high": high, "shown": shown},
        mistakes=wrong.kinds,
        missed=wrong.missed,
    )


def write_augmented(folder: Path, data: DetectionData, augment: AugmentOptions) -> None:
    """Draws training images of a version after augmentation."""
    rows = _AUGMENTED // 4
    save_plot(folder, "augmented.jpg", 12, 4.8, lambda axes: draw_augmented(axes, data, augment), 4, rows)


def _nearest(values: Sequence[float], value: float) -> int:
    return int(np.abs(np.array(values) - value).argmin())


def _thresholds(axes: Sequence[Axes], manifest: DetectorManifest, confidence: float) -> None:
    curves = manifest.measured_curves
    for axis, figure in zip(axes, ("precision", "recall", "f1"), strict=True):
        for index, (label, curve) in enumerate(curves.per_class.items()):
            axis.plot(*_useful_part(curves.confidence, curve, figure), color=class_colour(index), label=label)
        axis.plot(*_useful_part(curves.confidence, curves.overall, figure), color=MEASURED, linewidth=2.4, label="all")
        axis.axvline(confidence, color=GUIDE, zorder=0, label=f"default: {confidence:g}")
        name = "F1" if figure == "f1" else figure
        axis.set(xlabel="confidence threshold", ylabel=name, title=f"{name} on test", xlim=(0, 1), ylim=(0, 1.02))
    axes[0].legend()


def _useful_part(confidence: Sequence[float], curve: ThresholdCurve, figure: str) -> tuple[list[float], list[float]]:
    """The part of a curve in which anything is found at all: where nothing is, there is no precision."""
    points = zip(confidence, getattr(curve, figure), curve.recall, curve.precision, strict=True)
    kept = [(at, value) for at, value, recall, precision in points if recall > 0 or precision < 1]
    return [at for at, _ in kept], [value for _, value in kept]


def _precision_recall(axis: Axes, manifest: DetectorManifest, reached: npt.NDArray[np.float64]) -> None:
    for index, row in enumerate(manifest.metrics.per_class):
        known = reached[index] > 0
        if row.support and known.any():
            recall, precision = RECALLS[known], reached[index][known]
            colour = class_colour(index)
            axis.fill_between(recall, precision, color=colour, alpha=0.08, linewidth=0)
            axis.plot(recall, precision, color=colour, label=f"{row.label}: AP {row.ap_50:.3f}")
    axis.set(
        xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), title="Test objects, right from IoU 0.5"
    )
    if axis.lines:  # a detector may find nothing
        axis.legend(loc="lower left")
