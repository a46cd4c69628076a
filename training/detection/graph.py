"""The whole graph of a detector, suppression included: uint8 pixels in, the best detections out.

What an exported graph keeps of its boxes can be replaced without its network.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxscript
import torch
import torchvision
from onnx import compose
from onnx.utils import Extractor
from torch import Tensor, nn

from service.inference.manifest import MODEL
from service.tasks.detection.manifest import Suppression
from training.data.augment import to_pixels
from training.detection.data import DetectionSplit
from training.detection.evaluation import EVALUATION_BATCH
from training.detection.network import BINS, Detector, boxes_around, grid, moments
from training.export.evaluator import run_in_batches
from training.export.graph import OPSET, without_debug_metadata
from training.export.layers import answer_with, producers_of, shapes

# Its declared types do not allow a constant as an argument.
op: Any = onnxscript.opset20
OUTPUTS = ("boxes", "scores", "classes")
# Boxes that overlap by more are the same box, whatever else is kept.
_SAME = 0.9
# The outputs of the network for an image may take a megabyte.
_MOST_IMAGES = 300


@torch.library.custom_op("quartet::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou: float, score_threshold: float, limit: int) -> Tensor:
    """Non-maximum suppression: of overlapping boxes of a class only the one with the best score is kept.

    A custom operator, because PyTorch's returns a list whose length depends on the data, for one image and one class,
    whereas that of ONNX takes a batch.

    Args:
        boxes: x_min, y_min, x_max, y_max, shape (batch, cells, 4).
        scores: shape (batch, classes, cells); those of no more than `score_threshold` are dropped.
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
    thresholds = [op.Constant(value_floats=[value]) for value in (iou, score_threshold)]
    kept = op.NonMaxSuppression(boxes, scores, op.Constant(value_ints=[limit]), *thresholds)
    count = op.Shape(kept, start=0, end=1)
    nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
    return op.ScatterND(nothing, kept, op.Expand(op.Constant(value_float=1.0), count))


TRANSLATIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {torch.ops.quartet.suppress.default: _onnx_suppress}


class PostProcess(nn.Module):
    """The best detections of each image, given the network's outputs."""

    points: Tensor
    strides: Tensor

    def __init__(self, size: tuple[int, int], suppression: Suppression) -> None:
        super().__init__()
        self.suppression = suppression
        points, strides = grid(size)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, logits: Tensor, box_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen = self.suppression
        mean, square = moments(box_logits)
        boxes = boxes_around(self.points, mean * self.strides)
        logits = logits.float()
        if chosen.spread_penalty:
            class_spread = torch.tensor(chosen.usual_spreads or [0.0], device=logits.device)
            logits = logits - chosen.spread_penalty * (relative_spread(mean, square)[..., None] - class_spread)
        scores = logits.sigmoid().transpose(1, 2).contiguous()
        iou = max(_SAME, chosen.iou) if chosen.soft else chosen.iou
        if chosen.class_agnostic:
            of_cell = scores.amax(1, keepdim=True)
            kept = suppress(boxes, of_cell, iou, chosen.floor, chosen.max_detections)
            scores = torch.where(scores == of_cell, scores * kept, 0.0)
        else:
            scores = scores * suppress(boxes, scores, iou, chosen.floor, chosen.max_detections)
        cells = boxes.shape[1]
        best, index = scores.flatten(1).topk(min(chosen.max_detections, scores.shape[1] * cells), dim=1)
        corners = boxes.gather(1, (index % cells)[..., None].expand(-1, -1, 4))
        classes = index // cells
        if chosen.soft:
            groups = torch.zeros_like(classes) if chosen.class_agnostic else classes
            best = best * (1 - overlap_with_better(corners, groups, chosen.iou))
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


def overlap_with_better(boxes: Tensor, groups: Tensor, iou: float) -> Tensor:
    """The largest overlap of each box with a better one of its group, shape (batch, n); 0 up to `iou`.

    Args:
        boxes: the best first, shape (batch, n, 4).
        groups: of boxes that suppress each other, such as their classes, shape (batch, n).
        iou: smaller overlaps do not count.
    """
    overlaps = torchvision.ops.box_iou(boxes, boxes)
    rank = torch.arange(boxes.shape[1], device=boxes.device)
    counts = (rank[:, None] > rank) & (groups[:, :, None] == groups[:, None]) & (overlaps > iou)
    return torch.where(counts, overlaps, 0.0).amax(2)


class DetectorGraph(nn.Module):
    """uint8 pixels (batch, height, width, 3) to `boxes`, `scores` and `classes` of the best detections of each image.

    Boxes are x_min, y_min, x_max, y_max in pixels, float32, shape (batch, limit, 4); scores float32 and classes int64,
    shape (batch, limit), the best first, padded with zeros.
    """

    def __init__(self, network: Detector, suppression: Suppression) -> None:
        super().__init__()
        self.network = network
        self.post_process = PostProcess(network.size, suppression)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor, Tensor] = self.post_process(*self.network(to_pixels(images)))
        return outputs


@torch.no_grad()
def network_outputs(network: Detector, split: DetectionSplit) -> tuple[Tensor, Tensor]:
    """The outputs of a network on the CPU for the first images of a split."""
    images = torch.from_numpy(split.images[:_MOST_IMAGES])
    parts = [network(to_pixels(batch)) for batch in images.split(EVALUATION_BATCH)]
    return torch.cat([logits for logits, _ in parts]), torch.cat([box_logits for _, box_logits in parts])


def graph_outputs(graph: Path, split: DetectionSplit) -> tuple[Tensor, Tensor]:
    """The same of an exported graph."""
    model = onnx.load(graph)
    answer_with(model, _network_ends(model))
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch) / MODEL
        onnx.save(model, bare)
        outputs = run_in_batches(bare, model.graph.input[0].name, split.images[:_MOST_IMAGES], EVALUATION_BATCH)
    return torch.from_numpy(outputs[0]), torch.from_numpy(outputs[1])


def replace_post_process(path: Path, suppression: Suppression) -> None:
    """Changes what the graph at `path` keeps; the network in it and its out-of-distribution score stay."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph, ends = model.graph, _network_ends(model)
    height, width = (axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim[1:3])
    classes = shapes(model)[ends[0]][-1]
    assert isinstance(classes, int)  # noqa: S101 - only the batch is open
    others = [value.name for value in graph.output if value.name not in OUTPUTS]
    network = Extractor(model).extract_model([graph.input[0].name], [*ends, *others])
    post_process = _exported(PostProcess((height, width), suppression), classes)
    post_process.ir_version = network.ir_version
    joints = [(end, value.name) for end, value in zip(ends, post_process.graph.input, strict=True)]
    merged = compose.merge_models(network, post_process, joints)
    outputs = {value.name: value for value in merged.graph.output}
    ordered = [copy.deepcopy(outputs[name]) for name in (*OUTPUTS, *others)]
    del merged.graph.output[:]
    merged.graph.output.extend(ordered)
    onnx.checker.check_model(merged, full_check=True)
    onnx.save(merged, path)


def _exported(post_process: PostProcess, classes: int) -> onnx.ModelProto:
    cells, batch = len(post_process.points), torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        post_process.eval(),
        (torch.zeros(2, cells, classes), torch.zeros(2, cells, 4 * BINS)),
        input_names=["logits", "box_logits"],
        output_names=list(OUTPUTS),
        dynamic_shapes=({0: batch}, {0: batch}),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
        custom_translation_table=dict(TRANSLATIONS),
    )
    assert program is not None  # noqa: S101 - the declared type allows it
    model = without_debug_metadata(program.model_proto)
    # With names that no network has.
    return compose.add_prefix(model, "post_process_", rename_outputs=False)


def _network_ends(model: onnx.ModelProto) -> tuple[str, str]:
    """The tensors of a detector's graph that are its network's logits and box logits.

    Raises:
        ValueError: it is built in another way.
    """
    nodes = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    if len(nodes) != 1:
        raise ValueError("the graph has no suppression that could be replaced")
    boxes, scores = nodes[0].input[:2]
    sigmoid, softmax = _nearest(model, scores, "Sigmoid"), _nearest(model, boxes, "Softmax")
    # The scales joined: what comes between them and the sigmoid is the penalty of spread edges.
    logits = _nearest(model, sigmoid.input[0], "Concat").output[0]
    return logits, _nearest(model, softmax.input[0], "Reshape").input[0]


def _nearest(model: onnx.ModelProto, name: str, kind: str) -> onnx.NodeProto:
    """The first node of this kind that the tensor comes from, in order of their distance."""
    producers, waiting = producers_of(model), [name]
    for tensor in waiting:
        node = producers.get(tensor)
        if node is not None and node.op_type == kind:
            return node
        waiting.extend(node.input if node is not None else ())
    raise ValueError(f"the graph has no {kind} before {name}: it is built in another way")
