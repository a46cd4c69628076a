"""Which cells are responsible for which object, and the loss of their predictions.

Task-aligned assignment (TOOD, Feng et al. 2021, arXiv:2108.07755): the cells inside an object whose score and box
are jointly best are assigned to it. Quality-aware classification and the distribution focal loss are of GFL (Li et al.
2020, arXiv:2006.04388), the box loss is CIoU (Zheng et al. 2020, arXiv:1911.08287).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.detection.network import BINS, decode


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The weights of the parts of the loss, and how cells are assigned.

    Attributes:
        box: weight of the boxes' overlap.
        edges: weight of the edges' distributions.
        classes: weight of the class scores.
        candidates: the most cells per object.
        alpha: exponent of the score in the alignment of a cell with an object; `beta`: of the overlap.
    """

    box: float = 7.5
    edges: float = 1.5
    classes: float = 1.0
    candidates: int = 10
    alpha: float = 0.5
    beta: float = 6.0


def ciou(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of boxes, and CIoU: IoU minus penalties for the distance of centres and the difference of aspect ratios.

    Args:
        boxes: x_min, y_min, x_max, y_max, shape (..., 4); `others` of a shape that broadcasts with it.
    """
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    size, other_size = boxes[..., 2:] - boxes[..., :2], others[..., 2:] - others[..., :2]
    overlap = (high - low).clamp_min(0).prod(-1)
    iou = overlap / (size.prod(-1) + other_size.prod(-1) - overlap).clamp_min(1e-7)
    hull = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    apart = (boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2
    distance = apart.square().sum(-1) / hull.square().sum(-1).clamp_min(1e-7)
    angles = torch.atan2(size[..., 0], size[..., 1]) - torch.atan2(other_size[..., 0], other_size[..., 1])
    aspect = 4 / math.pi**2 * angles.square()
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect).clamp_min(1e-7)
    return iou, iou - distance - weight * aspect


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, points: Tensor, truth: Tensor, labels: Tensor, real: Tensor, weights: LossWeights
) -> tuple[Tensor, Tensor]:
    """Assigns to every object the cells that predict it best.

    Args:
        scores: of every cell and class, shape (batch, cells, classes).
        boxes: of every cell, shape (batch, cells, 4).
        points: their centres, shape (cells, 2).
        truth: the objects' boxes, shape (batch, objects, 4).
        labels: their classes, int64, shape (batch, objects).
        real: False for the padding of images with fewer objects, shape (batch, objects).
        weights: how cells are assigned.

    Returns:
        Of every cell, shape (batch, cells): the index of its object, int64 (0 for background), and its target score,
        up to 1 and higher for better boxes (0 for background).
    """
    cells = scores.shape[1]
    inside = torch.cat((points - truth[:, :, None, :2], truth[:, :, None, 2:] - points), -1).amin(-1) > 0
    inside &= real[:, :, None]
    iou, _ = ciou(truth[:, :, None], boxes[:, None])
    iou = iou.clamp_min(0)
    score = scores.transpose(1, 2).gather(1, labels[:, :, None].expand(-1, -1, cells))
    alignment = score**weights.alpha * iou**weights.beta * inside
    best, chosen = alignment.topk(min(weights.candidates, cells), dim=2)
    candidate = torch.zeros_like(inside).scatter_(2, chosen, best > 1e-9)
    # A cell inside several objects is assigned to the one that its box overlaps most.
    owner = (iou * candidate).argmax(1)
    candidate &= F.one_hot(owner, truth.shape[1]).transpose(1, 2).bool()
    alignment = alignment * candidate
    # The target of an object's best cell is its IoU; the others are scaled in proportion.
    reach = (iou * candidate).amax(2, keepdim=True)
    target = alignment / alignment.amax(2, keepdim=True).clamp_min(1e-9) * reach
    return owner, target.amax(1)


def detection_loss(
    logits: Tensor,
    box_logits: Tensor,
    points: Tensor,
    strides: Tensor,
    truth: Tensor,
    labels: Tensor,
    real: Tensor,
    *,
    weights: LossWeights,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its parts.

    Args:
        logits: shape (batch, cells, classes).
        box_logits: shape (batch, cells, 4 * BINS).
        points: shape (cells, 2).
        strides: shape (cells, 1).
        truth: shape (batch, objects, 4), at least one object, which may be padding.
        labels: int64, shape (batch, objects).
        real: bool, shape (batch, objects).
        weights: of the parts.
    """
    logits, box_logits = logits.float(), box_logits.float()
    boxes = decode(box_logits, points, strides)
    owner, score = assign(logits.sigmoid(), boxes, points, truth, labels, real, weights)
    total = score.sum().clamp_min(1)

    target = torch.zeros_like(logits).scatter_(2, labels.gather(1, owner)[..., None], score[..., None])
    classes = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / total

    mine = score > 0
    goal = truth.gather(1, owner[..., None].expand(-1, -1, 4))[mine]
    _, similarity = ciou(boxes[mine], goal)
    weight = score[mine]
    box = ((1 - similarity) * weight).sum() / total

    point, stride = points.expand(len(logits), -1, -1)[mine], strides.expand(len(logits), -1, -1)[mine]
    distances = torch.cat((point - goal[:, :2], goal[:, 2:] - point), -1) / stride
    spread = (distribution_focal_loss(box_logits[mine], distances) * weight).sum() / total

    parts = {"classes": classes, "box": box, "edges": spread}
    return weights.classes * classes + weights.box * box + weights.edges * spread, parts


def distribution_focal_loss(box_logits: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy with the two bins around each true distance, by nearness; the mean over the four edges.

    Args:
        box_logits: shape (n, 4 * BINS).
        distances: in strides, shape (n, 4).
    """
    distances = distances.clamp(0, BINS - 1 - 1e-3)
    low = distances.long()
    upper = distances - low
    logs = box_logits.unflatten(-1, (4, BINS)).log_softmax(-1)
    near = logs.gather(-1, low[..., None]).squeeze(-1)
    far = logs.gather(-1, low[..., None] + 1).squeeze(-1)
    return -((1 - upper) * near + upper * far).mean(-1)
