"""Where the images of a data set are: files in folders, files that a table names, or rows of parquet."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

from training.data import hub
from training.data.contents import file_key
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.sources import files_below, kinds_of, locate, visible
from training.data.tables import DELIMITED, Table, read_file, split_of

_IMAGE_COLUMNS = ("image", "imageid", "imagename", "imagepath", "filename", "file", "filepath", "path", "img", "id")
_LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "breed", "species")
_BESIDE_A_SPLIT = ("data", "dataset", "set", "images", "folder")
# The class of all images where a task needs no labels.
_UNLABELLED = "image"

# The classes, and the path and the class of each image of each split.
Found = tuple[tuple[str, ...], dict[str, list[tuple[str, str]]]]


@dataclass(frozen=True, slots=True)
class Files:
    """Encoded images in files, by index."""

    paths: Sequence[str]

    def read(self, index: int) -> bytes:
        return Path(self.paths[index]).read_bytes()

    def where(self, index: int) -> str:
        return self.paths[index]

    def key(self, index: int) -> bytes | None:
        """Changes whenever the file may have changed; None if there is no such file."""
        return file_key(self.paths[index])


class Rows:
    """Encoded images in a column of parquet or of a data set of the hub, by index; like `Files`."""

    def __init__(self, name: str, part: datasets.Dataset, column: str) -> None:
        self._name, self._column = name, column
        self._rows = part.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        keys = [file_key(file["filename"]) for file in part.cache_files]
        self._key = hashlib.sha256(f"{keys} {column}".encode()).digest() if keys else None

    def read(self, index: int) -> bytes:
        image = self._rows[index][self._column]
        return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()

    def where(self, index: int) -> str:
        path = self._rows[index][self._column]["path"]
        return f"{self._name} row {index}" + (f" ({path})" if path else "")

    def key(self, index: int) -> bytes | None:
        return self._key and self._key + str(index).encode()


@dataclass(frozen=True, slots=True)
class ImageItems:
    """The images of a split, not read yet: their indices in `files` and their labels, int64, shape (n,)."""

    files: Files | Rows
    indices: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, chosen: npt.NDArray[Any]) -> "ImageItems":
        return ImageItems(self.files, self.indices[chosen], self.labels[chosen])


def open_images(
    source: str,
    inspection: Inspection,
    problems: Problems,
    *,
    labelled: bool = True,
    needs_train: bool = True,
    encoding: str | None = None,
) -> tuple[tuple[str, ...], dict[str, ImageItems]]:
    """Finds the classes and the splits of a source of images, without reading the images.

    Without `needs_train` any split will do, and class folders may be empty.

    The source is a hub id, a URL or an archive; or a folder with parquet files, a folder for each class (optionally
    below `train/`, `validation/`, `test/`), a table of file names and labels, or, if not `labelled`, any images.

    Raises:
        DataError: nothing is there, or nothing of the kind.
    """
    hint = "Give a hub id, a folder with parquet files or class folders, or an archive of one."
    folder = locate(source, hint, folder=True)
    if folder is None or any(folder.rglob("*.parquet")):
        return _in_rows(source, hub.load(source, str(folder or source)), labelled, needs_train)
    top = _descend(folder)
    found = _in_class_folders(top, inspection, needs_train)
    if found is None or len(found[0]) < 2:
        found = _in_a_table(top, inspection, problems, encoding) or found
    if not labelled and (found is None or len(found[0]) < 2):  # a folder of images is no class
        found = _without_labels(top)
    if found is None:
        kinds = kinds_of(files_below(folder))
        raise DataError(f"{source}: holds no class folders of images and no parquet files, but {kinds}.")
    classes, splits = found
    if needs_train:
        _check_train(source, splits)
    index = {name: number for number, name in enumerate(classes)}
    items = {}
    for split, images in splits.items():
        labels = np.array([index[label] for _, label in images], dtype=np.int64)
        items[split] = ImageItems(Files([path for path, _ in images]), np.arange(len(images)), labels)
    return classes, items


def class_folders(folder: Path, *, needs_train: bool = True) -> dict[str, list[Path]]:
    """The class folders of each split: `train` alone, perhaps without any, if no folders are named after splits."""
    folder = _descend(folder)
    splits: dict[str, Path] = {}
    for child in filter(Path.is_dir, visible(folder)):
        split = _split_of_folder(child.name)
        if split and any(path.is_dir() for path in visible(child)):
            splits.setdefault(split, child)
    parents = splits if "train" in splits or (splits and not needs_train) else {"train": folder}
    found = {name: list(filter(Path.is_dir, visible(parent))) for name, parent in parents.items()}
    if "train" in found and all(_split_of_folder(path.name) for path in found["train"]):
        return {"train": []}  # folders for each split, but not for each class
    return found


def _in_class_folders(folder: Path, inspection: Inspection, needs_train: bool) -> Found | None:
    folders = class_folders(folder, needs_train=needs_train)
    splits: dict[str, list[tuple[str, str]]] = {split: [] for split in folders}
    others = 0
    for split, child in ((split, child) for split, children in folders.items() for child in children):
        files = files_below(child)
        if not files and needs_train:
            raise DataError(f"{child}: the class folder holds no file. Add images or remove the folder.")
        images = [(path, child.name) for path in files if hub.is_image(path)]
        others += len(files) - len(images)
        splits[split] += images
    if not any(splits.values()):
        return None
    if others:
        inspection.notes.append(f"{others:,} files in the class folders are not images: they are not used")
    return tuple(sorted({child.name for children in folders.values() for child in children})), splits


def _in_a_table(folder: Path, inspection: Inspection, problems: Problems, encoding: str | None) -> Found | None:
    tables: dict[str, tuple[Table, str, str]] = {}
    for path in visible(folder):
        if path.suffix.lower() not in (*DELIMITED, ".xlsx", ".jsonl") or not path.is_file():
            continue
        try:
            columns = read_file(path, Inspection(), Problems(), encoding=encoding, rows=1).columns
        except DataError:  # a table of something else
            continue
        names = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in columns}
        image = next((names[name] for name in _IMAGE_COLUMNS if name in names), None)
        label = next((names[name] for name in _LABEL_COLUMNS if name in names), None)
        if image and label:
            table = read_file(path, inspection, problems, encoding=encoding)
            tables.setdefault(split_of(path.stem) or "train", (table, image, label))
    if not tables:
        return None
    by_name: dict[str, str] = {}
    for file in filter(hub.is_image, files_below(folder)):
        relative = Path(os.path.relpath(file, folder).lower())
        for key in (relative.as_posix(), relative.name, relative.with_suffix("").as_posix(), relative.stem):
            by_name.setdefault(key, file)
    splits: dict[str, list[tuple[str, str]]] = {split: [] for split in tables}
    for split, (table, image, label) in tables.items():
        for row, (name, word) in enumerate(zip(table.values(image), table.values(label), strict=True)):
            wanted = str(name).replace("\\", "/").lower()
            found = by_name.get(wanted) or by_name.get(Path(wanted).name)
            if found is None:
                problems.add(table.where(row), f"the image {name} is not in the folder")
            elif not word:
                problems.add(table.where(row), "the label is missing")
            else:
                splits[split].append((found, str(word)))
    words = {str(value) for table, _, label in tables.values() for value in table.values(label) if value}
    return tuple(sorted(words)), splits


def _without_labels(folder: Path) -> Found | None:
    splits: dict[str, list[tuple[str, str]]] = {}
    for path in filter(hub.is_image, files_below(folder)):
        first = Path(os.path.relpath(path, folder)).parts[0]
        splits.setdefault(_split_of_folder(first) or "train", []).append((path, _UNLABELLED))
    if splits and "train" not in splits:
        splits = {"train": [image for images in splits.values() for image in images]}
    return ((_UNLABELLED,), splits) if splits else None


def _split_of_folder(name: str) -> str | None:
    """The split that a folder is named after, as in `training_set` or `Test Data`; `crash test` is a class."""
    words = re.split(r"[\W_]+", name.lower().strip(" _"))
    return split_of(name) if sum(word not in _BESIDE_A_SPLIT for word in words) == 1 else None


def _descend(folder: Path) -> Path:
    """Into a folder that holds nothing but another folder of folders, as archives do."""
    inside = visible(folder)
    only = len(inside) == 1 and inside[0].is_dir() and any(path.is_dir() for path in visible(inside[0]))
    return _descend(inside[0]) if only else folder


def _in_rows(
    source: str, splits: Mapping[str, datasets.Dataset], labelled: bool, needs_train: bool
) -> tuple[tuple[str, ...], dict[str, ImageItems]]:
    if needs_train:
        _check_train(source, splits)
    features = next(iter(splits.values())).features
    image, label = hub.image_columns(features)
    if not image or (labelled and not label):
        columns = ", ".join(f"{column} ({type(kind).__name__})" for column, kind in features.items())
        raise DataError(f"{source}: needs a column of images and one of class labels; it has {columns}.")
    names: Sequence[Any] = [_UNLABELLED]
    index: dict[Any, int] = {}
    if label and isinstance(features[label], datasets.ClassLabel):
        names = features[label].names
        index = {number: number for number in range(len(names))}
    elif label:
        names = sorted({value for part in splits.values() for value in part.unique(label)} - {None})
        index = {value: number for number, value in enumerate(names)}
    items = {}
    for split, part in splits.items():
        labels = np.array([index.get(value, -1) for value in part[label]] if label else [0] * len(part), dtype=np.int64)
        if len(wrong := np.flatnonzero(labels < 0)):
            named = f"{source} [{split}] row {wrong[0]}: label {part[int(wrong[0])][label]}"
            raise DataError(f"{named} is none of the {len(names)} classes.")
        items[split] = ImageItems(Rows(f"{source} [{split}]", part, image), np.arange(len(part)), labels)
    return tuple(map(str, names)), items


def _check_train(source: str, splits: Mapping[str, Any]) -> None:
    if "train" not in splits:
        raise DataError(f"{source}: has no train split, only {', '.join(splits)}.")
