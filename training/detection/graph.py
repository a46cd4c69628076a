"""The whole graph of a detector, suppression included: uint8 pixels in, the best detections out."""

from collections.abc import Callable, Mapping
from typing import Any

import onnxscript
import torch
import torchvision
from torch import Tensor, nn

from training.augment import to_pixels
from training.detection.network import Detector

# Its declared types do not allow a constant as an argument.
op: Any = onnxscript.opset20
OUTPUTS = ("boxes", "scores", "classes")


@torch.library.custom_op("quartet::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou: float, floor: float, limit: int) -> Tensor:
    """Non-maximum suppression: of overlapping boxes of a class only the one with the best score is kept.

    A custom operator, because PyTorch's returns a list whose length depends on the data, for one image and one class,
    whereas that of ONNX takes a batch.

    Args:
        boxes: x_min, y_min, x_max, y_max, shape (batch, cells, 4).
        scores: shape (batch, classes, cells).
        iou: boxes with a higher IoU are taken for one object.
        floor: scores of no more than this are dropped.
        limit: the most boxes per class.

    Returns:
        1.0 for what is kept and 0.0 for the rest, shape of `scores`.
    """
    keep = torch.zeros_like(scores)
    for image, of_image in enumerate(scores):
        for index, column in enumerate(of_image):
            above = torch.nonzero(column > floor).squeeze(1)
            best = torchvision.ops.nms(boxes[image][above], column[above], iou)[:limit]
            keep[image, index, above[best]] = 1
    return keep


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, floor: float, limit: int) -> Tensor:  # noqa: ARG001
    return torch.empty_like(scores)


def _onnx_suppress(boxes: Any, scores: Any, iou: float, floor: float, limit: int) -> Any:
    """`suppress` in ONNX, whose operator lists the indices (image, class, cell) of what is kept."""
    kept = op.NonMaxSuppression(
        boxes,
        scores,
        op.Constant(value_ints=[limit]),
        op.Constant(value_floats=[iou]),
        op.Constant(value_floats=[floor]),
    )
    count = op.Shape(kept, start=0, end=1)
    nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
    return op.ScatterND(nothing, kept, op.Expand(op.Constant(value_float=1.0), count))


TRANSLATIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {torch.ops.quartet.suppress.default: _onnx_suppress}


class DetectorGraph(nn.Module):
    """uint8 pixels (batch, height, width, 3) to `boxes`, `scores` and `classes` of the best detections of each image.

    Boxes are x_min, y_min, x_max, y_max in pixels, float32, shape (batch, limit, 4); scores float32 and classes int64,
    shape (batch, limit), the best first, padded with zeros.

    Args:
        network: a trained detector.
        iou: see `suppress`.
        floor: likewise.
        limit: the most detections per image.
    """

    def __init__(self, network: Detector, iou: float, floor: float, limit: int) -> None:
        super().__init__()
        self.network = network
        self.iou, self.floor, self.limit = iou, floor, limit

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.best(*self.network(to_pixels(images)))

    def best(self, logits: Tensor, edges: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best detections of each image, given the network's outputs."""
        boxes = self.network.decode(edges)
        scores = logits.float().sigmoid().transpose(1, 2).contiguous()
        scores = scores * suppress(boxes, scores, self.iou, self.floor, self.limit)
        cells = boxes.shape[1]
        best, index = scores.flatten(1).topk(min(self.limit, scores.shape[1] * cells), dim=1)
        found = best > 0
        chosen = boxes.gather(1, (index % cells)[..., None].expand(-1, -1, 4))
        # Ties at 0 come in any order, which zeros hide.
        return chosen * found[..., None], best, torch.where(found, index // cells, 0)
