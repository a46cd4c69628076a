"""Images per second of a training that decodes photographs as it goes, by the number of worker processes.

Makes class folders of JPEG photographs, and trains a small CNN on them for two epochs in a process of its own; the
second epoch counts. Rounds are interleaved. The images count as too large for the memory, so that each step decodes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

from benchmarks.results import Recorder, add_json_option

_PICTURES = 60


def main() -> None:
    """Makes the data, trains, prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser)
    parser.add_argument("--one", nargs=2, metavar=("DATA", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_images_per_second(arguments.one[0], int(arguments.one[1]))))
        return
    rates: dict[int, list[float]] = {workers: [] for workers in arguments.workers}
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), arguments.images)
        for _ in range(arguments.rounds):
            for workers, found in rates.items():
                command = [sys.executable, "-m", "benchmarks.loading", "--one", folder, str(workers)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
    console = Recorder()
    table = Table("workers", "images per second (median)", "of the rounds", title="a training that decodes 640 x 480")
    for workers, found in rates.items():
        rounds = ", ".join(f"{rate:.0f}" for rate in found)
        table.add_row(str(workers), f"{statistics.median(found):.0f}", rounds)
    console.print(table)
    console.write(arguments.json, "benchmarks.loading")


def _write(folder: Path, count: int) -> None:
    """A few noisy pictures, and hard links to them."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number >= _PICTURES:
            os.link(path.with_name(f"{number % _PICTURES}.jpg"), path)
            continue
        small = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((640, 480), Image.Resampling.BICUBIC)) + random.normal(0, 6, (480, 640, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def _images_per_second(data: str, workers: int) -> float:
    # Imported here: the parent needs no torch.
    from accelerate import Accelerator
    from rich.console import Console

    from training.classification.learner import Classification
    from training.classification.network import build
    from training.classification.options import ClassificationOptions, NetworkSettings
    from training.classification.recipe import learning_settings
    from training.data import images
    from training.engine.fit import fit
    from training.engine.memory import keep_freed_memory
    from training.engine.settings import FitSettings

    keep_freed_memory()
    vars(images)["IN_MEMORY"] = 0
    loaded = images.load_images(data, size=128)
    options = ClassificationOptions(data=data, network=NetworkSettings(arch="cnn", widths=(16, 32), depth=1))
    learner = Classification(loaded.train, loaded.validation, learning_settings(options, loaded, 1))
    with tempfile.TemporaryDirectory() as folder:
        state = fit(
            build(options.network, loaded, 0),
            learner,
            FitSettings(epochs=2, batch_size=32, lr=0.01),
            Path(folder),
            accelerator=Accelerator(cpu=True),
            console=Console(quiet=True),
            workers=workers,
        )
    return state.history[-1]["images_per_second"]


if __name__ == "__main__":
    main()
