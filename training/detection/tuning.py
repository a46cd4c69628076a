"""What is kept of a detector's boxes, chosen by average precision on the validation split; no weight changes.

The choices are made one after the other, each with what the earlier ones chose.
"""

import copy
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import compose
from onnx.utils import Extractor
from torch import Tensor

from service.inference.manifest import MODEL
from service.inference.session import Session
from service.tasks.detection.manifest import Suppression
from training.data.augment import to_pixels
from training.detection.data import DetectionSplit
from training.detection.evaluation import Detections, average_precision
from training.detection.graph import OUTPUTS, TRANSLATIONS, PostProcess, relative_spread
from training.detection.learner import EVALUATION_BATCH, in_originals
from training.detection.network import BINS, Detector, moments
from training.export.graph import OPSET, without_debug_metadata
from training.export.layers import answer_with, producers_of, shapes

PENALTIES = (0.0, 4.0, 8.0, 12.0)
OVERLAPS = tuple((soft, iou) for soft in (False, True) for iou in (0.5, 0.6, 0.7))
# Scores that are lowered fall below a threshold that was made for higher ones.
SCORE_THRESHOLDS = (0.01, 0.002)
# A more complicated choice has to be better by more than what rounding may change.
_LEAST_GAIN = 5e-4
# The outputs of the network for an image may take a megabyte.
_MOST_IMAGES = 300
_PREFIX = "post_process_"
_LIKELY = 0.3

Outputs = Sequence[tuple[Tensor, Tensor]]


def choose(outputs: Outputs, split: DetectionSplit, classes: tuple[str, ...], base: Suppression) -> Suppression:
    """What to keep.

    Args:
        outputs: of the network for batches of the first images of the split: logits and box logits.
        split: of the images; their number is that of the outputs, or more.
        classes: their names.
        base: what would be kept without a choice.
    """
    count = sum(len(logits) for logits, _ in outputs)
    chosen = split.without_pixels(np.arange(count))
    height, width = split.images.shape[1:3]

    def score(suppression: Suppression) -> float:
        post_process = PostProcess((height, width), suppression)
        found: list[Detections] = []
        for logits, box_logits in outputs:
            frames = chosen.letterboxes[len(found) :][: len(logits)]
            found += in_originals(frames, [part.numpy() for part in post_process(logits, box_logits)])
        return average_precision(found, chosen, classes).map

    kept, reached = base, score(base)
    class_spread = _class_spread(outputs, len(classes))
    for changes in (
        [{"spread_penalty": penalty, "usual_spreads": class_spread if penalty else ()} for penalty in PENALTIES],
        [{"soft": soft, "iou": iou} for soft, iou in OVERLAPS],
        [{"floor": floor} for floor in SCORE_THRESHOLDS],
    ):
        for candidate in [kept.model_copy(update=change) for change in changes]:
            # Where nothing can be measured, nothing is better.
            if (value := score(candidate)) > reached + _LEAST_GAIN:
                kept, reached = candidate, value
    return kept


def _class_spread(outputs: Outputs, classes: int) -> tuple[float, ...]:
    """The median spread of the boxes of each class that are likely to be right.

    Small objects have a larger one, and average precision does not notice if all scores of a class are lower; a
    threshold for all classes does.
    """
    spreads: list[list[Tensor]] = [[] for _ in range(classes)]
    for logits, box_logits in outputs:
        spread, likely = relative_spread(*moments(box_logits)), logits.sigmoid() > _LIKELY
        for index in range(classes):
            spreads[index].append(spread[likely[..., index]])
    joined = [torch.cat([*parts, torch.empty(0)]) for parts in spreads]
    return tuple(round(float(part.median()), 3) if len(part) else 0.0 for part in joined)


@torch.no_grad()
def network_outputs(network: Detector, split: DetectionSplit) -> list[tuple[Tensor, Tensor]]:
    """The outputs of a network on the CPU for the first images of a split, in batches."""
    return [network(to_pixels(torch.from_numpy(images))) for images in _batches(split)]


def graph_outputs(graph: Path, split: DetectionSplit) -> list[tuple[Tensor, Tensor]]:
    """The same of an exported graph."""
    model = onnx.load(graph)
    answer_with(model, _network_ends(model))
    with tempfile.TemporaryDirectory() as scratch:
        onnx.save(model, Path(scratch) / MODEL)
        session = Session(Path(scratch) / MODEL, "cpu")
        batches = [session.run({session.inputs[0]: images}) for images in _batches(split)]
    return [(torch.from_numpy(logits), torch.from_numpy(box_logits)) for logits, box_logits in batches]


def _batches(split: DetectionSplit) -> Iterable[npt.NDArray[np.uint8]]:
    count = min(len(split), _MOST_IMAGES)
    return (split.images[start : min(start + EVALUATION_BATCH, count)] for start in range(0, count, EVALUATION_BATCH))


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
    """`post_process` in ONNX, with names that no network has."""
    cells = len(post_process.points)
    batch = torch.export.Dim("batch", min=1)
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
    return compose.add_prefix(model, _PREFIX, rename_outputs=False)


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
    producers = producers_of(model)
    waiting = [name]
    for tensor in waiting:
        node = producers.get(tensor)
        if node is not None and node.op_type == kind:
            return node
        waiting.extend(node.input if node is not None else ())
    raise ValueError(f"the graph has no {kind} before {name}: it is built in another way")
