"""The report of a detector: its plots and pictures, and what its card reads of the record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from service.tasks.detection.manifest import DetectorClassMetrics, DetectorManifest, ThresholdCurves
from service.tasks.palette import class_colour, ink_on
from training.detection.augment import augment
from training.detection.data import DetectionData, DetectionSplit, FloatArray, IntArray
from training.detection.evaluation import Detections, average_precision, box_iou, mistakes
from training.detection.options import AugmentOptions
from training.report.plots import GUIDE, MEASURED, PREDICTED, SMALL, TRUE, Curve, draw_confusion, save_plot
from training.report.record import REPORT, update_record
from training.report.samples import sheet_of

CURVES = (
    Curve("loss", "loss (boxes, edges and classes)", logarithmic=True),
    Curve("map_50", "mAP at an IoU of 0.5"),
    Curve("map", "mAP, mean of IoU 0.5 to 0.95"),
)
_SAMPLES = 6
_OVERLAPS = (0.9, 0.75, 0.55, 0.3)
_MOST_CLASSES_DRAWN = 30
_MOST_IN_LEGEND = 8
_COLUMNS, _ROWS = 4, 3

_NONE = np.empty((0, 4), np.float32), np.empty(0, np.int64)

# The index of an image, a true and a predicted box in pixels of the original, their class and their IoU.
Example = tuple[int, FloatArray, FloatArray, int, float]


def draw_boxes(data: DetectionData) -> Image.Image:
    """Training images with their boxes, each class in its colour."""
    count = min(_COLUMNS * _ROWS, len(data.train))
    tiles = []
    for index in np.sort(np.random.default_rng(0).choice(len(data.train), count, replace=False)):
        image, labels = Image.fromarray(data.train.images[index]), data.train.labels[index]
        canvas, line = ImageDraw.Draw(image), max(1, max(image.size) // 160)
        for box, label in zip(data.train.fitted_boxes(int(index)), labels, strict=True):
            canvas.rectangle(tuple(box.tolist()), outline=class_colour(int(label)), width=line)
        names = ", ".join(data.classes[label] for label in np.unique(labels))
        tiles.append((np.asarray(image), names or "nothing"))
    return sheet_of(tiles, _COLUMNS, 2.6, [(name, class_colour(index)) for index, name in enumerate(data.classes)])


def write_report(
    folder: Path, manifest: DetectorManifest, detections: Sequence[Detections], data: DetectionData
) -> None:
    """Draws and records what was measured on the test split, given the detections in its images."""
    if manifest.metrics is None or manifest.curves is None or manifest.measured_curves is None:
        raise ValueError(f"{manifest.name}: was never evaluated")
    measured, per_class = manifest.measured_curves, manifest.metrics.per_class
    confidence, test, classes = manifest.default_confidence, data.test, data.classes
    wrong = mistakes(detections, test, classes, confidence)
    save_plot(folder, "thresholds.png", 12, 3.6, lambda axes: _thresholds(axes, measured, confidence), 3)
    reached = average_precision(detections, test, classes).by_recall
    save_plot(folder, "precision-recall.png", 6.4, 4.4, lambda axes: _precision_recall(axes[0], per_class, reached))
    (folder / REPORT / "overlap.jpg").unlink(missing_ok=True)
    if examples := _overlap_examples(detections, test):
        save_plot(folder, "overlap.jpg", 12, 3.4, lambda axes: _draw_overlap(axes, test, examples), len(_OVERLAPS))
    if len(classes) <= _MOST_CLASSES_DRAWN:
        names, title = [*classes, "background"], f"Test objects at the threshold {confidence:g}"
        size = max(4.6, 2.4 + 0.42 * len(names))
        save_plot(
            folder, "confusion.png", size, size, lambda axes: draw_confusion(axes[0], wrong.confusion, names, title)
        )

    def draw_samples(axes: Sequence[Axes]) -> None:
        _draw_samples(axes, data, detections, confidence)

    save_plot(folder, "samples.jpg", 12, 4.7 * _SAMPLES, draw_samples, 2, _SAMPLES)
    points = np.array(manifest.curves.confidence)
    default, low, high, *tenths = (
        int(np.abs(points - value).argmin()) for value in (confidence, 0.1, 0.7, *np.arange(1, 10) / 10)
    )
    thresholds = {"default": default, "low": low, "high": high, "shown": sorted({default, *tenths})}
    update_record(folder, thresholds=thresholds, mistakes=wrong.kinds, missed=wrong.missed)


def write_augmented(folder: Path, data: DetectionData, settings: AugmentOptions) -> None:
    """Draws training images as the network sees them."""
    train = data.train
    pixels, boxes, labels = augment(
        settings,
        train.images,
        [torch.from_numpy(train.fitted_boxes(index)) for index in range(len(train))],
        [torch.from_numpy(one) for one in train.labels],
        torch.arange(min(8, len(train))),
        torch.Generator().manual_seed(0),
        mosaics=True,
    )

    def draw(axes: Sequence[Axes]) -> None:
        for axis, image, corners, classes in zip(axes, pixels, boxes, labels, strict=False):
            _draw(axis, image.permute(1, 2, 0).numpy(), corners.numpy(), classes.numpy())

    save_plot(folder, "augmented.jpg", 12, 4.8, draw, 4, 2)


def _thresholds(axes: Sequence[Axes], curves: ThresholdCurves, confidence: float) -> None:
    lines = [(label, curve, class_colour(index), 1.5) for index, (label, curve) in enumerate(curves.per_class.items())]
    for axis, figure in zip(axes, ("precision", "recall", "f1"), strict=True):
        for label, curve, colour, width in [*lines, ("all", curves.overall, MEASURED, 2.4)]:
            # Where nothing is found at all, there is no precision.
            found = (np.array(curve.recall) > 0) | (np.array(curve.precision) < 1)
            points, values = np.array(curves.confidence)[found], np.array(getattr(curve, figure))[found]
            axis.plot(points, values, color=colour, linewidth=width, label=label)
        axis.axvline(confidence, color=GUIDE, zorder=0, label=f"default: {confidence:g}")
        name = "F1" if figure == "f1" else figure
        axis.set(xlabel="confidence threshold", ylabel=name, title=f"{name} on test", xlim=(0, 1), ylim=(0, 1.02))
    axes[0].legend()


def _precision_recall(axis: Axes, per_class: Sequence[DetectorClassMetrics], reached: npt.NDArray[np.float64]) -> None:
    recalls = np.linspace(0.0, 1.0, reached.shape[1])
    for index, row in enumerate(per_class):
        known = reached[index] > 0
        if row.support and known.any():
            recall, precision = recalls[known], reached[index][known]
            colour = class_colour(index)
            axis.fill_between(recall, precision, color=colour, alpha=0.08, linewidth=0)
            axis.plot(recall, precision, color=colour, label=f"{row.label}: AP {row.ap_50:.3f}")
    axis.set(
        xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), title="Test objects, right from IoU 0.5"
    )
    if axis.lines:  # a detector may find nothing
        axis.legend(loc="lower left")


def _draw_samples(
    axes: Sequence[Axes], data: DetectionData, detections: Sequence[Detections], confidence: float
) -> None:
    """Test images from the worst to the best detections, evenly spaced, with true and predicted boxes."""
    test = data.test
    order = np.argsort([_f1_of_image(one, test, index, confidence) for index, one in enumerate(detections)])
    picked = order[np.linspace(0, len(order) - 1, min(_SAMPLES, len(order))).round().astype(int)]
    for row, index in enumerate(picked):
        left, right, one = axes[2 * row], axes[2 * row + 1], detections[index]
        one = one.select(one.scores >= confidence)
        _draw(left, test.images[index], test.fitted_boxes(int(index)), test.labels[index])
        _draw(right, test.images[index], test.letterboxes[index].to_frame(one.boxes), one.classes, one.scores)
        left.set_title(f"{TRUE} ({test.names[index]})")
        right.set_title(f"{PREDICTED} at {confidence:g}, with scores")
    for label, name in enumerate(data.classes[:_MOST_IN_LEGEND]):
        axes[0].plot([], [], color=class_colour(label), linewidth=3, label=name)
    axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.07), ncols=4)


def _overlap_examples(detections: Sequence[Detections], split: DetectionSplit) -> list[Example]:
    """A predicted and a true box of the same class with about each of `_OVERLAPS`, as far as there are any."""
    pairs: list[Example] = []
    for index, (one, boxes, labels) in enumerate(zip(detections, split.boxes, split.labels, strict=True)):
        overlaps = box_iou(one.boxes, boxes) * (one.classes[:, None] == labels)
        for row in np.flatnonzero(overlaps.max(1, initial=0) > 0):
            thing = overlaps[row].argmax()
            pairs.append((index, boxes[thing], one.boxes[row], int(one.classes[row]), float(overlaps[row, thing])))
    if not pairs:
        return []
    reached = np.array([pair[-1] for pair in pairs])
    nearest = [int(np.abs(reached - wanted).argmin()) for wanted in _OVERLAPS]
    return [pairs[index] for index in dict.fromkeys(nearest)]


def _draw_overlap(axes: Sequence[Axes], split: DetectionSplit, examples: Sequence[Example]) -> None:
    """The true box dashed, the predicted one solid, their intersection shaded."""
    for axis, (index, truth, box, label, overlap) in zip(axes, examples, strict=False):
        _draw(axis, split.images[index])
        true, mine = split.letterboxes[index].to_frame(np.stack((truth, box)))
        low, high = np.maximum(true[:2], mine[:2]), np.minimum(true[2:], mine[2:])
        colour = class_colour(label)
        axis.add_patch(Rectangle(tuple(low), *(high - low), facecolor=colour, alpha=0.3))
        _outline(axis, true, "white", linewidth=2.6)
        _outline(axis, true, MEASURED, linestyle="--", linewidth=1.6, label=TRUE)
        _outline(axis, mine, colour, linewidth=2, label=PREDICTED)
        start, end = np.minimum(true[:2], mine[:2]), np.maximum(true[2:], mine[2:])
        (x, y), half = (start + end) / 2, 0.75 * (end - start).max()
        axis.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
        axis.set_title(f"IoU {overlap:.2f}: {'right' if overlap >= 0.5 else 'wrong'} at 0.5")
    axes[0].legend(loc="lower left", fontsize=SMALL, frameon=True)


def _f1_of_image(one: Detections, split: DetectionSplit, index: int, confidence: float) -> float:
    one, boxes = one.select(one.scores >= confidence), split.boxes[index]
    if not len(one.scores) or not len(boxes):
        return float(len(one.scores) == len(boxes))
    same = one.classes[:, None] == split.labels[index]
    hits = (box_iou(one.boxes, boxes) * same >= 0.5).any(0).sum()
    return float(2 * hits / (len(one.scores) + len(boxes)))


def _draw(
    axis: Axes,
    image: npt.NDArray[Any],
    boxes: FloatArray = _NONE[0],
    labels: IntArray = _NONE[1],
    scores: FloatArray | None = None,
) -> None:
    """An image with boxes in the colours of their classes; the best score is drawn last."""
    axis.axis("off")
    # Boxes count from the corner of the first pixel, matplotlib from its centre.
    axis.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    for number in reversed(range(len(boxes))):
        colour = class_colour(int(labels[number]))
        _outline(axis, boxes[number], colour, linewidth=1.6)
        if scores is not None:
            left, top = boxes[number][:2].tolist()
            label = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
            axis.text(
                left, top, f"{scores[number]:.2f}", fontsize=7, color=ink_on(colour), va="top", clip_on=True, bbox=label
            )


def _outline(axis: Axes, box: FloatArray, colour: str, **style: Any) -> None:
    axis.add_patch(Rectangle(tuple(box[:2]), *(box[2:] - box[:2]), fill=False, edgecolor=colour, **style))
