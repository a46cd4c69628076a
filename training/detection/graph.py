"""The whole graph of a detector, suppression included: uint8 pixels in, the best detections out."""

from collections.abc import Callable, Mapping
from typing import Any

import onnxscript
import torch
import torchvision
from torch import Tensor, nn

from service.tasks.detection.manifest import Suppression
from training.data.augment import to_pixels
from training.detection.network import Detector, boxes_around, grid, moments

# Its declared types do not allow a constant as an argument.
op: Any = onnxscript.opset20
OUTPUTS = ("boxes", "scores", "classes")
# Boxes of a class that overlap by more are the same box, whatever else is kept.
_SAME = 0.9


@torch.library.custom_op("quartet::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou: float, score_threshold: float, limit: int) -> Tensor:
    """Non-maximum suppression: of overlapping boxes of a class only the one with the best score is kept.

    A custom operator, because PyTorch's returns a list whose length depends on the data, for one image and one class,
    whereas that of ONNX takes a batch.

    Args:
        boxes: x_min, y_min, x_max, y_max, shape (batch, cells, 4).
        scores: shape (batch, classes, cells).
        iou: boxes with a higher IoU count as one object.
        score_threshold: scores of no more than this are dropped.
        limit: the most boxes per class.

    Returns:
        1.0 for what is kept and 0.0 for the rest, shape of `scores`.
    """
    keep = torch.zeros_like(scores)
    for image, of_image in enumerate(scores):
        for index, column in enumerate(of_image):
            above = torch.nonzero(column > score_threshold).squeeze(1)
            best = torchvision.ops.nms(boxes[image][above], column[above], iou)[:limit]
            keep[image, index, above[best]] = 1
    return keep


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, score_threshold: float, limit: int) -> Tensor:  # noqa: ARG001
    return torch.empty_like(scores)


def _onnx_suppress(boxes: Any, scores: Any, iou: float, score_threshold: float, limit: int) -> Any:
    """`suppress` in ONNX, whose operator lists the indices (image, class, cell) of what is kept."""
    kept = op.NonMaxSuppression(
        boxes,
        scores,
        op.Constant(value_ints=[limit]),
        op.Constant(value_floats=[iou]),
        op.Constant(value_floats=[score_threshold]),
    )
    count = op.Shape(kept, start=0, end=1)
    nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
    return op.ScatterND(nothing, kept, op.Expand(op.Constant(value_float=1.0), count))


TRANSLATIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {torch.ops.quartet.suppress.default: _onnx_suppress}


class PostProcess(nn.Module):
    """The best detections of each image, given the network's outputs.

    Args:
        size: height and width of the images.
        suppression: what is kept.
    """

    points: Tensor
    strides: Tensor

    def __init__(self, size: tuple[int, int], suppression: Suppression) -> None:
        super().__init__()
        self.suppression = suppression
        points, strides = grid(size)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, logits: Tensor, box_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`boxes`, `scores` and `classes` of `DetectorGraph`, of the outputs of `Detector`."""
        chosen = self.suppression
        mean, square = moments(box_logits)
        boxes = boxes_around(self.points, mean * self.strides)
        logits = logits.float()
        if chosen.spread_penalty:
            class_spread = torch.tensor(chosen.usual_spreads or [0.0], device=logits.device)
            logits = logits - chosen.spread_penalty * (relative_spread(mean, square)[..., None] - class_spread)
        scores = logits.sigmoid().transpose(1, 2).contiguous()
        iou = max(_SAME, chosen.iou) if chosen.soft else chosen.iou
        scores = scores * suppress(boxes, scores, iou, chosen.floor, chosen.max_detections)
        cells = boxes.shape[1]
        best, index = scores.flatten(1).topk(min(chosen.max_detections, scores.shape[1] * cells), dim=1)
        corners = boxes.gather(1, (index % cells)[..., None].expand(-1, -1, 4))
        classes = index // cells
        if chosen.soft:
            best = best * (1 - overlap_with_better(corners, classes, chosen.iou))
            best = torch.where(best > chosen.floor, best, 0.0)
            best, order = best.topk(best.shape[1], dim=1)
            corners, classes = corners.gather(1, order[..., None].expand(-1, -1, 4)), classes.gather(1, order)
        found = best > 0
        # Ties at 0 come in any order, which zeros hide.
        return corners * found[..., None], best, torch.where(found, classes, 0)


def relative_spread(mean: Tensor, square: Tensor) -> Tensor:
    """How uncertain the edges of boxes are, shape (batch, cells), given the moments of the edges; see `Suppression`."""
    spread = (square - mean.square()).clamp_min(0).sqrt().mean(-1)
    area = (mean[..., 0] + mean[..., 2]) * (mean[..., 1] + mean[..., 3])
    # Of boxes without an area everything is uncertain.
    return spread / area.sqrt().clamp_min(0.1)


def overlap_with_better(boxes: Tensor, classes: Tensor, iou: float) -> Tensor:
    """The largest overlap of each box with a better one of its class, shape (batch, n); 0 up to `iou`.

    Args:
        boxes: the best first, shape (batch, n, 4).
        classes: shape (batch, n).
        iou: smaller overlaps do not count.
    """
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    both = (high - low).clamp_min(0).prod(-1)
    overlaps = both / (area[:, :, None] + area[:, None] - both).clamp_min(1e-7)
    rank = torch.arange(boxes.shape[1], device=boxes.device)
    counts = (rank[:, None] > rank) & (classes[:, :, None] == classes[:, None]) & (overlaps > iou)
    return (overlaps * counts).amax(2)


class DetectorGraph(nn.Module):
    """uint8 pixels (batch, height, width, 3) to `boxes`, `scores` and `classes` of the best detections of each image.

    Boxes are x_min, y_min, x_max, y_max in pixels, float32, shape (batch, limit, 4); scores float32 and classes int64,
    shape (batch, limit), the best first, padded with zeros.

    Args:
        network: a trained detector.
        suppression: what is kept.
    """

    def __init__(self, network: Detector, suppression: Suppression) -> None:
        super().__init__()
        self.network = network
        self.post_process = PostProcess(network.size, suppression)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor, Tensor] = self.post_process(*self.network(to_pixels(images)))
        return outputs
