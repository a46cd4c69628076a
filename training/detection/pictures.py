"""The pictures of a detector's report: images with true and predicted boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from service.tasks.palette import class_colour, ink_on
from training.detection.augment import augment
from training.detection.data import DetectionData, DetectionSplit
from training.detection.evaluation import Detections, box_iou
from training.detection.options import AugmentOptions
from training.report.plots import MEASURED, PREDICTED, SMALL, TRUE

SAMPLES = 6
OVERLAPS = (0.9, 0.75, 0.55, 0.3)
_MOST_IN_LEGEND = 8

Box = npt.NDArray[np.float32]


def draw_samples(
    axes: Sequence[Axes], data: DetectionData, detections: Sequence[Detections], confidence: float
) -> None:
    """Draws test images from the worst to the best detections, evenly spaced, with true and predicted boxes.

    Args:
        axes: two for each of `SAMPLES` images.
        data: has the images.
        detections: in each.
        confidence: the threshold.
    """
    order = np.argsort([_agreement(one, data.test, i, confidence) for i, one in enumerate(detections)])
    picked = order[np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).round().astype(int)]
    for row, index in enumerate(picked):
        left, right, one = axes[2 * row], axes[2 * row + 1], detections[index]
        frame, keep = data.test.letterboxes[index], one.scores >= confidence
        _draw(left, data.test.images[index], data.test.fitted_boxes(int(index)), data.test.labels[index])
        _draw(right, data.test.images[index], frame.to_frame(one.boxes[keep]), one.classes[keep], one.scores[keep])
        left.set_title(f"{TRUE} ({data.test.names[index]})")
        right.set_title(f"{PREDICTED} at {confidence:g}, with scores")
    for label, name in enumerate(data.classes[:_MOST_IN_LEGEND]):
        axes[0].plot([], [], color=class_colour(label), linewidth=3, label=name)
    axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.07), ncols=4)


def draw_augmented(axes: Sequence[Axes], data: DetectionData, settings: AugmentOptions) -> None:
    """Draws training images as the network sees them."""
    count = min(len(axes), len(data.train))
    pixels, boxes, labels = augment(
        settings,
        data.train.images,
        [torch.from_numpy(data.train.fitted_boxes(index)) for index in range(len(data.train))],
        [torch.from_numpy(one) for one in data.train.labels],
        torch.arange(count),
        torch.Generator().manual_seed(0),
        mosaics=True,
    )
    for axis, image, corners, classes in zip(axes, pixels, boxes, labels, strict=False):
        _draw(axis, image.permute(1, 2, 0).numpy(), corners.numpy(), classes.numpy())


def overlap_examples(detections: Sequence[Detections], split: DetectionSplit) -> list[tuple[int, Box, Box, int, float]]:
    """A predicted and a true box of the same class with about each of `OVERLAPS`, as far as there are any.

    Returns:
        The index of the image, the true box, the predicted one (both in pixels of the original), the class and the IoU.
    """
    pairs = []
    for index, one in enumerate(detections):
        overlaps = box_iou(one.boxes, split.boxes[index]) * (one.classes[:, None] == split.labels[index][None])
        if overlaps.size:
            best = overlaps.argmax(1)
            pairs += [
                (index, split.boxes[index][thing], one.boxes[row], int(one.classes[row]), float(overlaps[row, thing]))
                for row, thing in enumerate(best)
                if overlaps[row, thing] > 0
            ]
    if not pairs:
        return []
    overlaps = np.array([pair[-1] for pair in pairs])
    nearest = [int(np.abs(overlaps - wanted).argmin()) for wanted in OVERLAPS]
    return [pairs[index] for index in dict.fromkeys(nearest)]


def draw_overlap(
    axes: Sequence[Axes], split: DetectionSplit, examples: Sequence[tuple[int, Box, Box, int, float]]
) -> None:
    """Draws examples of `overlap_examples`: the true box dashed, the predicted one solid, their intersection shaded."""
    for axis, (index, truth, box, label, overlap) in zip(axes, examples, strict=False):
        axis.axis("off")
        image, frame = split.images[index], split.letterboxes[index]
        true, mine = frame.to_frame(np.stack((truth, box)))
        axis.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
        low, high = np.maximum(true[:2], mine[:2]), np.minimum(true[2:], mine[2:])
        colour = class_colour(label)
        axis.add_patch(Rectangle(tuple(low), *(high - low), facecolor=colour, alpha=0.3))
        _outline(axis, true, "white", linewidth=2.6)
        _outline(axis, true, MEASURED, linestyle="--", linewidth=1.6, label=TRUE)
        _outline(axis, mine, colour, linewidth=2, label=PREDICTED)
        centre = (np.minimum(true[:2], mine[:2]) + np.maximum(true[2:], mine[2:])) / 2
        half = 0.75 * (np.maximum(true[2:], mine[2:]) - np.minimum(true[:2], mine[:2])).max()
        axis.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] + half, centre[1] - half))
        verdict = "right" if overlap >= 0.5 else "wrong"
        axis.set_title(f"IoU {overlap:.2f}: {verdict} at 0.5")
    axes[0].legend(loc="lower left", fontsize=SMALL, frameon=True)


def _agreement(one: Detections, split: DetectionSplit, index: int, confidence: float) -> float:
    """The F1 of one image."""
    keep = one.scores >= confidence
    if not keep.any() or not len(split.boxes[index]):
        return float(not keep.any() and not len(split.boxes[index]))
    same = one.classes[keep][:, None] == split.labels[index][None]
    hits = (box_iou(one.boxes[keep], split.boxes[index]) * same >= 0.5).any(0).sum()
    return float(2 * hits / (keep.sum() + len(split.boxes[index])))


def _draw(
    axis: Axes,
    image: npt.NDArray[Any],
    boxes: Box,
    labels: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32] | None = None,
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


def _outline(axis: Axes, box: Box, colour: str, **style: Any) -> None:
    axis.add_patch(Rectangle(tuple(box[:2]), *(box[2:] - box[:2]), fill=False, edgecolor=colour, **style))
