"""How much memory a training takes whose images would not fit into it.

Makes class folders of as many JPEG files as asked for, or parquet with the same, and trains a small classifier on them
for an epoch, in a process that may not allocate more than --limit (RLIMIT_DATA). Loaded whole, the images alone would
take more than that. Prints what they would take, and the most that the process did take.

The files of a folder are hard links to a few hundred pictures; everything is decoded all the same.
"""

import argparse
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

_PICTURES = 400
_CLASSES = ("dark", "light")
_GB = 1e9


def main() -> None:
    """Makes the data, trains, prints a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=128, help="of the images in pixels")
    parser.add_argument("--limit", type=float, default=4.0, help="what the process may allocate, in GB")
    parser.add_argument("--parquet", action="store_true", help="parquet instead of folders")
    parser.add_argument("--folder", type=Path, help="where the data is made (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        data = folder / "data"
        started = time.perf_counter()
        (_write_parquet if arguments.parquet else _write_folders)(data, arguments.images, arguments.side)
        made = time.perf_counter() - started
        on_disk = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
        taken, seconds = _train(data, folder, int(arguments.limit * _GB))
    decoded = arguments.images * arguments.side**2 * 3
    print(
        f"{arguments.images:,} images of {arguments.side} pixels in {'parquet' if arguments.parquet else 'folders'} "
        f"({on_disk / _GB:.1f} GB, decoded {decoded / _GB:.1f} GB; made in {made:.0f} s): trained in {seconds:.0f} s, "
        f"allocated at most {taken / _GB:.2f} GB"
    )


def _pictures(side: int) -> list[tuple[str, bytes]]:
    random = np.random.default_rng(0)
    pictures = []
    for number in range(_PICTURES):
        label = number % len(_CLASSES)
        pixels = random.normal(80 + 90 * label, 40, (side, side, 3)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        pictures.append((_CLASSES[label], file.getvalue()))
    return pictures


def _write_folders(folder: Path, images: int, side: int) -> None:
    pictures = _pictures(side)
    originals = folder.parent / "originals"
    originals.mkdir()
    for label in _CLASSES:
        (folder / label).mkdir(parents=True)
    for number, (_, content) in enumerate(pictures):
        (originals / f"{number}.jpg").write_bytes(content)
    for image in range(images):
        number = image % _PICTURES
        os.link(originals / f"{number}.jpg", folder / pictures[number][0] / f"{image}.jpg")


def _write_parquet(folder: Path, images: int, side: int) -> None:
    pictures = _pictures(side)
    folder.mkdir(parents=True)
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.string())])
    with pq.ParquetWriter(folder / "train.parquet", schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, images, 1000):
            some = [pictures[number % _PICTURES] for number in range(start, min(images, start + 1000))]
            rows = {
                "image": [{"bytes": content, "path": f"{number}.jpg"} for number, (_, content) in enumerate(some)],
                "label": [label for label, _ in some],
            }
            writer.write_table(pa.table(rows, schema=schema))


def _train(data: Path, folder: Path, limit: int) -> tuple[int, float]:
    """The most bytes that the training allocated, and the seconds that it took."""
    options = ["--arch", "cnn", "--widths", "8,8", "--depth", "1", "--epochs", "1", "--device", "cpu"]
    command = [sys.executable, "-m", "training", "classification", "--data", str(data), *options]
    environment = os.environ | {"HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "2"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--run-dir", str(folder / "run")],
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    most = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if "RssAnon" in fields:
            most = max(most, 1024 * (int(fields["RssAnon"].split()[0]) + int(fields["RssShmem"].split()[0])))
        time.sleep(0.05)
    if process.wait():
        shutil.rmtree(data, ignore_errors=True)
        sys.exit(f"the training failed with {process.returncode}")
    return most, time.perf_counter() - started


if __name__ == "__main__":
    main()
