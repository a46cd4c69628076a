"""Which cells are responsible for which object, and the loss of their predictions.

Task-aligned assignment (TOOD, Feng et al. 2021, arXiv:2108.07755): the cells inside an object whose score and box
are jointly best are assigned to it. Quality-aware classification and the distribution focal loss are of GFL (Li et al.
2020, arXiv:2006.04388), the box loss is CIoU (Zheng et al. 2020, arXiv:1911.08287).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, complete_box_iou_loss

from training.detection.network import BINS, decode


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The weights of the parts of the loss, and how cells are assigned.

    Attributes:
        candidates: the most cells per object.
        alpha: exponent of the score in the alignment of a cell with an object; `beta`: of the overlap.
    """

    box: float = 7.5
    edges: float = 1.5
    classes: float = 1.0
    candidates: int = 10
    alpha: float = 0.5
    beta: float = 6.0


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, points: Tensor, truth: Tensor, labels: Tensor, real: Tensor, weights: LossWeights
) -> tuple[Tensor, Tensor]:
    """Assigns to every object the cells that predict it best.

    Args:
        scores: shape (batch, cells, classes).
        boxes: shape (batch, cells, 4).
        points: the centres of the cells, shape (cells, 2).
        truth: the boxes of the objects, shape (batch, objects, 4).
        labels: int64, shape (batch, objects).
        real: False for the padding of images with fewer objects, shape (batch, objects).

    Returns:
        Of every cell, shape (batch, cells): the index of its object, int64 (0 for background), and its target score,
        up to 1 and higher for better boxes (0 for background).
    """
    cells = scores.shape[1]
    inside = torch.cat((points - truth[:, :, None, :2], truth[:, :, None, 2:] - points), -1).amin(-1) > 0
    inside &= real[:, :, None]
    iou = box_iou(truth, boxes)
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
    objects: tuple[Tensor, Tensor, Tensor],
    weights: LossWeights,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its parts.

    Args:
        logits: shape (batch, cells, classes).
        box_logits: shape (batch, cells, 4 * BINS).
        points: shape (cells, 2); `strides`: shape (cells, 1).
        objects: `truth`, `labels` and `real` of `assign`; at least one object, which may be padding.
    """
    truth, labels, real = objects
    logits, box_logits = logits.float(), box_logits.float()
    boxes = decode(box_logits, points, strides)
    owner, score = assign(logits.sigmoid(), boxes, points, truth, labels, real, weights)
    total = score.sum().clamp_min(1)

    target = torch.zeros_like(logits).scatter_(2, labels.gather(1, owner)[..., None], score[..., None])
    classes = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / total

    mine = score > 0
    goal = truth.gather(1, owner[..., None].expand(-1, -1, 4))[mine]
    weight = score[mine]
    box = (complete_box_iou_loss(boxes[mine], goal) * weight).sum() / total

    point, stride = points.expand(len(logits), -1, -1)[mine], strides.expand(len(logits), -1, -1)[mine]
    distances = torch.cat((point - goal[:, :2], goal[:, 2:] - point), -1) / stride
    spread = (distribution_focal_loss(box_logits[mine], distances) * weight).sum() / total

    parts = {"classes": classes, "box": box, "edges": spread}
    return weights.classes * classes + weights.box * box + weights.edges * spread, parts


def distribution_focal_loss(box_logits: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy with the two bins around each true distance (in strides, shape (n, 4)), the mean over the edges."""
    distances = distances.clamp(0, BINS - 1 - 1e-3)
    low = distances.long()
    upper = distances - low
    logs = box_logits.unflatten(-1, (4, BINS)).log_softmax(-1)
    near = logs.gather(-1, low[..., None]).squeeze(-1)
    far = logs.gather(-1, low[..., None] + 1).squeeze(-1)
    return -((1 - upper) * near + upper * far).mean(-1)
