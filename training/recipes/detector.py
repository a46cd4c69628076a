"""Object detection: a light one-stage detector on a pretrained backbone, on any data set of boxes.

From the data to a published version, top to bottom: load, build, fit, evaluate, export, report.
"""

import dataclasses
import json
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from service.inference.cards import GoldenCard, ListCard
from service.inference.manifest import GOLDEN, MODEL
from service.inference.manifests.detection import DetectorManifest, DetectorMetrics, LetterboxInput, Suppression
from training.detection.augment import BoxAugment
from training.detection.data import DetectionData, load_detection
from training.detection.evaluate import Detections, average_precision, threshold_curves
from training.detection.graph import OUTPUTS, TRANSLATIONS, DetectorGraph
from training.detection.network import Detector
from training.detection.report import write_report
from training.detection.task import Detection, DetectionSettings, detect
from training.evaluate import milliseconds_per_image
from training.export import (
    data_card,
    deliver,
    export,
    training_card,
    write_golden,
)
from training.fit import FitSettings, FitState, fit
from training.networks import load_backbone
from training.options import (
    add_result_options,
    add_training_options,
    check_name,
    make_accelerator,
    origin,
    override,
    start_from,
    stated,
)

MAX_BATCH = 16
GOLDEN_ROWS = 4
# Detections of nearly the same score may change places, and a GPU's arithmetic is coarser than a CPU's.
GOLDEN_LISTS = ListCard(order="scores", above=0.3, tolerances={"boxes": 2.0, "scores": 0.02, "classes": 0.5})

# A start, sized for a few hundred photographs on two cores.
DEFAULTS = FitSettings(
    epochs=100,
    batch_size=8,
    optimizer="adamw",
    lr=2e-3,
    backbone_lr=5e-4,
    weight_decay=0.05,
    warmup=0.05,
    clip=10.0,
    ema=0.998,
)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What is trained.

    Attributes:
        backbone: a timm model.
        weights: where its pretrained weights come from (`hub`, `package`, `none` or a path).
        width: channels of the pyramid and of the head.
        depth: separable convolutions in each tower of the head.
        freeze: how many groups of the backbone's layers keep their weights (stem, then stages).
    """

    backbone: str = "tf_efficientnet_lite0"
    weights: str = "package"
    width: int = 96
    depth: int = 2
    freeze: int = 2


def build(network: NetworkSettings, data: DetectionData, seed: int) -> Detector:
    """The network, its weights initialised from `seed`."""
    torch.manual_seed(seed)
    backbone = load_backbone(network.backbone, network.weights)
    return Detector(backbone, data.size, len(data.classes), network.width, network.depth, network.freeze)


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take their default."""
    parser.add_argument("--data", default="rishitdagli/cppe-5", help="a hub id, or a folder of annotated images")
    parser.add_argument("--data-name", help="what to call the data set in the report (default: its id or folder)")
    parser.add_argument("--image-size", type=_size, metavar="HEIGHTxWIDTH", help="of the network's input")
    parser.add_argument("--bad-boxes", choices=("refuse", "drop"), default="refuse", help="boxes that cannot be right")
    parser.add_argument("--limit", type=int, help="use at most so many images of each split, for a trial")
    net = parser.add_argument_group("network")
    net.add_argument("--backbone", help="any timm model with feature maps of strides 8, 16 and 32")
    net.add_argument("--weights", help="hub, package, none or a file (default: package)")
    net.add_argument("--width", type=int, help="channels of the pyramid and the head")
    net.add_argument("--depth", type=int, help="convolutions in each tower of the head")
    net.add_argument(
        "--freeze", type=int, metavar="GROUPS", help="keep the stem and the stages after it, so many in all"
    )
    how = add_training_options(parser, "runs/detector-DATA")
    how.add_argument("--flip", action="store_true", default=None, help="images have no up: turn them upside down too")
    how.add_argument("--mosaic", type=float, help="share of the images that are put together from four")
    how.add_argument("--scale", type=_range, metavar="LEAST,MOST", help="how far images are scaled")
    how.add_argument("--colour", type=float, help="how far colours move")
    add_result_options(parser, "detector")


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes where that is asked for."""
    check_name(arguments.name)
    network = override(NetworkSettings(), arguments)
    settings = override(DEFAULTS, arguments)
    learning = DetectionSettings(augment=override(BoxAugment(), arguments))
    data = load_detection(
        arguments.data,
        size=arguments.image_size,
        bad_boxes=arguments.bad_boxes,
        limit=arguments.limit,
        seed=settings.seed,
        console=console,
    )
    data = dataclasses.replace(data, name=arguments.data_name or data.name)
    folder = arguments.run_dir or Path("runs") / f"detector-{data.name.replace('/', '-')}"
    accelerator = make_accelerator(arguments)
    console.print(
        f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test images "
        f"in frames of {data.size[0]}x{data.size[1]}, {len(data.classes)} classes; on {accelerator.device}"
    )
    model = build(network, data, settings.seed)
    start_from(model, arguments.start_from)
    state = fit(
        model,
        Detection(data.train, data.validation, data.classes, learning),
        settings,
        folder,
        accelerator=accelerator,
        console=console,
        resume=arguments.resume,
        origin=origin(arguments, data.fingerprint, network=network, learning=learning),
    )
    if not accelerator.is_main_process:
        return

    # Evaluated as it is served: in float32, on the CPU.
    model = model.cpu().to(memory_format=torch.contiguous_format).eval()
    found = detect(model, data.test, learning)
    name = arguments.name or "detector"
    made_with = stated(arguments, network, settings, learning)

    def write(target: Path) -> DetectorManifest:
        return _write_version(target, name, model, data, network, learning, made_with, state, found, folder)

    deliver(arguments, name, folder / "export", write, console)
    result = json.loads((folder / "result.json").read_text())
    console.print(f"test mAP at 0.5 {result['map_50']:.4f}, at 0.5 to 0.95 {result['map']:.4f}")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise ArgumentTypeError(f"{text!r}: write HEIGHTxWIDTH, such as 384x512")
    return int(match[1]), int(match[2])


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: write LEAST,MOST, such as 0.7,1.4") from None
    return low, high


def _write_version(
    target: Path,
    name: str,
    model: Detector,
    data: DetectionData,
    network: NetworkSettings,
    learning: DetectionSettings,
    made_with: dict[str, Any],
    state: FitState,
    found: list[Detections],
    folder: Path,
) -> DetectorManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty."""
    graph = DetectorGraph(model, learning.iou, learning.floor, learning.max_detections)
    images = data.test.images
    max_batch = min(MAX_BATCH, len(images))
    names: dict[str, Any] = {"input_name": "images", "output_names": OUTPUTS}
    # On one machine's CPU the two agree far better than the golden file must on every device.
    close = ListCard(order="scores", above=0.05, tolerances={"boxes": 0.1, "scores": 1e-3, "classes": 0.5})
    checked = GoldenCard(rows=max_batch, atol=1e-3, lists=close)
    inputs, outputs, difference = export(
        graph, images, target / MODEL, max_batch=max_batch, card=checked, translations=TRANSLATIONS, **names
    )
    rows = min(GOLDEN_ROWS, len(images))
    write_golden(graph, images[:rows], target / GOLDEN, **names)
    precision = average_precision(found, data.test, data.classes)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    height, width = data.size
    manifest = DetectorManifest(
        name=name,
        description=f"{data.name}, {len(data.classes)} classes: one-stage detector on {network.backbone}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=max_batch,
        image=LetterboxInput(height=height, width=width),
        # A small frame may have fewer places than detections are allowed.
        suppression=Suppression(iou=learning.iou, floor=learning.floor, max_detections=outputs[1].shape[1]),
        data=data_card(data),
        metrics=DetectorMetrics(
            map_50=precision.map_50,
            map_75=precision.map_75,
            map=precision.map,
            validation_map=max(state.best_score, 0.0),
            per_class=precision.per_class,
        ),
        curves=threshold_curves(found, data.test, data.classes),
        training=training_card("python -m training detector", made_with, state, model),
        golden=GoldenCard(rows=rows, atol=1e-3, lists=GOLDEN_LISTS),
        files={},
    )
    result = {
        "data": data.name,
        "parameters": parameters,
        "map_50": precision.map_50,
        "map": precision.map,
        "training_seconds": round(state.seconds, 1),
        "ms_batch_1": milliseconds_per_image(target / MODEL, images, 1),
        "ms_batch_max": milliseconds_per_image(target / MODEL, images, max_batch, repeats=5),
        "max_batch": max_batch,
        "onnx_difference": f"{difference.value:.1g} ({difference.output})",
        "history": state.history,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    write_report(target / "report", manifest, found, data, learning.augment, result)
    return manifest
