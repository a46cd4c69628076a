import pytest
import torch
import torch.nn.functional as F

from training.detection.loss import LossWeights, assign, detection_loss, distribution_focal_loss
from training.detection.network import BINS, decode, grid

SIZE = (64, 96)
POINTS, STRIDES = grid(SIZE)
WEIGHTS = LossWeights()
TRUTH = torch.tensor([[[8.0, 8, 40, 40], [50, 10, 90, 60]], [[20.0, 20, 60, 50], [0, 0, 0, 0]]])
LABELS = torch.tensor([[0, 1], [1, 0]])
REAL = torch.tensor([[True, True], [True, False]])


def exact(truth):
    """Edge logits of cells that all predict this box, limited by the range of the bins: shape (cells, 4 * BINS)."""
    distances = torch.cat((POINTS - truth[:2], truth[2:] - POINTS), 1) / STRIDES
    low = distances.clamp(0, BINS - 1.001).floor()
    share = distances.clamp(0, BINS - 1.001) - low
    shares = F.one_hot(low.long(), BINS) * (1 - share)[..., None] + F.one_hot(low.long() + 1, BINS) * share[..., None]
    return shares.clamp_min(1e-8).log().flatten(1)


def test_cells_are_assigned_to_objects_that_they_lie_in_with_a_limit_per_object():
    logits = torch.zeros(2, len(POINTS), 2)
    boxes = torch.stack([decode(exact(TRUTH[0, 0]), POINTS, STRIDES), decode(exact(TRUTH[1, 0]), POINTS, STRIDES)])
    owner, score = assign(logits.sigmoid(), boxes, POINTS, TRUTH, LABELS, REAL, LossWeights(candidates=4))
    mine = (score[0] > 0) & (owner[0] == 0)
    assert mine.sum() == 4
    inside = POINTS[mine]
    assert ((inside > 8) & (inside < 40)).all()
    assert score[0].max() == pytest.approx(1.0, abs=1e-4)
    assert (owner[1][score[1] > 0] == 0).all()


def test_no_cell_is_assigned_to_padding():
    boxes = decode(torch.zeros(1, len(POINTS), 4 * BINS), POINTS, STRIDES)
    _, score = assign(
        torch.ones(1, len(POINTS), 2),
        boxes,
        POINTS,
        TRUTH[:1],
        LABELS[:1],
        torch.zeros(1, 2, dtype=torch.bool),
        WEIGHTS,
    )
    assert score.sum() == 0


def test_a_cell_inside_two_objects_is_assigned_to_the_one_that_its_box_overlaps_more():
    truth = torch.tensor([[[0.0, 0, 64, 64], [20, 20, 44, 44]]])
    boxes = decode(exact(truth[0, 1]), POINTS, STRIDES)[None]
    owner, score = assign(
        torch.ones(1, len(POINTS), 1), boxes, POINTS, truth, torch.zeros(1, 2, dtype=torch.long),
        torch.ones(1, 2, dtype=torch.bool), LossWeights(candidates=len(POINTS)),
    )  # fmt: skip
    both = ((POINTS > 20) & (POINTS < 44)).all(1)
    assert (owner[0][both] == 1).all()
    assert (score[0][both] > 0).all()


def loss_of(logits, edges):
    return detection_loss(logits, edges, POINTS, STRIDES, (TRUTH, LABELS, REAL), WEIGHTS)


def test_the_loss_is_lower_for_right_predictions():
    edges = torch.stack([exact(TRUTH[0, 0]), exact(TRUTH[1, 0])])
    inside = torch.stack([((b[:2] < POINTS) & (b[2:] > POINTS)).all(1) for b in (TRUTH[0, 0], TRUTH[1, 0])])
    right = torch.full((2, len(POINTS), 2), -6.0)
    right[0, inside[0], 0] = right[1, inside[1], 1] = 6.0
    wrong = right.flip(2)
    (good, parts), (bad, _) = loss_of(right, edges), loss_of(wrong, edges)
    assert good < bad
    assert parts["box"] < 0.05
    shifted, other = loss_of(right, torch.stack([exact(TRUTH[0, 0] + 5), exact(TRUTH[1, 0] + 5)]))
    assert other["box"] > parts["box"]
    assert shifted > good


def test_the_loss_of_an_image_without_objects_is_that_of_its_false_detections():
    none = torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.bool)
    edges = torch.zeros(1, len(POINTS), 4 * BINS, requires_grad=True)
    quiet, parts = detection_loss(torch.full((1, len(POINTS), 2), -9.0), edges, POINTS, STRIDES, none, WEIGHTS)
    loud, _ = detection_loss(torch.zeros(1, len(POINTS), 2), edges, POINTS, STRIDES, none, WEIGHTS)
    assert quiet < loud
    assert parts["box"] == parts["edges"] == 0
    quiet.backward()
    assert torch.isfinite(edges.grad).all()


def test_distribution_loss_is_least_for_the_two_bins_around_the_truth():
    distances = torch.tensor([[2.25, 0.0, 7.5, 40.0]])
    shares = torch.zeros(1, 4, BINS)
    for edge, (low, share) in enumerate(((2, 0.25), (0, 0.0), (7, 0.5), (BINS - 2, 1 - 1e-3))):
        shares[0, edge, low], shares[0, edge, low + 1] = 1 - share, share
    logits = shares.clamp_min(1e-9).log().flatten(1).requires_grad_()
    distribution_focal_loss(logits, distances).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-4, rtol=0)
