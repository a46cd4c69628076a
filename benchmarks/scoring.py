"""Offline scoring against the bare session, and its memory over a million rows.

python -m benchmarks.scoring [--images 4000] [--rounds 3] [--rows 1000000]
"""

import asyncio
import csv
import re
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bare import bare_rate
from benchmarks.options import newest
from benchmarks.serving import BATCHES, as_jpeg
from quartet.offline.scoring.engine import Job
from quartet.offline.scoring.score import score
from service.inference.session import Session
from service.settings import Settings
from service.tasks.registry import read_manifest
from service.tasks.tabular.manifest import TabularManifest


def main() -> None:
    """Prints how fast images are scored, relative to the bare session, and the memory that a million rows take."""
    parser = ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--images", type=int, default=4000, help="scored in each round; 0 for none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the memory's measurement; 0 for none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.images:
            _images(options.models, Path(scratch), options.images, options.rounds)
        if options.rows:
            _rows(options.models, Path(scratch), options.rows)


def _images(models: Path, scratch: Path, count: int, rounds: int) -> None:
    folder = newest(models, "classifier")
    with np.load(folder / "golden.npz") as golden:
        pixels: npt.NDArray[np.uint8] = golden["images"]
    files = [as_jpeg(each) for each in pixels]
    source = scratch / "images.parquet"
    pq.write_table(pa.table({"image": [files[index % len(files)] for index in range(count)]}), source)
    # The graph is the same on both sides: the reference.
    settings = Settings(models=models, device="cpu", variant="reference")
    session = Session(folder / "model.onnx", "cpu")
    ratios, rates = [], []
    for number in range(rounds):
        bare = max(bare_rate(session, pixels, batch, 1.0) for batch in BATCHES)
        output = scratch / f"{number}.parquet"
        summary = asyncio.run(score(Job("classifier"), source, output, settings))
        rates.append(summary.rows / summary.seconds)
        ratios.append(rates[-1] / bare)
    print(
        f"{count} JPEG images of the committed CNN's test set: {statistics.median(rates):.0f} a second, "
        f"{statistics.median(ratios):.2f} of the bare session at its best batch size"
    )


def _rows(models: Path, scratch: Path, count: int) -> None:
    manifest = read_manifest(newest(models, "tabular"))
    if not isinstance(manifest, TabularManifest):
        raise TypeError("the model `tabular` is of another task")
    means = np.array([column.mean for column in manifest.columns])
    random = np.random.default_rng(0)
    source, output = scratch / "rows.csv", scratch / "rows.parquet"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(column.name for column in manifest.columns)
        for start in range(0, count, 10_000):
            size = min(10_000, count - start)
            writer.writerows(np.round(means * random.uniform(0.5, 1.5, (size, len(means))), 4).tolist())
    command = [sys.executable, "-m", "service", "score", "tabular", str(source), str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    peak = 0.0
    while process.poll() is None:
        # Of the process itself: what the system counts for children begins with what their parent has.
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text()):
            peak = int(found[1]) / 1e3
        time.sleep(0.05)
    said = process.stderr.read().splitlines()[-1] if process.stderr else ""
    if process.returncode:
        raise RuntimeError(said)
    print(f"{said.partition(': ')[2]}; at most {peak:.0f} MB resident ({len(means)} columns)")


if __name__ == "__main__":
    main()
