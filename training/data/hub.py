"""What training takes from the `datasets` library beyond its public interface.

`tests/training/data/test_hub.py` fails if an upgrade changes it.
"""

import logging
import math
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import numpy.typing as npt
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.utils.stratify import stratified_shuffle_split_generate_indices

from training.data.dataset import DataError

SPLITS = ("train", "validation", "test")
ALIASES = {
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "validate": "validation",
    "training": "train",
    "testing": "test",
}
_IMAGE = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


def be_quiet() -> None:
    """Turns off the libraries' own progress bars, hints, and reports of every operator that is not optimised."""
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    logging.getLogger("onnxscript").setLevel(logging.ERROR)


def load(source: str, loader: str, **options: Any) -> dict[str, datasets.Dataset]:
    """The splits that `datasets.load_dataset` gives, validation under its usual name; raises DataError if it fails."""
    try:
        return {ALIASES.get(name, name): part for name, part in datasets.load_dataset(loader, **options).items()}
    except Exception as error:  # the library raises many kinds, from a network failure to a parser's
        raise DataError(f"{source}: cannot be loaded as a data set: {error}") from error


def stratified_split(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The indices that stay and that are held out, as by `Dataset.train_test_split`, which reads labels one by one."""
    taken = math.ceil(fraction * len(labels))
    random = np.random.default_rng(seed)
    return next(stratified_shuffle_split_generate_indices(labels, len(labels) - taken, taken, random))


def image_columns(features: datasets.Features) -> tuple[str | None, str | None]:
    """The column of images and the column of class labels, each None if there is none."""
    # Parquet files that another program wrote lack the type of the column.
    image = next((name for name, kind in features.items() if isinstance(kind, datasets.Image) or kind == _IMAGE), None)
    label = next((name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
    return image, label or next((name for name in features if name in ("label", "labels", "class")), None)


def is_image(path: Path | str) -> bool:
    """Whether the image-folder loader would take a file for an image."""
    return Path(path).suffix.lower() in ImageFolder.EXTENSIONS


def cache_folder() -> Path:
    """Where the library keeps what it has prepared; is made if it does not exist."""
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
