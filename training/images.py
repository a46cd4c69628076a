"""Labelled images from a hub id or a local folder, as arrays in memory: the data of classifiers and autoencoders."""

import glob
import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.errors import QuartetError
from service.tasks.images import EncodedImage, fit
from training import hub
from training.data import DataError, stratified_sample

# Photographs of any size are resized to the size that ImageNet backbones are trained at.
DEFAULT_SIZE = 224
_MEMMAP_BYTES = 2 << 30
# A column of our own: where each image came from, which survives splitting and sampling.
_ORIGIN = "quartet: origin"
_SAME_BACKGROUND = 0.05


@dataclass(frozen=True, slots=True)
class ImageSplit:
    """images: uint8, shape (n, height, width, channels); labels: int64, shape (n,)."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "ImageSplit":
        """The items at `indices`, in that order."""
        return ImageSplit(self.images[indices], self.labels[indices])


@dataclass(frozen=True, slots=True)
class ImageData:
    """A data set with its three splits and its fingerprint; `held_out` names the splits that were taken from train."""

    name: str
    classes: tuple[str, ...]
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    fingerprint: str
    held_out: frozenset[str] = frozenset()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def load_images(
    source: str, *, size: int | None = None, validation: float = 0.1, limit: int | None = None, seed: int = 0
) -> ImageData:
    """Loads a data set of labelled images.

    Args:
        source: a hub id (`uoft-cs/cifar10`), or a local folder with parquet files or with one folder per class
            (optionally below `train/`, `validation/`, `test/`).
        size: the side of the square that images are resized to; by default they keep their size if all have the same
            small one, and become 224 x 224 otherwise.
        validation: the share of train that becomes the validation split if the source has none.
        limit: the most images of each split (stratified), for a trial.
        seed: of the splits that are held out from train.

    Raises:
        DataError: a wrong path, a missing column, an empty class, an unreadable image.
    """
    splits, name_of_set = _open(source)
    image_column, label_column = _columns(source, splits["train"])
    for name in splits:
        splits[name] = splits[name].cast_column(image_column, datasets.Image(decode=False))
    splits = _encode_labels(splits, label_column)
    splits = {
        name: part.add_column(_ORIGIN, [f"[{name}] row {row}" for row in range(len(part))])
        for name, part in splits.items()
    }
    classes = tuple(splits["train"].features[label_column].names)
    _check_classes(source, splits, label_column, classes)

    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    missing = frozenset({"test", "validation"} - splits.keys())
    for name, share in (("test", 0.2), ("validation", validation)):
        if name in missing:
            try:
                divided = splits["train"].train_test_split(
                    share, seed=seed, stratify_by_column=label_column, load_from_cache_file=False
                )
            except ValueError as error:
                raise DataError(f"{source}: too few training images to hold out a {name} split: {error}") from error
            splits["train"], splits[name] = divided["train"], divided["test"]
    if limit is not None:
        splits = {name: _limit(part, limit, label_column, seed) for name, part in splits.items()}

    channels, height, width = _shape(source, splits["train"], image_column, size)
    digest = hashlib.sha256()
    arrays: dict[str, ImageSplit] = {}
    for name in hub.SPLITS:
        images = _decode(source, name, splits[name], image_column, (height, width, channels), digest)
        labels = np.asarray(splits[name][label_column], dtype=np.int64)
        digest.update(labels.tobytes())
        arrays[name] = ImageSplit(images, labels)
    return ImageData(
        name_of_set,
        classes,
        arrays["train"],
        arrays["validation"],
        arrays["test"],
        f"sha256:{digest.hexdigest()}",
        missing,
    )


def common_background(images: npt.NDArray[np.uint8]) -> float | None:
    """The brightness (0 to 1) of the images' edges if it is nearly the same in all of them, otherwise None.

    Args:
        images: uint8, shape (n, height, width, channels).
    """
    edges = np.concatenate((images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]), axis=1)
    brightness = edges.reshape(len(images), -1).mean(1) / 255
    return round(float(brightness.mean()), 4) if brightness.std() < _SAME_BACKGROUND else None


def _open(source: str) -> tuple[dict[str, datasets.Dataset], str]:
    """The splits of a source, and what to call the data set."""
    folder = hub.local_path(source, "Give a hub id, or a folder with parquet files or class folders.", folder=True)
    if folder is None:
        return hub.standard_splits(source, hub.load(source, source)), source
    if patterns := _class_folders(folder):
        loaded = hub.load(source, "imagefolder", data_files=patterns)
    else:
        loaded = hub.load(source, str(folder))
    return hub.standard_splits(source, loaded), folder.resolve().name


def _class_folders(folder: Path) -> dict[str, list[str]]:
    """Glob patterns for the images of each split of a folder with one folder per class; empty for any other folder.

    Left to itself, the loader would take any file or folder with a word like `test` in its name for a split.

    Raises:
        DataError: a class folder without a file, which the loader would skip silently.
    """
    splits = {name: folder / name for name in hub.SPLIT_NAMES if any(path.is_dir() for path in _visible(folder / name))}
    patterns: dict[str, list[str]] = {}
    images = False
    for name, parent in (splits or {"train": folder}).items():
        for child in filter(Path.is_dir, _visible(parent)):
            files = [path for path in child.rglob("*") if path.is_file()]
            if not files:
                raise DataError(f"{child}: the class folder holds no file. Add images or remove the folder.")
            if any(hub.is_metadata(path) for path in files):
                return {}
            images = images or any(hub.is_image(path) for path in files)
            patterns.setdefault(name, []).append(f"{glob.escape(str(child.resolve()))}/**")
    return patterns if images else {}


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _columns(source: str, part: datasets.Dataset) -> tuple[str, str]:
    images = [name for name, kind in part.features.items() if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in part.features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [name for name in part.column_names if name in ("label", "labels", "class")]
    if not images or not labels:
        raise DataError(
            f"{source}: needs a column of images and one of class labels; it has "
            + ", ".join(f"{name} ({type(kind).__name__})" for name, kind in part.features.items())
            + "."
        )
    return images[0], labels[0]


def _check_classes(
    source: str, splits: dict[str, datasets.Dataset], label_column: str, classes: tuple[str, ...]
) -> None:
    for name, part in splits.items():
        counts = Counter(part[label_column])
        missing = [label for index, label in enumerate(classes) if not counts[index]]
        if name == "train" and missing:
            raise DataError(f"{source} [train]: no image of the class {', '.join(missing)}.")
        unknown = [index for index in counts if index is None or not 0 <= index < len(classes)]
        if unknown:
            row = list(part[label_column]).index(unknown[0])
            raise DataError(f"{source} [{name}] row {row}: label {unknown[0]} is none of the {len(classes)} classes.")
    if len(classes) < 2:
        raise DataError(f"{source}: has {len(classes)} class; classification needs two or more.")


def _limit(part: datasets.Dataset, limit: int, label_column: str, seed: int) -> datasets.Dataset:
    if len(part) <= limit:
        return part
    return part.select(stratified_sample(np.asarray(part[label_column]), limit, seed))


def _encode_labels(splits: dict[str, datasets.Dataset], column: str) -> dict[str, datasets.Dataset]:
    """The splits with class labels, the same in every split."""
    if isinstance(splits["train"].features[column], datasets.ClassLabel):
        return splits
    values = sorted({value for part in splits.values() for value in part.unique(column)} - {None})
    index, kind = {value: i for i, value in enumerate(values)}, datasets.ClassLabel(names=[str(v) for v in values])
    return {
        name: part.remove_columns(column)
        .add_column(column, [index.get(value) for value in part[column]])
        .cast_column(column, kind)
        for name, part in splits.items()
    }


def _pixels(source: str, item: dict[str, Any], column: str, *decode: int) -> npt.NDArray[np.uint8]:
    """The item's image, decoded with these arguments of `EncodedImage.decode`; an error says which image it is."""
    image = item[column]
    data = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
    try:
        return EncodedImage.open(data).decode(*decode)
    except QuartetError as error:
        file = f" ({image['path']})" if image["path"] else ""
        raise DataError(f"{source} {item[_ORIGIN]}{file}: {error.detail}") from error


def _shape(source: str, part: datasets.Dataset, column: str, size: int | None) -> tuple[int, int, int]:
    """Channels, height and width of the images, judged by a sample of the training split."""
    rows = range(0, len(part), max(1, len(part) // 64))
    sample = [_pixels(source, part[row], column, 3) for row in rows]
    grey = all(np.ptp(pixels, axis=2).max() == 0 for pixels in sample)
    sizes = {pixels.shape[:2] for pixels in sample}
    if size is not None:
        height = width = size
    elif len(sizes) == 1 and max(next(iter(sizes))) <= DEFAULT_SIZE:
        height, width = sizes.pop()
    else:
        height = width = DEFAULT_SIZE
    return (1 if grey else 3), height, width


def _decode(
    source: str, split: str, part: datasets.Dataset, column: str, shape: tuple[int, int, int], digest: "hashlib._Hash"
) -> npt.NDArray[np.uint8]:
    """All images of a split; those of one too large for memory are kept in an unnamed file in the library's cache."""
    height, width, channels = shape
    full = (len(part), *shape)
    images: npt.NDArray[np.uint8]
    if np.prod(full, dtype=np.int64) > _MEMMAP_BYTES:
        # Its space is freed when the process ends, and no other process can write to it.
        with tempfile.TemporaryFile(dir=hub.cache_folder()) as file:
            images = np.memmap(file, dtype=np.uint8, mode="w+", shape=full)
    else:
        images = np.empty(full, dtype=np.uint8)
    items: Iterable[dict[str, Any]] = part.select_columns([column, _ORIGIN])
    for row, item in enumerate(track(items, f"Decoding {source} [{split}]", total=len(part), transient=True)):
        images[row] = fit(_pixels(source, item, column, channels, 2 * height, 2 * width), height, width)
        digest.update(images[row].tobytes())
    return images
