"""The effect of each optimisation of training steps: images per second with and without it, and their ratio.

Freed memory is reused (training/engine/memory.py); matrices are multiplied in bfloat16; depthwise convolutions have
gradients of their own (training/backbones/gradients.py).

Each measurement runs in its own process, because the allocator can be configured only once; rounds are interleaved.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.results import Recorder, add_json_option

IMAGES = {"mlp": 45_000, "cnn": 4096, "transfer": 1024, "detector": 48}


@dataclass(frozen=True)
class Case:
    """An architecture with its recipe's settings, and the optimisations that are switched on."""

    arch: Literal["mlp", "cnn", "transfer", "detector"]
    keep: bool = True
    precision: Literal["no", "bf16"] = "no"
    fast: bool = False


COMPARISONS = {
    "mlp, freed memory reused": (Case("mlp", keep=False), Case("mlp")),
    "cnn, freed memory reused": (Case("cnn", keep=False), Case("cnn")),
    "transfer, freed memory reused": (Case("transfer", keep=False), Case("transfer")),
    "cnn, bfloat16": (Case("cnn"), Case("cnn", precision="bf16")),
    "transfer, bfloat16": (Case("transfer"), Case("transfer", precision="bf16")),
    "detector, bfloat16": (Case("detector"), Case("detector", precision="bf16")),
    "detector, bfloat16 and gradients": (
        Case("detector", precision="bf16"),
        Case("detector", precision="bf16", fast=True),
    ),
    "transfer, bfloat16 and gradients": (
        Case("transfer", precision="bf16"),
        Case("transfer", precision="bf16", fast=True),
    ),
}


def main() -> None:
    """Runs the comparisons; prints images per second and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="NAME", help="comparisons whose name begins so (default: all)")
    add_json_option(parser)
    parser.add_argument("--one", type=lambda text: Case(**json.loads(text)), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(images_per_second(arguments.one))
        return
    console = Recorder()
    table = Table(title="images per second of training steps; each ratio is the median of those of the rounds")
    for column in ("optimisation", "without", "with", "ratio", "ratios of the rounds"):
        table.add_column(column, justify="left" if column == "optimisation" else "right")
    for name, (before, after) in COMPARISONS.items():
        if not name.startswith(arguments.only):
            continue
        pairs = [(_measure(before), _measure(after)) for _ in range(arguments.rounds)]
        without, with_it = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        table.add_row(name, f"{without:.0f}", f"{with_it:.0f}", f"{statistics.median(ratios):.2f}", spread)
    console.print(table)
    console.write(arguments.json, "benchmarks.training")


def _measure(case: Case) -> float:
    command = [sys.executable, "-m", "benchmarks.training", "--one", json.dumps(asdict(case))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def images_per_second(case: Case) -> float:
    """Images per second of one epoch of training with the recipe's settings, on random images.

    They are of CIFAR-10's size, and photographs of 384 x 512 pixels with twelve boxes for the detector.
    """
    # Imported here: the parent needs no torch.
    import torch
    from accelerate import Accelerator

    from training.backbones.gradients import fast_gradients
    from training.engine.fit import fit
    from training.engine.memory import keep_freed_memory

    if case.keep:
        keep_freed_memory()
    model, task, settings = _detector() if case.arch == "detector" else _classifier(case.arch)
    gradients = fast_gradients(model, torch.device("cpu"), "bfloat16" if case.fast else "")
    with tempfile.TemporaryDirectory() as folder, gradients:
        state = fit(
            model,
            task,
            replace(settings, epochs=1),
            Path(folder),
            accelerator=Accelerator(cpu=True, mixed_precision=case.precision),
            console=Console(quiet=True),
        )
    return state.history[-1]["images_per_second"]


def _classifier(arch: Literal["mlp", "cnn", "transfer"]) -> tuple[Any, Any, Any]:
    from training.classification.choice import choose
    from training.classification.learner import Classification
    from training.classification.network import build
    from training.classification.options import DEFAULTS, ClassificationOptions, NetworkSettings
    from training.classification.recipe import learning_settings
    from training.data.images import ImageData, ImageSplit

    random = np.random.default_rng(0)
    count = IMAGES[arch]
    train = ImageSplit(random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), np.arange(count) % 10)
    few = ImageSplit(train.images[:64], train.labels[:64])
    data = ImageData("random", tuple("abcdefghij"), train, few, few, "")
    # At the image size of its last epochs.
    options, _ = choose(ClassificationOptions(network=NetworkSettings(arch=arch, start_size=0)), data)
    model = build(options.network, data, 0)
    task = Classification(train, few, learning_settings(options, data, 1))
    return model, task, DEFAULTS[arch]


def _detector() -> tuple[Any, Any, Any]:
    from service.tasks.detection.letterbox import Letterbox
    from training.detection.data import DetectionSplit
    from training.detection.learner import DetectionLearner, DetectionSettings
    from training.detection.network import build
    from training.detection.options import DEFAULTS, NetworkSettings

    random = np.random.default_rng(0)
    size, classes = (384, 512), ("a", "b", "c")

    def split(count: int) -> DetectionSplit:
        corners = random.integers(0, 300, (count, 12, 2))
        boxes = np.concatenate((corners, corners + random.integers(20, 80, (count, 12, 2))), 2)
        return DetectionSplit(
            random.integers(0, 256, (count, *size, 3), dtype=np.uint8),
            tuple(boxes.astype(np.float32)),
            tuple(random.integers(0, len(classes), (count, 12))),
            (Letterbox.of(*size, *size),) * count,
            tuple(map(str, range(count))),
        )

    model = build(NetworkSettings(), size, len(classes), 0)
    return model, DetectionLearner(split(IMAGES["detector"]), split(4), classes, DetectionSettings()), DEFAULTS


if __name__ == "__main__":
    main()
