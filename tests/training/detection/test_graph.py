import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from service.inference.cards import GoldenCard, ListCard
from service.inference.session import Session
from training.detection.graph import OUTPUTS, TRANSLATIONS, DetectorGraph, suppress
from training.export import export, torch_outputs

CARD = GoldenCard(
    rows=1,
    atol=1e-3,
    lists=ListCard(order="scores", above=0.02, tolerances={"boxes": 0.1, "scores": 1e-3, "classes": 0.5}),
)


@pytest.fixture(scope="module")
def graph(tiny_detector):
    """A graph with many detections, right or wrong."""
    network = tiny_detector()
    for head in network.heads:
        nn.init.normal_(head.classes[-1].weight, std=0.5)
        nn.init.zeros_(head.classes[-1].bias)
    return DetectorGraph(network, iou=0.5, floor=0.01, limit=20).eval()


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
        logits, edges = graph.network(images.permute(0, 3, 1, 2) / 255)
    assert boxes.shape == (5, 20, 4)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    for image in range(5):
        every = logits[image].sigmoid()
        corners = graph.network.decode(edges)[image].repeat_interleave(2, 0)
        kept = torchvision.ops.batched_nms(corners, every.flatten(), torch.arange(2).repeat(len(every)), 0.5)[:20]
        count = len(kept)
        assert count > 5
        torch.testing.assert_close(scores[image, :count], every.flatten()[kept])
        torch.testing.assert_close(boxes[image, :count], corners[kept])
        assert torch.equal(classes[image, :count], kept % 2)
        assert not scores[image, count:].any()


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
    found = torch_outputs(DetectorGraph(network, 0.5, 0.01, 20).eval(), squares.test.images[:2], OUTPUTS)
    assert all((values == 0).all() for values in found.values())
