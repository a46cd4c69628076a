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
from training.detection.evaluation import (
    IN_CROWD,
    Detections,
    average_precision,
    box_iou,
    matches,
    mistakes,
    precision_by_recall,
)
from training.detection.options import AugmentOptions
from training.report.curves import Curve
from training.report.plots import GUIDE, MEASURED, PREDICTED, TRUE, WIDTH, draw_confusion, save_plot
from training.report.record import REPORT, update_record
from training.report.samples import sheet_of

CURVES = (
    Curve("loss", "loss (boxes, edges and classes)", logarithmic=True),
    Curve("map_50", "mAP at an IoU of 0.5"),
    Curve("map", "mAP, mean of IoU 0.5 to 0.95"),
)
_SAMPLES = 4
_OVERLAPS = (0.9, 0.75, 0.55, 0.3)
_MOST_CLASSES_DRAWN = 30
_MOST_IN_LEGEND = 8
_WRONG = "wrong (✗)"
_BROAD: dict[str, Any] = {"alpha": 0.3, "linewidth": 5, "zorder": 1}
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
    save_plot(folder, "thresholds.png", WIDTH, 7.5, lambda axes: _thresholds(axes, measured, confidence), rows=3)
    envelopes = average_precision(detections, test, classes).by_recall
    counted = precision_by_recall(detections, test, classes)

    def draw_precision(axes: Sequence[Axes]) -> None:
        _precision_recall(axes[0], per_class, counted, envelopes)

    save_plot(folder, "precision-recall.png", WIDTH, 4.6, draw_precision)
    (folder / REPORT / "overlap.jpg").unlink(missing_ok=True)
    if examples := _overlap_examples(detections, test):
        save_plot(folder, "overlap.jpg", WIDTH, 6, lambda axes: _draw_overlap(axes, test, examples), 2, 2)
    if len(classes) <= _MOST_CLASSES_DRAWN:
        names, title = [*classes, "background"], f"Test objects at the threshold {confidence:g}"
        size = max(4.6, 2.4 + 0.42 * len(names))

        def draw_matrix(axes: Sequence[Axes]) -> None:
            draw_confusion(axes[0], wrong.confusion, names, title, background=True)

        save_plot(folder, "confusion.png", size, size, draw_matrix)

    def draw_samples(axes: Sequence[Axes]) -> None:
        _draw_samples(axes, data, detections, confidence)

    tall = 0.35 + WIDTH * max(image.shape[0] / image.shape[1] for image in test.images[:1])
    count = min(_SAMPLES, len(test))
    save_plot(folder, "samples.jpg", WIDTH, 0.4 + tall * count, draw_samples, rows=count)
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
        axis.set(ylabel=f"{name} on test", xlim=(0, 1), ylim=(0, 1.02))
    axes[-1].set_xlabel("confidence threshold")
    axes[0].legend()


def _precision_recall(
    axis: Axes,
    per_class: Sequence[DetectorClassMetrics],
    counted: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]],
    envelopes: npt.NDArray[np.float64],
) -> None:
    """A thin line through precision and recall after each detection; a broad one for the best precision from there."""
    recalls = np.linspace(0.0, 1.0, envelopes.shape[1])
    for index, row in enumerate(per_class):
        known, colour = envelopes[index] > 0, class_colour(index)
        if row.support and known.any():
            axis.plot(recalls[known], envelopes[index][known], color=colour, drawstyle="steps-pre", **_BROAD)
            axis.plot(*counted[index], color=colour, linewidth=1.1, label=f"{row.label}: AP {row.ap_50:.3f}")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    if axis.lines:  # a detector may find nothing
        axis.plot([], [], color=MEASURED, linewidth=1.1, label="after each detection")
        axis.plot([], [], color=MEASURED, label="the best from there on", **_BROAD)
        axis.legend(loc="lower left")


def _draw_samples(
    axes: Sequence[Axes], data: DetectionData, detections: Sequence[Detections], confidence: float
) -> None:
    """Test images from the worst to the best, evenly spaced: right and wrong detections, and what was missed."""
    test = data.test
    kept = [one.select(one.scores >= confidence) for one in detections]
    matched = matches(kept, test, data.classes)
    scores = [_f1(part, len(labels)) for part, labels in zip(matched, test.labels, strict=True)]
    order = np.argsort(scores, kind="stable")
    picked = order[np.linspace(0, len(order) - 1, len(axes)).round().astype(int)]
    for axis, index in zip(axes, picked.tolist(), strict=True):
        one, objects, part = kept[index], test.fitted_boxes(index), matched[index]
        missed = np.setdiff1d(np.arange(len(objects)), part)
        _draw(axis, test.images[index])
        for thing in missed:
            _outline(axis, objects[thing], "white", linewidth=2.6)
            _outline(axis, objects[thing], MEASURED, linewidth=1.6, linestyle=":")
        boxes = test.letterboxes[index].to_frame(one.boxes)
        for number in reversed(range(len(boxes))):  # the best score is drawn last
            _mark(axis, boxes[number], int(one.classes[number]), float(one.scores[number]), part[number] != -1)
        right, wrong = int((part >= 0).sum()), int((part == -1).sum())
        axis.set_title(f"{len(objects)} true: {right} found, {len(missed)} missed; {wrong} wrong", loc="left")
    for label, name in enumerate(data.classes[:_MOST_IN_LEGEND]):
        axes[0].plot([], [], color=class_colour(label), linewidth=4, label=name)
    for name, style in {"right": "-", _WRONG: "--", "missed": ":"}.items():
        axes[0].plot([], [], color=MEASURED, linewidth=1.6, linestyle=style, label=name)
    axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.06), ncols=3)


def _mark(axis: Axes, box: FloatArray, label: int, score: float, is_right: bool) -> None:
    """A detection with its score in the colour of its class; a wrong one dashed and with a cross."""
    colour = class_colour(label)
    _outline(axis, box, colour, linewidth=1.8, linestyle="-" if is_right else (0, (3, 2)))
    text = f"{score:.2f}" if is_right else f"✗ {score:.2f}"
    frame = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
    left, top = box[:2].tolist()
    axis.text(left, top, text, fontsize=8.5, color=ink_on(colour), va="top", clip_on=True, bbox=frame)


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
    axes[0].legend(loc="lower left", frameon=True)


def _f1(matched: IntArray, objects: int) -> float:
    """Of one image."""
    count = int((matched != IN_CROWD).sum())
    return float(2 * (matched >= 0).sum() / (count + objects)) if count + objects else 1.0


def _draw(
    axis: Axes,
    image: npt.NDArray[Any],
    boxes: FloatArray = _NONE[0],
    labels: IntArray = _NONE[1],
) -> None:
    """An image with boxes in the colours of their classes."""
    axis.axis("off")
    # Boxes count from the corner of the first pixel, matplotlib from its centre.
    axis.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    for box, label in zip(boxes, labels, strict=True):
        _outline(axis, box, class_colour(int(label)), linewidth=1.6)


def _outline(axis: Axes, box: FloatArray, colour: str, **style: Any) -> None:
    axis.add_patch(Rectangle(tuple(box[:2]), *(box[2:] - box[:2]), fill=False, edgecolor=colour, **style))
