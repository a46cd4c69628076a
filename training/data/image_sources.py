"""Where the images of a data set lie: files in folders, files that a table names, or rows of parquet."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

from training.data import hub
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.sources import is_clutter, locate, name_of
from training.data.tables import DELIMITED, Table, read_file, split_of

_HINT = "Give a hub id, a folder with parquet files or class folders, or an archive of one."
_IMAGE_COLUMNS = ("image", "imageid", "imagename", "imagepath", "filename", "file", "filepath", "path", "img", "id")
_LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "breed", "species")
# What an unlabelled image is called, where a task needs no labels.
UNLABELLED = "image"


@dataclass(frozen=True, slots=True)
class ImageItems:
    """The images of a split, not read yet.

    Attributes:
        read: the bytes of the file at an index of the source.
        where: what to call it in messages.
        indices: into the source, int64, shape (n,).
        labels: int64, shape (n,).
    """

    read: Callable[[int], bytes]
    where: Callable[[int], str]
    indices: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, chosen: npt.NDArray[Any]) -> "ImageItems":
        """The items at some positions."""
        return dataclasses.replace(self, indices=self.indices[chosen], labels=self.labels[chosen])


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The splits of a data set under their usual names, its classes and its name."""

    name: str
    classes: tuple[str, ...]
    splits: dict[str, ImageItems]


def open_images(
    source: str, inspection: Inspection, problems: Problems, *, labelled: bool = True, encoding: str | None = None
) -> ImageSource:
    """Finds the images of a source, without reading them.

    Args:
        source: a hub id, a URL or an archive; or a folder with parquet files, with a folder for each class (optionally
            below `train/`, `validation/`, `test/`), or with a table of file names and labels.
        inspection: gets what was found.
        problems: gets the items that cannot be used.
        labelled: whether labels are needed; otherwise any folder of images will do.
        encoding: of a table.

    Raises:
        DataError: nothing is there, or nothing of the kind.
    """
    folder = locate(source, _HINT, folder=True)
    if folder is None:
        return _of_rows(source, source, hub.load(source, source), labelled)
    if any(folder.rglob("*.parquet")):
        return _of_rows(source, name_of(source), hub.load(source, str(folder)), labelled)
    top = _descend(folder)
    found = _in_class_folders(top, inspection)
    if found is None or len(found[0]) < 2:
        found = _in_a_table(top, inspection, problems, encoding) or found
    if found is not None and len(found[0]) < 2 and not labelled:
        found = None  # a folder of images is no class
    if found is None and any(hub.is_metadata(path) for path in folder.rglob("metadata.*")):
        return _of_rows(source, name_of(source), hub.load(source, str(folder)), labelled)
    if found is None and not labelled:
        found = _without_labels(top)
    if found is None:
        kinds = Counter(path.suffix.lower() for path in folder.rglob("*") if path.is_file())
        listed = ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in kinds.most_common(6))
        raise DataError(f"{source}: holds no class folders of images and no parquet files, but {listed or 'nothing'}.")
    if "train" not in found[1]:
        raise DataError(f"{source}: has no train split, only {', '.join(found[1])}.")
    return ImageSource(name_of(source), *found)


Found = tuple[tuple[str, ...], dict[str, ImageItems]]


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """The class folders of each split, train among them, which has none if there are none.

    Raises:
        DataError: a class folder without a file.
    """
    folder = _descend(folder)
    splits: dict[str, Path] = {}
    for child in filter(Path.is_dir, _visible(folder)):
        split = split_of(child.name) if child.name.isalpha() else None
        if split and any(path.is_dir() for path in _visible(child)):
            splits.setdefault(split, child)
    parents = splits if "train" in splits else {"train": folder}
    found = {name: [path for path in _visible(parent) if path.is_dir()] for name, parent in parents.items()}
    if all(path.name.isalpha() and split_of(path.name) for path in found["train"]):
        return {"train": []}  # folders for each split, but not for each class
    return found


def _in_class_folders(folder: Path, inspection: Inspection) -> Found | None:
    folders = class_folders(folder)
    files: list[str] = []
    labels: dict[str, list[int]] = {}
    starts: dict[str, int] = {}
    classes = sorted({child.name for children in folders.values() for child in children})
    index = {name: number for number, name in enumerate(classes)}
    others = 0
    for split, children in folders.items():
        starts[split] = len(files)
        labels[split] = []
        for child in children:
            before = len(files)
            for path in _files_below(child):
                if hub.is_metadata(Path(path)):
                    return None
                if hub.is_image(Path(path)):
                    files.append(path)
                    labels[split].append(index[child.name])
                else:
                    others += 1
            if len(files) == before and not any(True for _ in _files_below(child)):
                raise DataError(f"{child}: the class folder holds no file. Add images or remove the folder.")
    if not files:
        return None
    if others:
        inspection.notes.append(f"{others:,} files in the class folders are not images: they are not used")
    return tuple(classes), {split: _of_files(files, starts[split], labels[split]) for split in folders}


def _in_a_table(folder: Path, inspection: Inspection, problems: Problems, encoding: str | None) -> Found | None:
    """Images that a table beside them names and labels, one for each split."""
    tables: dict[str, tuple[Table, str, str]] = {}
    for path in _visible(folder):
        if path.suffix.lower() not in (*DELIMITED, ".xlsx") or not path.is_file():
            continue
        try:
            head = read_file(path, Inspection(), Problems(), encoding=encoding, rows=1)
        except DataError:  # a table of something else
            continue
        columns = _columns(head) if head else None
        if columns:
            table = read_file(path, inspection, problems, encoding=encoding)
            if table:
                tables.setdefault(split_of(path.stem) or "train", (table, *columns))
    if not tables:
        return None
    stems: dict[str, str] = {}
    for path_ in _files_below(folder):
        if hub.is_image(Path(path_)):
            relative = os.path.relpath(path_, folder).replace(os.sep, "/").lower()
            for key in (relative, Path(relative).name, str(Path(relative).with_suffix("")), Path(relative).stem):
                stems.setdefault(key, path_)
    words = sorted({str(value) for table, _, label in tables.values() for value in table.values(label) if value})
    index = {word: number for number, word in enumerate(words)}
    files: list[str] = []
    splits = {}
    for split, (table, image, label) in tables.items():
        start, labels = len(files), []
        for row, (name, word) in enumerate(zip(table.values(image), table.values(label), strict=True)):
            path_found = stems.get(str(name).replace("\\", "/").lower()) or stems.get(Path(str(name)).name.lower())
            if path_found is None:
                problems.add(table.where(row), f"the image {name} is not in the folder")
            elif not word:
                problems.add(table.where(row), "the label is missing")
            else:
                files.append(path_found)
                labels.append(index[str(word)])
        splits[split] = (start, labels)
    return tuple(words), {split: _of_files(files, start, labels) for split, (start, labels) in splits.items()}


def _columns(table: Table) -> tuple[str, str] | None:
    names = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in table.columns}
    image = next((names[name] for name in _IMAGE_COLUMNS if name in names), None)
    label = next((names[name] for name in _LABEL_COLUMNS if name in names), None)
    return (image, label) if image and label else None


def _without_labels(folder: Path) -> Found | None:
    """All images of a folder, in splits if its folders are named after them."""
    by_split: dict[str, list[str]] = {}
    for path in _files_below(folder):
        if hub.is_image(Path(path)):
            first = Path(os.path.relpath(path, folder)).parts[0]
            split = split_of(first) if first.isalpha() else None
            by_split.setdefault(split or "train", []).append(path)
    if "train" not in by_split:
        by_split = {"train": [path for paths in by_split.values() for path in paths]} if by_split else {}
    if not by_split:
        return None
    return (UNLABELLED,), {split: _of_files(paths, 0, [0] * len(paths)) for split, paths in by_split.items()}


def _of_files(files: Sequence[str], start: int, labels: Sequence[int]) -> ImageItems:
    return ImageItems(
        lambda index: Path(files[index]).read_bytes(),
        lambda index: files[index],
        start + np.arange(len(labels)),
        np.array(labels, dtype=np.int64),
    )


def _files_below(folder: Path) -> Sequence[str]:
    """All visible files, in order."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_clutter(Path(name)))
        found += [os.path.join(parent, name) for name in sorted(names) if not is_clutter(Path(name))]
    return found


def _descend(folder: Path) -> Path:
    """Into a folder that holds nothing but another folder of folders, as archives do."""
    while True:
        inside = _visible(folder)
        if len(inside) != 1 or not inside[0].is_dir() or not any(path.is_dir() for path in _visible(inside[0])):
            return folder
        folder = inside[0]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_clutter(path)) if folder.is_dir() else []


def _of_rows(source: str, name: str, loaded: dict[str, datasets.Dataset], labelled: bool) -> ImageSource:
    """Parquet, or a data set of the hub: a column of images and one of class labels."""
    splits = hub.standard_splits(source, loaded)
    first = splits["train"]
    images = [column for column, kind in first.features.items() if isinstance(kind, datasets.Image)]
    labels = [column for column, kind in first.features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [column for column in first.column_names if column in ("label", "labels", "class")]
    if not images or (labelled and not labels):
        raise DataError(
            f"{source}: needs a column of images and one of class labels; it has "
            + ", ".join(f"{column} ({type(kind).__name__})" for column, kind in first.features.items())
            + "."
        )
    if not labels:
        zeros = {split: np.zeros(len(part), np.int64) for split, part in splits.items()}
        return ImageSource(
            name, (UNLABELLED,), {s: _of_column(source, s, part, images[0], zeros[s]) for s, part in splits.items()}
        )
    classes, indices = _encode_labels(splits, labels[0])
    for split, part in splits.items():
        wrong = np.flatnonzero((indices[split] < 0) | (indices[split] >= len(classes)))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"{source} [{split}] row {row}: label {part[row][labels[0]]} is none of the {len(classes)} classes."
            )
    return ImageSource(
        name, classes, {s: _of_column(source, s, part, images[0], indices[s]) for s, part in splits.items()}
    )


def _of_column(
    source: str, split: str, part: datasets.Dataset, column: str, labels: npt.NDArray[np.int64]
) -> ImageItems:
    rows = part.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def read(index: int) -> bytes:
        image = rows[index][column]
        return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()

    def where(index: int) -> str:
        path = rows[index][column]["path"]
        return f"{source} [{split}] row {index}" + (f" ({path})" if path else "")

    return ImageItems(read, where, np.arange(len(rows)), labels)


def _encode_labels(
    splits: dict[str, datasets.Dataset], column: str
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    """The classes, the same in every split, and the labels as indices of them; -1 where there is none."""
    kind = splits["train"].features[column]
    if isinstance(kind, datasets.ClassLabel):
        encoded = {
            name: np.array([-1 if label is None else label for label in part[column]], dtype=np.int64)
            for name, part in splits.items()
        }
        return tuple(kind.names), encoded
    values = sorted({value for part in splits.values() for value in part.unique(column)} - {None})
    index = {value: number for number, value in enumerate(values)}
    encoded = {
        name: np.array([index.get(value, -1) for value in part[column]], dtype=np.int64)
        for name, part in splits.items()
    }
    return tuple(map(str, values)), encoded
