"""`quartet adopt --task detection`: an exported YOLO network that takes files of images and answers boxes."""

import argparse
import ast
import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from onnx import ModelProto, compose, numpy_helper

from quartet.adopt.base import AdoptTask, Proposal
from quartet.adopt.graph import Array, CannotAdopt, Loaded, RunFailed, Value, inputs_of, open_session, outputs_of
from quartet.adopt.labels import labels_of
from quartet.adopt.pixels import with_pixels
from quartet.adopt.preprocessing import Preprocessing
from quartet.adopt.samples import Kind, Samples, read
from quartet.adopt.selection import FLOOR, MINIMUM_OPSET, MOST, Selection, with_selection
from quartet.adopt.yolo import Ambiguous, Head, Layout, layout_of
from service.errors import QuartetError
from service.inference.cards import ListCard
from service.tasks.detection.letterbox import letterbox
from service.tasks.detection.manifest import DetectorManifest, LetterboxInput, Suppression
from service.tasks.images import EncodedImage
from service.tasks.samples import CAT, SMEAR

# As in Ultralytics' prediction, and in that of the repository of YOLOv5.
_CONFIDENCE = 0.25
_IOU: Mapping[Head, float | None] = {"yolov8": 0.7, "yolov5": 0.45, "end2end": None}
# Pictures that are read from a folder.
_PICTURES = 8
# Batches of images in the sizes of detectors take long on a CPU.
_MOST_BATCH = 16
# The network's own names get a prefix, so this one is free for the pixels.
_PREFIX, _INPUT = "network/", "images"
# As for detectors that are trained here: pixels, score, index.
_TOLERANCES = {"boxes": 2.0, "scores": 0.02, "classes": 0.5}
# Photographs that ship with the service, in base64.
_EXAMPLES = (SMEAR, CAT)

Size = tuple[int, int]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `--task detection`."""
    parser.set_defaults(max_batch=_MOST_BATCH)
    parser.add_argument(
        "--labels", metavar="FILE", type=Path,
        help="one label a line, in the order of the network (default: `names` in the file's metadata)",
    )  # fmt: skip
    parser.add_argument(
        "--size", metavar="N|HxW", type=_size,
        help="height and width of the input, where the export leaves them open (default: its `imgsz`)",
    )  # fmt: skip
    parser.add_argument(
        "--confidence", metavar="P", type=_share, default=_CONFIDENCE,
        help=f"the lowest score that counts by default; each request may choose another (default: {_CONFIDENCE})",
    )  # fmt: skip
    parser.add_argument(
        "--iou", metavar="P", type=_share,
        help="boxes of a label that overlap by more count as one object (default: 0.7, or 0.45 for YOLOv5; none "
        "where the export suppresses them itself)",
    )  # fmt: skip
    parser.add_argument("--output", metavar="NAME", help="the output with the boxes, where several may be")
    parser.add_argument(
        "--head", choices=get_args(Head),
        help="how that output lists boxes, where its shape and values do not tell: yolov8 (4 + labels values a box), "
        "yolov5 (5 + labels), end2end (6)",
    )  # fmt: skip


def propose(loaded: Loaded, options: argparse.Namespace) -> Proposal:
    """Composes a graph from uint8 pixels to the best boxes.

    Raises:
        CannotAdopt: the graph is no YOLO detector as exporters write them, or the labels do not fit it.
    """
    metadata = loaded.source.metadata
    _check_export(loaded)
    labels, origin = labels_of(options.labels, metadata)
    value = _image_input(loaded.model)
    size = _frame(value, options.size, metadata)
    network = _sized(loaded.model, size)
    samples = _samples(*_pictures(options.samples, size), value)
    found = _find_boxes(network, value, samples, size, len(labels), options)
    iou = _IOU[found.layout.head] if options.iou is None else options.iou
    selection = Selection(iou, class_agnostic=bool(_arguments(metadata).get("agnostic_nms")))
    with_images = with_pixels(compose.add_prefix(network, _PREFIX), _preparation(size, value.dtype))
    model = with_selection(with_images, _PREFIX + found.output, found.layout, found.answers.shape, size, selection)
    # What the export fixes, the comparison of answers opens.
    model.graph.input[0].type.tensor_type.shape.dim[0].CopyFrom(network.graph.input[0].type.tensor_type.shape.dim[0])
    suppression = Suppression(
        iou=_own_iou(network) if iou is None else iou,
        floor=FLOOR,
        max_detections=min(MOST, found.layout.boxes(found.answers)),
        class_agnostic=selection.class_agnostic,
        best_class=found.layout.head != "end2end",
    )
    more = {
        "labels": labels,
        "image": LetterboxInput(height=size[0], width=size[1], antialias=False),
        "suppression": suppression,
        "confidence": options.confidence,
    }
    return Proposal(
        loaded.changed(model, *_lines(size, found, selection, origin)),
        samples,
        lambda common: DetectorManifest(**{**common, **more}),
        rows=True,
        lists=_lists(options.confidence, found),
        sections=(_section(options.confidence, labels, found, suppression),),
        call="curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' "
        f"'localhost:8000/v1/detect?model={options.name}'",
    )


DETECTION = AdoptTask("a YOLO detector, at /v1/detect", add_options, propose)


class Found(NamedTuple):
    """The output of a network that lists its boxes.

    Attributes:
        output: its name.
        layout: how it lists them.
        answers: for the samples; the first axis is the image.
    """

    output: str
    layout: Layout
    answers: Array


def _preparation(size: Size, dtype: str) -> Preprocessing:
    """Planes of red, green and blue between 0 and 1. The service scales the images."""
    return Preprocessing(
        height=size[0],
        width=size[1],
        channels=3,
        resize="image",
        crop=1.0,
        interpolation="bilinear",
        mean=(0.0,),
        std=(255.0,),
        layout="nchw",
        bgr=False,
        dtype=dtype,
    )


def _check_export(loaded: Loaded) -> None:
    task = loaded.source.metadata.get("task", "detect")
    if task != "detect":
        raise CannotAdopt(
            "no boxes",
            f"The export is for the task {task!r}; /v1/detect needs a detector. Without --task it is served as plain "
            "tensors.",
        )
    if loaded.source.opsets.get("", MINIMUM_OPSET) < MINIMUM_OPSET:
        raise CannotAdopt(
            "opset", f"The suppression of boxes needs opset {MINIMUM_OPSET} or later: export with opset=17."
        )


def _find_boxes(
    network: ModelProto, value: Value, samples: Samples, size: Size, labels: int, options: argparse.Namespace
) -> Found:
    """The output that lists boxes, by its shape and its values."""
    named = {
        each.name: answers for each, answers in zip(outputs_of(network), _answers(network, value, samples), strict=True)
    }
    if options.output is not None:
        if options.output not in named:
            raise CannotAdopt(
                "no boxes", f"--output: the graph has no output {options.output!r}; it has {', '.join(named)}."
            )
        named = {options.output: named[options.output]}
    fitting, reasons = [], []
    for name, answers in named.items():
        try:
            fitting.append(Found(name, layout_of(answers, size, labels, options.head), answers))
        except Ambiguous as error:
            raise CannotAdopt(
                "layout", f"The output {name!r} may list boxes as {error}: say which with --head."
            ) from None
        except ValueError as error:
            reasons.append(f"{name}: {error}")
    if not fitting:
        raise CannotAdopt(
            "no boxes",
            f"No output lists boxes as YOLO does, with {labels} labels ({'; '.join(reasons)}). Check --labels; without "
            "--task plain tensors are served.",
        )
    if len(fitting) > 1:
        names = ", ".join(found.output for found in fitting)
        raise CannotAdopt("layout", f"Several outputs list boxes ({names}): choose one with --output.")
    return fitting[0]


def _answers(network: ModelProto, value: Value, samples: Samples) -> list[Array]:
    """The network's outputs for all samples; the first axis of lists of boxes is the image."""
    session = open_session(network, "model.onnx")
    calls = []
    for call in samples.calls:
        planes = (call[_INPUT].transpose(0, 3, 1, 2) / np.float32(255)).astype(value.dtype)
        try:
            calls.append(session.run({value.name: planes}))
        except RunFailed as error:
            raise CannotAdopt(
                "size",
                f"The network fails with images of {planes.shape[3]} x {planes.shape[2]}: give the --size that it was "
                f"trained with, a multiple of 32. ONNX Runtime says: {error}",
            ) from None
    outputs = zip(*calls, strict=True)
    # Other outputs may have any shape.
    return [
        np.concatenate(arrays) if len({each.shape[1:] for each in arrays if each.ndim}) == 1 else arrays[0]
        for arrays in outputs
    ]


def _image_input(model: ModelProto) -> Value:
    """The only input, floats of shape (batch, 3, height, width)."""
    values = inputs_of(model)
    shape = values[0].shape or ()
    if len(values) > 1 or len(shape) != 4 or values[0].dtype not in ("float32", "float16"):
        stated = ", ".join(f"{each.name}: {each.dtype} {list(each.shape or ())}" for each in values)
        raise CannotAdopt(
            "no images", f"A YOLO export has one input of floats [batch, 3, height, width]; this graph has {stated}."
        )
    if shape[1] != 3:
        raise CannotAdopt(
            "no images",
            f"The input {values[0].name!r} has the shape {list(shape)}; the 3 channels have to be "
            "the second axis: export to ONNX from PyTorch, without a change of the layout.",
        )
    return values[0]


def _frame(value: Value, given: Size | None, metadata: Mapping[str, str]) -> Size:
    """Height and width of the input: what the graph fixes, what is given, or what the exporter noted."""
    fixed = (value.shape or ())[2:]
    if all(isinstance(side, int) for side in fixed):
        size = (int(fixed[0]), int(fixed[1]))
        if given not in (None, size):
            raise CannotAdopt(
                "size",
                f"--size: the graph fixes its input at {size[0]}x{size[1]}: leave it out, or export with dynamic=True.",
            )
        return size
    if given is not None:
        return given
    try:
        return _size("x".join(map(str, ast.literal_eval(metadata.get("imgsz", "")))))
    except (ValueError, SyntaxError, TypeError, argparse.ArgumentTypeError):
        raise CannotAdopt("size", f"Height and width of the input {value.name!r} are open: give --size.") from None


def _sized(model: ModelProto, size: Size) -> ModelProto:
    """A copy whose input has this height and width."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for axis, side in zip(copy.graph.input[0].type.tensor_type.shape.dim[2:], size, strict=True):
        axis.dim_value = side
    # They were inferred with open axes.
    del copy.graph.value_info[:]
    return copy


def _samples(frames: Array, kind: Kind, value: Value) -> Samples:
    """Calls of as many frames as the input takes; the first ones again where the last call lacks some."""
    batch = value.shape[0] if value.shape and isinstance(value.shape[0], int) else 1
    starts = range(0, len(frames), batch)
    calls = ({_INPUT: frames[np.arange(start, start + batch) % len(frames)]} for start in starts)
    return Samples(tuple(calls), kind)


def _pictures(path: Path | None, size: Size) -> tuple[Array, Kind]:
    """Frames to try the network with, uint8 of shape (images, height, width, 3)."""
    if path is not None and not path.is_dir():
        samples = read(path, [Value(_INPUT, "uint8", (1, *size, 3))])
        return np.concatenate([call[_INPUT] for call in samples.calls]), "given"
    if path is None:
        frames = [_framed(base64.b64decode(example), size) for example in _EXAMPLES]
        # More of them, to tell the images of a batch apart.
        frames += [frame[:, ::-1] for frame in frames] + [frame[::-1] for frame in frames]
        return np.stack(frames), "examples"
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))[:_PICTURES]
    if not files:
        raise CannotAdopt("samples", f"--samples: the folder {path} is empty.")
    frames = []
    for file in files:
        try:
            frames.append(_framed(file.read_bytes(), size))
        except QuartetError as error:
            raise CannotAdopt("samples", f"--samples: {file}: {error}") from None
    return np.stack(frames), "given"


def _framed(data: bytes, size: Size) -> Array:
    return letterbox(EncodedImage.open(data), *size, antialias=False)[0]


def _arguments(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """The options of Ultralytics' export."""
    try:
        arguments = ast.literal_eval(metadata.get("args", "{}"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _own_iou(network: ModelProto) -> float:
    """The threshold of the only suppression in the network; 1 if there is none or it cannot be read."""
    known = {tensor.name: tensor for tensor in network.graph.initializer}
    known |= {node.output[0]: node.attribute[0].t for node in network.graph.node if node.op_type == "Constant"}
    found = {
        float(numpy_helper.to_array(known[node.input[3]]).reshape(-1)[0])
        for node in network.graph.node
        if node.op_type == "NonMaxSuppression" and len(node.input) > 3 and node.input[3] in known
    }
    return round(found.pop(), 6) if len(found) == 1 else 1.0


def _lists(confidence: float, found: Found) -> ListCard:
    """Boxes are compared from the default threshold on, or from half of the best score where none reaches it."""
    best = found.layout.best_score(found.answers)
    above = confidence if best >= confidence else best / 2
    return ListCard(order="scores", above=max(FLOOR, round(above, 4)), tolerances=_TOLERANCES)


def _lines(size: Size, found: Found, selection: Selection, origin: str) -> Iterator[str]:
    """What is done around the network, for people."""
    yield f"images: scaled whole into {size[1]} x {size[0]} (bilinear, not antialiased), the rest 114, by the service"
    yield "pixels: divided by 255; RGB, in the graph"
    best = found.layout.best_score(found.answers)
    yield f"output {found.output}: {found.layout}, by its shape and values; best score in the samples {best:.3g}"
    yield f"labels: from {origin}"
    if selection.iou is None:
        yield "suppression: none added, since the export lists the boxes to keep"
    else:
        which = "all labels" if selection.class_agnostic else "a label"
        yield f"suppression: of boxes of {which} that overlap by more than {selection.iou:g}, in the graph"


def _section(confidence: float, labels: tuple[str, ...], found: Found, suppression: Suppression) -> str:
    """What the model card says of boxes."""
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    return (
        "## Boxes\n\n| | |\n|---|---|\n"
        f"| labels | {len(labels)}: {shown} |\n"
        f"| default threshold | {confidence:g}, chosen at adoption; precision and recall were not measured |\n"
        f"| overlap from which boxes are one object | {suppression.iou:g} |\n"
        f"| boxes of an image, at most | {suppression.max_detections} |\n"
        f"| best score in the golden images | {found.layout.best_score(found.answers):.3g} |"
    )


def _size(text: str) -> Size:
    sides = [int(side) for side in text.split("x")]
    if len(sides) > 2 or not all(0 < side <= 1 << 13 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is neither N nor HEIGHTxWIDTH, up to {1 << 13}")
    return sides[0], sides[-1]


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return share
