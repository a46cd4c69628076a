"""How fast training steps are, with freed memory kept (training/memory.py) and without: a ratio per architecture.

Each measurement is a process of its own, since the allocator cannot be told twice; rounds interleave.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

IMAGES = {"mlp": 45_000, "cnn": 4096, "transfer": 1024}


def main() -> None:
    """Runs the comparison and prints images per second and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("ARCH", "KEEP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        arch, keep = arguments.one
        print(images_per_second(arch, keep == "keep"))
        return
    for arch in IMAGES:
        pairs = [(_measure(arch, "return"), _measure(arch, "keep")) for _ in range(arguments.rounds)]
        without, kept = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(after / before for before, after in pairs)
        print(f"{arch}: {without:.0f} images/s, {kept:.0f} with freed memory kept, ratio {ratio:.2f}")


def _measure(arch: str, keep: str) -> float:
    command = [sys.executable, "-m", "benchmarks.training", "--one", arch, keep]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def images_per_second(arch: str, keep: bool) -> float:
    """Of an epoch's training steps at the recipe's settings, on random images of CIFAR-10's size."""
    # Imported here: the parent needs no torch.
    from accelerate import Accelerator

    from training.classification import Classification
    from training.data import ImageData, ImageSplit
    from training.fit import fit
    from training.memory import keep_freed_memory
    from training.recipes.classifier import DEFAULTS, LEARNING, NetworkSettings, build

    if keep:
        keep_freed_memory()
    random = np.random.default_rng(0)
    count = IMAGES[arch]
    train = ImageSplit(random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), np.arange(count) % 10)
    few = ImageSplit(train.images[:64], train.labels[:64])
    data = ImageData("random", tuple("abcdefghij"), train, few, few, "")
    # At the size that its last epochs have.
    network = NetworkSettings(arch=arch, start_size=0)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        state = fit(
            build(network, data, 0),
            Classification(train, few, LEARNING[network.arch]),
            replace(DEFAULTS[network.arch], epochs=1),
            Path(folder),
            accelerator=Accelerator(cpu=True),
            console=Console(quiet=True),
        )
    return state.history[-1]["images_per_second"]


if __name__ == "__main__":
    main()
