"""The model card of a detector: average precision, precision and recall by threshold, mistakes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from service.tasks.detection.manifest import DetectorManifest, Suppression, ThresholdCurve
from service.tasks.detection.thresholds import best_f1
from service.tasks.palette import class_colour
from training.detection.data import DetectionData
from training.detection.evaluation import RECALLS, Detections, Mistakes, mistakes, precision_by_recall
from training.detection.options import AugmentOptions
from training.detection.pictures import (
    OVERLAPS,
    SAMPLES,
    draw_augmented,
    draw_overlap,
    draw_samples,
    overlap_examples,
)
from training.report.markdown import figures, interval, provenance, table, training_section
from training.report.plots import ACCENT, GUIDE, MEASURED, Curve, draw_confusion, draw_curves, save_plot

_AUGMENTED = 8
_MOST_CLASSES_DRAWN = 30


def write_report(
    folder: Path,
    manifest: DetectorManifest,
    found: Sequence[Detections],
    data: DetectionData,
    augment: AugmentOptions,
    result: dict[str, Any],
) -> None:
    """Writes `README.md` and the pictures it shows into `folder`.

    Args:
        folder: is made if it does not exist.
        manifest: of the version.
        found: the detections in the test images.
        data: for the pictures.
        augment: of the training, for examples of it.
        result: of this run: times, history.
    """
    folder.mkdir(parents=True, exist_ok=True)
    confidence = best_f1(manifest.curves)
    wrong = mistakes(found, data.test, data.classes, confidence)
    if result["history"]:  # of a version that is measured anew the plot is there
        save_plot(folder / "learning-curves.png", 9, 3.4, 2, lambda axes: _history(axes, result))
    save_plot(folder / "thresholds.png", 12, 3.6, 3, lambda axes: _thresholds(axes, manifest, confidence))
    reached = precision_by_recall(found, data.test, data.classes)
    save_plot(folder / "precision-recall.png", 6.4, 4.4, 1, lambda axes: _precision_recall(axes[0], manifest, reached))
    examples = overlap_examples(found, data.test)
    if examples:
        save_plot(folder / "overlap.jpg", 12, 3.4, len(OVERLAPS), lambda axes: draw_overlap(axes, data.test, examples))
    if len(data.classes) <= _MOST_CLASSES_DRAWN:
        names, title = [*data.classes, "background"], f"Test objects at the threshold {confidence:g}"
        size = max(4.6, 2.4 + 0.42 * len(names))
        save_plot(
            folder / "confusion.png", size, size, 1, lambda axes: draw_confusion(axes[0], wrong.confusion, names, title)
        )
    save_plot(
        folder / "samples.jpg", 12, 4.7 * SAMPLES, 2, lambda axes: draw_samples(axes, data, found, confidence), SAMPLES
    )
    save_plot(folder / "augmented.jpg", 12, 4.8, 4, lambda axes: draw_augmented(axes, data, augment), _AUGMENTED // 4)
    (folder / "README.md").write_text(_card(manifest, data, wrong, confidence, bool(examples), result))


def _card(
    manifest: DetectorManifest,
    data: DetectionData,
    wrong: Mistakes,
    confidence: float,
    overlap: bool,
    result: dict[str, Any],
) -> str:
    metrics = manifest.metrics
    at = manifest.curves.confidence.index(confidence)
    height, width = data.size
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}. Input: uint8 pixels, {height} x {width} x 3 (height, width, channels); an image of "
        "another size is letterboxed (scaled to fit, centred, padded with grey). Output: up to "
        f"{manifest.suppression.max_detections} boxes with their scores and classes, the best first.",
        _kept(manifest.suppression, len(data.validation)),
        f"**Mean average precision {metrics.map_50:.4f} at an overlap of 0.5**{interval(manifest, 'map_50')}, "
        f"{metrics.map_75:.4f} at 0.75, mean of 0.5 to 0.95: **{metrics.map:.4f}**{interval(manifest, 'map')}, on the "
        f"{len(data.test)} test images of {manifest.data.name}; {metrics.validation_map:.4f} on the "
        f"{len(data.validation)} validation images.",
        "## Per class",
        table(
            ("class", "AP at 0.5", "AP at 0.75", "AP 0.5 to 0.95", "test objects"),
            [(row.label, *figures(row.ap_50, row.ap_75, row.ap), row.support) for row in metrics.per_class],
        ),
        "## What is measured",
        *_measure_section(overlap),
        "## Precision and recall by threshold",
        *_threshold_section(manifest, at),
        "![Precision, recall and F1 over the threshold](thresholds.png)",
        f"## Mistakes at {confidence:g}",
        _mistake_section(wrong),
        *(["![Confusion matrix](confusion.png)"] if len(data.classes) <= _MOST_CLASSES_DRAWN else []),
        "## Examples",
        f"Test images from the worst to the best, with the true boxes (left) and the detections at {confidence:g} "
        "(right):",
        "![True and found boxes](samples.jpg)",
        *training_section(manifest),
        "Training images as the network sees them, after augmentation, with their boxes:",
        "![Augmented training images](augmented.jpg)",
        "## Cost",
        table(
            ("parameters", "training", "ms per image alone", f"ms per image in batches of {result['max_batch']}"),
            [
                (
                    f"{result['parameters']:,}",
                    f"{result['training_seconds'] / 60:.0f} minutes",
                    f"{result['ms_batch_1']:.1f}",
                    f"{result['ms_batch_max']:.1f}",
                )
            ],
        ),
        "Times are medians of the ONNX Runtime session without the service, on the CPUs of the machine that trained.",
        *provenance(manifest, result["onnx_difference"]),
    ]
    return "\n\n".join(parts) + "\n"


def _kept(suppression: Suppression, images: int) -> str:
    """What becomes of the boxes of all cells, in words."""
    others = (
        "the others stay with their score times 1 - IoU, unless that exceeds 0.9 (soft non-maximum suppression)"
        if suppression.soft
        else "the others are dropped (non-maximum suppression)"
    )
    spread = (
        f"The logits of scores are lowered by {suppression.spread_penalty:g} times what a box's spread exceeds that "
        "usual for its class: how uncertain its edges are, the mean standard deviation of their distributions, divided "
        "by the square root of the box's area. "
        if suppression.spread_penalty
        else ""
    )
    return (
        f"{spread}Of boxes of a class with an IoU of more than {suppression.iou:g} the best counts as the object; "
        f"{others}. Scores of {suppression.floor:g} and less are dropped. All of this maximises the mean average "
        f"precision on the {images} validation images, which is therefore a little better than it would be on others."
    )


def _measure_section(overlap: bool) -> list[str]:
    """Intersection over union and average precision, explained with this model's own detections."""
    return [
        "A found box is compared with a true one by their *intersection over union* (IoU): the area that both cover, "
        "divided by the area that either covers; 1 for the same box, 0 for boxes that do not touch. Where a detection "
        "counts as right from an IoU of 0.5, these are right or wrong (the true box is dashed, the found one has the "
        "colour of its class, and what both cover is shaded):",
        *(["![Intersection over union](overlap.jpg)"] if overlap else []),
        "Sort all detections of a class by their score and take in one after the other: *recall*, the share of the "
        "objects that are found, can only rise, while *precision*, the share of the detections that are right, falls "
        "with every mistake. *Average precision* (AP) is the area under that curve: 1 for a detector that finds "
        "everything before its first mistake. A curve ends at the recall that all detections together reach; the "
        "rest of the way counts as 0. The mean over the classes is the mAP.",
        "![Precision over recall](precision-recall.png)",
    ]


def _threshold_section(manifest: DetectorManifest, at: int) -> list[str]:
    """The trade-off between precision and recall, in this model's own figures."""
    chosen, measured = manifest.curves.overall, manifest.measured_curves.overall
    confidence, per_class = manifest.curves.confidence, manifest.measured_curves.per_class
    low, high = (_nearest(confidence, value) for value in (0.1, 0.7))

    def say(index: int) -> str:
        return (
            f"at {confidence[index]:g}, {measured.precision[index]:.1%} of the detections are right and "
            f"{measured.recall[index]:.1%} of the objects are found"
        )

    return [
        "A detection counts if its score reaches the threshold. A low threshold misses few objects but gives many "
        f"false detections; a high one the opposite: {say(low)}; {say(high)}. The validation images choose: their "
        f"highest F1 ({chosen.f1[at]:.4f}) is at {confidence[at]:g}, which is the service's default (see its options "
        f"`confidence`, `precision` and `recall`). On the test images it has an F1 of "
        f"**{measured.f1[at]:.4f}**. A detection is right if the class is right and the boxes have an IoU of at least "
        "0.5. The table and the curves are of the test images, but for the last column:",
        table(
            (
                "threshold",
                "precision",
                "recall",
                "F1",
                *(f"{label}: precision, recall" for label in manifest.labels),
                "F1 on validation",
            ),
            [
                (
                    f"{confidence[index]:g}",
                    *figures(measured.precision[index], measured.recall[index], measured.f1[index]),
                    *(
                        f"{per_class[label].precision[index]:.3f}, {per_class[label].recall[index]:.3f}"
                        for label in manifest.labels
                    ),
                    *figures(chosen.f1[index]),
                )
                for index in sorted({at, *(_nearest(confidence, value / 10) for value in range(1, 10))})
            ],
        ),
    ]


def _mistake_section(wrong: Mistakes) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in wrong.kinds.items())
    return (
        f"{sum(wrong.kinds.values())} detections are wrong: {kinds}. {wrong.missed} objects are missed. "
        "*Wrong class*: the box matches an object of another class; *poor box*: it overlaps an object of its class, "
        "but with an IoU of less than 0.5; *found twice*: a better detection has already found the object; *nothing "
        "there*: none of these. In the matrix the row *background* holds the detections that match no object, and the "
        "column *background* the objects that are missed."
    )


def _nearest(values: Sequence[float], value: float) -> int:
    return int(np.abs(np.array(values) - value).argmin())


def _history(axes: Sequence[Axes], result: dict[str, Any]) -> None:
    history, initial = result["history"], result.get("initial") or {}
    draw_curves(axes[0], history, Curve("loss", "loss (boxes, edges and classes)", logarithmic=True), initial)
    for figure, label, colour in (("map_50", "IoU 0.5", MEASURED), ("map", "mean of IoU 0.5 to 0.95", ACCENT)):
        values = [*([initial[figure]] if figure in initial else []), *(row[f"validation_{figure}"] for row in history)]
        axes[1].plot(range(len(history) + 1 - len(values), len(history) + 1), values, color=colour, label=label)
    axes[1].set(xlabel="epoch", ylabel="mAP on validation", xlim=(0, None), ylim=(0, 1))
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[1].legend()


def _thresholds(axes: Sequence[Axes], manifest: DetectorManifest, confidence: float) -> None:
    curves = manifest.measured_curves
    for axis, figure in zip(axes, ("precision", "recall", "f1"), strict=True):
        for index, (label, curve) in enumerate(curves.per_class.items()):
            axis.plot(*_found_part(curves.confidence, curve, figure), color=class_colour(index), label=label)
        axis.plot(*_found_part(curves.confidence, curves.overall, figure), color=MEASURED, linewidth=2.4, label="all")
        axis.axvline(confidence, color=GUIDE, zorder=0, label=f"default: {confidence:g}")
        name = "F1" if figure == "f1" else figure
        axis.set(xlabel="confidence threshold", ylabel=name, title=f"{name} on test", xlim=(0, 1), ylim=(0, 1.02))
    axes[0].legend()


def _found_part(confidence: Sequence[float], curve: ThresholdCurve, figure: str) -> tuple[list[float], list[float]]:
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
