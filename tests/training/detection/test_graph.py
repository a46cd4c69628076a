import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from service.inference.cards import GoldenCard, ListCard
from service.inference.session import Session
from service.tasks.detection.manifest import Suppression
from training.detection.graph import (
    OUTPUTS,
    TRANSLATIONS,
    DetectorGraph,
    PostProcess,
    overlap_with_better,
    relative_spread,
    suppress,
)
from training.detection.network import BINS, decode, moments
from training.export.graph import export, torch_outputs

CARD = GoldenCard(
    rows=1,
    atol=1e-3,
    lists=ListCard(order="scores", above=0.02, tolerances={"boxes": 0.1, "scores": 1e-3, "classes": 0.5}),
)
HARD = Suppression(iou=0.5, floor=0.01, max_detections=20)


@pytest.fixture(scope="module")
def graph(tiny_detector):
    """A graph with many detections, right or wrong."""
    network = tiny_detector()
    for head in network.heads:
        nn.init.normal_(head.classes[-1].weight, std=0.5)
        nn.init.zeros_(head.classes[-1].bias)
    return DetectorGraph(network, HARD).eval()


def test_suppression_keeps_the_best_of_boxes_that_overlap_a_class_at_a_time():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10.5]]])
    scores = torch.tensor([[[0.9, 0.8, 0.3, 0.0], [0.1, 0.2, 0.005, 0.7]]])
    keep = suppress(boxes, scores, 0.5, 0.01, 10)
    assert keep.tolist() == [[[1, 0, 1, 0], [0, 0, 0, 1]]]
    assert suppress(boxes, scores, 0.5, 0.01, 1).sum() == 2


def test_torch_outputs_are_what_torchvision_would_suppress(graph, squares):
    images = torch.from_numpy(squares.test.images[:5])
    with torch.no_grad():
        boxes, scores, classes = graph(images)
        logits, box_logits = graph.network(images.permute(0, 3, 1, 2) / 255)
    assert boxes.shape == (5, 20, 4)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    for image in range(5):
        every = logits[image].sigmoid()
        corners = decode(box_logits, graph.network.points, graph.network.strides)[image].repeat_interleave(2, 0)
        kept = torchvision.ops.batched_nms(corners, every.flatten(), torch.arange(2).repeat(len(every)), 0.5)[:20]
        count = len(kept)
        assert count > 5
        torch.testing.assert_close(scores[image, :count], every.flatten()[kept])
        torch.testing.assert_close(boxes[image, :count], corners[kept])
        assert torch.equal(classes[image, :count], kept % 2)
        assert not scores[image, count:].any()


def test_a_box_overlaps_the_better_ones_of_its_class_by_more_than_a_threshold():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 9], [0, 0, 10, 4], [0, 0, 0, 0]]])
    classes = torch.tensor([[0, 1, 0, 0, 0]])
    torch.testing.assert_close(
        overlap_with_better(boxes, classes, 0.5), torch.tensor([[0, 0, 0.9, 0, 0]]), atol=1e-6, rtol=0
    )


def test_edges_are_the_more_certain_the_sharper_they_are_for_the_size_of_the_box():
    sure = torch.full((4, BINS), -30.0)
    sure[:, 4] = 30
    unsure = sure.clone()
    unsure[:, (2, 6)] = 30  # equally likely: a standard deviation of 2 for a box of 8 x 8
    unsure[:, 4] = -30
    flat = torch.full((4, BINS), -30.0)
    flat[:, 0] = 30
    spread = relative_spread(*moments(torch.stack((sure, unsure, flat)).flatten(1)[None]))
    torch.testing.assert_close(spread, torch.tensor([[0, 2 / 8, 0]]), atol=1e-3, rtol=0)


def test_soft_suppression_keeps_all_but_the_same_boxes_with_lower_scores(graph, squares):
    soft = HARD.model_copy(update={"soft": True, "spread_penalty": 2.0, "max_detections": 200})
    with torch.no_grad():
        logits, box_logits = graph.network(torch.from_numpy(squares.test.images[:2]).permute(0, 3, 1, 2) / 255)
        _, hard_scores, _ = PostProcess(graph.network.size, HARD)(logits, box_logits)
        boxes, scores, classes = PostProcess(graph.network.size, soft)(logits, box_logits)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert ((scores == 0) | (scores > HARD.floor)).all()
    for image in range(2):
        found = scores[image] > 0
        overlaps = torchvision.ops.box_iou(boxes[image, found], boxes[image, found]).fill_diagonal_(0)
        alike = classes[image, found][:, None] == classes[image, found]
        assert found.sum() > 20
        assert 0.5 < (overlaps * alike).max() <= 0.9
        assert scores[image, 0] <= hard_scores[image, 0]


@pytest.mark.parametrize("soft", [False, True])
def test_class_agnostic_suppression_answers_with_one_class_for_each_place(graph, squares, soft):
    apart = HARD.model_copy(update={"soft": soft, "max_detections": 200})
    with torch.no_grad():
        outputs = graph.network(torch.from_numpy(squares.test.images[:2]).permute(0, 3, 1, 2) / 255)
        each, counted, of_each = PostProcess(graph.network.size, apart)(*outputs)
        boxes, scores, classes = PostProcess(graph.network.size, apart.model_copy(update={"class_agnostic": True}))(
            *outputs
        )
    best, index = outputs[0].sigmoid().amax(2).max(1)
    for image in range(2):
        some, names = (values[image, counted[image] > 0] for values in (each, of_each))
        assert (torchvision.ops.box_iou(some, some) * (names[:, None] != names)).max() > 0.7
        kept = boxes[image, scores[image] > 0]
        assert torchvision.ops.box_iou(kept, kept).fill_diagonal_(0).max() <= (0.9 if soft else 0.5)
        assert scores[image, 0] == best[image]
        assert classes[image, 0] == outputs[0][image, index[image]].argmax()


def test_the_exported_graph_agrees_at_every_batch_and_each_image_alone(graph, squares, tmp_path):
    path = tmp_path / "detector.onnx"
    inputs, outputs, worst = export(
        graph, squares.test.images, path, input_name="images", output_names=OUTPUTS, max_batch=16, card=CARD,
        translations=TRANSLATIONS,
    )  # fmt: skip
    assert worst.acceptable
    assert inputs.shape == (-1, 64, 96, 3)
    assert [(spec.name, spec.dtype, spec.shape) for spec in outputs] == [
        ("boxes", "float32", (-1, 20, 4)), ("scores", "float32", (-1, 20)), ("classes", "int64", (-1, 20)),
    ]  # fmt: skip
    session = Session(path, "cpu")
    together = session.run({"images": squares.test.images[:8]})
    for index in range(8):
        alone = session.run({"images": squares.test.images[index : index + 1]})
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], many[index], atol=1e-2)


def test_nothing_found_is_all_zeros(tiny_detector, squares):
    network = tiny_detector()
    for head in network.heads:
        nn.init.constant_(head.classes[-1].bias, -20)
    found = torch_outputs(DetectorGraph(network, HARD).eval(), squares.test.images[:2], OUTPUTS)
    assert all((values == 0).all() for values in found.values())
