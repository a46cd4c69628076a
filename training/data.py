"""Image-classification data, from a hub id or a local folder through one door, as arrays in memory."""

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
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from rich.progress import track

from service.errors import QuartetError
from service.tasks.images import EncodedImage, fit

# Photographs of any size are brought to the size that ImageNet backbones are trained at.
DEFAULT_SIZE = 224
_MEMMAP_BYTES = 2 << 30
_PLACE = "quartet: place"
_SAME_BACKGROUND = 0.05
_SPLITS = ("train", "validation", "valid", "val", "test")


class DataError(Exception):
    """The data set cannot be used as it is; the message says what is wrong and where."""


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
    """A data set with its three splits and what identifies it; `carved` names those that were taken from train."""

    name: str
    classes: tuple[str, ...]
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    fingerprint: str
    carved: frozenset[str] = frozenset()

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
        size: the side of the square that images are fitted to; by default they keep their size where all have the
            same small one, else 224.
        validation: the share of train that becomes the validation split where the source has none.
        limit: at most so many training images, and as many test images (stratified), for a trial.
        seed: of the carving.

    Raises:
        DataError: a wrong path, a missing column, an empty class, an unreadable image.
    """
    folder = Path(source).expanduser()
    splits = _open(source)
    image_column, label_column = _columns(source, splits["train"])
    for name in splits:
        splits[name] = splits[name].cast_column(image_column, datasets.Image(decode=False))
    splits = _encode_labels(splits, label_column)
    splits = {
        name: part.add_column(_PLACE, [f"[{name}] row {row}" for row in range(len(part))])
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
                carved = splits["train"].train_test_split(
                    share, seed=seed, stratify_by_column=label_column, load_from_cache_file=False
                )
            except ValueError as error:
                raise DataError(f"{source}: too few training images to carve a {name} split from: {error}") from error
            splits["train"], splits[name] = carved["train"], carved["test"]
    if limit is not None:
        splits = {name: _limit(part, limit, label_column, seed) for name, part in splits.items()}

    channels, height, width = _shape(source, splits["train"], image_column, size)
    digest = hashlib.sha256()
    arrays: dict[str, ImageSplit] = {}
    for name in ("train", "validation", "test"):
        place = f"{source} [{name}]"
        images = _decode(source, place, splits[name], image_column, (height, width, channels), digest)
        labels = np.asarray(splits[name][label_column], dtype=np.int64)
        digest.update(labels.tobytes())
        arrays[name] = ImageSplit(images, labels)
    return ImageData(
        folder.resolve().name if folder.is_dir() else source,
        classes,
        arrays["train"],
        arrays["validation"],
        arrays["test"],
        f"sha256:{digest.hexdigest()}",
        missing,
    )


def common_background(images: npt.NDArray[np.uint8]) -> float | None:
    """The brightness (0 to 1) of the images' edges, if nearly all have the same one; otherwise None.

    Args:
        images: uint8, shape (n, height, width, channels).
    """
    edges = np.concatenate((images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]), axis=1)
    brightness = edges.reshape(len(images), -1).mean(1) / 255
    return round(float(brightness.mean()), 4) if brightness.std() < _SAME_BACKGROUND else None


def _open(source: str) -> dict[str, datasets.Dataset]:
    folder = Path(source).expanduser()
    if source.startswith((".", "/", "~")) and not folder.is_dir():
        raise DataError(f"{source}: no such folder. Give a hub id, or a folder with parquet files or class folders.")
    local = folder.is_dir()
    patterns = _class_folders(folder) if local else {}
    try:
        if patterns:
            loaded = datasets.load_dataset("imagefolder", data_files=patterns)
        else:
            loaded = datasets.load_dataset(str(folder) if local else source)
    except Exception as error:  # the library raises many kinds, from a network failure to a parser's
        raise DataError(f"{source}: cannot be loaded as a data set: {error}") from error
    splits = {("validation" if name in ("valid", "val") else name): part for name, part in loaded.items()}
    if "train" not in splits:
        raise DataError(f"{source}: has no train split, only {', '.join(splits)}.")
    return splits


def _class_folders(folder: Path) -> dict[str, list[str]]:
    """Patterns for the images of each split of a folder that holds a folder per class; empty for another kind.

    The loader alone would take any file or folder whose name has a word like `test` in it for a split.

    Raises:
        DataError: a class folder without a file, which the loader would pass over in silence.
    """
    splits = {name: folder / name for name in _SPLITS if any(path.is_dir() for path in _visible(folder / name))}
    patterns: dict[str, list[str]] = {}
    images = False
    for name, parent in (splits or {"train": folder}).items():
        for child in filter(Path.is_dir, _visible(parent)):
            files = [path for path in child.rglob("*") if path.is_file()]
            if not files:
                raise DataError(f"{child}: the class folder holds no file. Add images or remove the folder.")
            if any(path.name in ImageFolder.METADATA_FILENAMES for path in files):
                return {}
            images = images or any(path.suffix.lower() in ImageFolder.EXTENSIONS for path in files)
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
    return part.select(spread(np.asarray(part[label_column]), limit, seed))


def spread(labels: npt.NDArray[Any], limit: int, seed: int) -> npt.NDArray[np.int64]:
    """The places of so many items, of every class about the same share and at least one, if they are enough for that.

    Args:
        labels: of all items, shape (n,).
        limit: how many are wanted, at most.
        seed: of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    # Each item's place among those of its class, as a share: the lowest are the same share of every class.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members)) / len(members)
    chosen: npt.NDArray[np.int64] = order[np.argsort(rank[order], kind="stable")[:limit]]
    return chosen


def _encode_labels(splits: dict[str, datasets.Dataset], column: str) -> dict[str, datasets.Dataset]:
    """The splits with class labels that mean the same in each."""
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
    """The item's image, decoded as `EncodedImage.decode` is told; an unreadable one is named with its place."""
    image = item[column]
    data = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
    try:
        return EncodedImage.open(data).decode(*decode)
    except QuartetError as error:
        file = f" ({image['path']})" if image["path"] else ""
        raise DataError(f"{source} {item[_PLACE]}{file}: {error.detail}") from error


def _shape(source: str, part: datasets.Dataset, column: str, size: int | None) -> tuple[int, int, int]:
    """Channels, height and width, judged by a sample of the training images."""
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
    source: str, place: str, part: datasets.Dataset, column: str, shape: tuple[int, int, int], digest: "hashlib._Hash"
) -> npt.NDArray[np.uint8]:
    """All images of a split; one too large for memory lies in a nameless file on the disk of the library's cache."""
    height, width, channels = shape
    full = (len(part), *shape)
    images: npt.NDArray[np.uint8]
    if np.prod(full, dtype=np.int64) > _MEMMAP_BYTES:
        cache = Path(datasets.config.HF_DATASETS_CACHE)
        cache.mkdir(parents=True, exist_ok=True)
        # Its space is free again when the process ends, and no other process can write to it.
        with tempfile.TemporaryFile(dir=cache) as file:
            images = np.memmap(file, dtype=np.uint8, mode="w+", shape=full)
    else:
        images = np.empty(full, dtype=np.uint8)
    items: Iterable[dict[str, Any]] = part.select_columns([column, _PLACE])
    for row, item in enumerate(track(items, f"Decoding {place}", total=len(part), transient=True)):
        images[row] = fit(_pixels(source, item, column, channels, 2 * height, 2 * width), height, width)
        digest.update(images[row].tobytes())
    return images
