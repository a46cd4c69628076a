"""Which task a data set is for, by what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import datasets

from training.data import hub
from training.data.dataset import DataError, Inspection
from training.data.image_sources import class_folders, open_images
from training.data.inspection import Problems
from training.data.sources import locate
from training.data.tables import SUFFIXES, Table, read_tables
from training.detection.formats import find_format
from training.detection.formats.tree import Tree
from training.tabular.options import BREAST_CANCER
from training.text.data import find_columns, has_text_folders

_TARGETS = ("target", "label", "class", "y", "outcome", "species", "price", "churn", "survived", "정답", "타깃", "라벨")
_SAMPLE = 500
# Words of a cell from which on it is a text to read rather than a name or a category.
_WORDS = 3


@dataclass(frozen=True, slots=True)
class Recognised:
    """The task that a data set is for.

    Attributes:
        task: the name of its recipe.
        because: what in the data says so.
        options: of the recipe, as far as the data tells them, by the names that they have as arguments.
        sure: whether nothing was guessed: a table does not say which of its columns is to be predicted.
    """

    task: str
    because: str
    options: Mapping[str, str] = field(default_factory=dict)
    sure: bool = True


def recognise(source: str, *, target: str | None = None, encoding: str | None = None) -> Recognised:
    """Finds out which task a data set is for.

    Args:
        source: a hub id, a URL, an archive, a folder or a file, as any recipe takes it.
        target: the column to predict, if the user has said so.
        encoding: of text files; found by default.

    Raises:
        DataError: nothing is there, or nothing that a recipe could learn from.
    """
    if source == BREAST_CANCER:
        return Recognised("tabular", "it is scikit-learn's example")
    path = locate(source, "Give a folder, a file, a URL, an archive, or a hub id.")
    if path is None or (path.is_dir() and any(path.rglob("*.parquet"))):
        loaded = hub.load(source, str(path or source))
        return _by_features(source, next(iter(loaded.values())), target, encoding)
    if path.is_file():
        return _by_table(source, target, encoding)
    tree = Tree(path)
    if found := find_format(tree):
        name, files = found
        return Recognised("detection", f"boxes: {name} in {len(files):,} files")
    if any(True for _ in tree.images()):
        return _of_images(source, path)
    if has_text_folders(path):
        return Recognised("text", "text files in a folder for each class")
    if tree.ending(*SUFFIXES):
        return _by_table(source, target, encoding)
    raise DataError(f"{source}: holds {tree.summary()}, nothing to learn from: {_KNOWN}.")


_KNOWN = "images (in class folders, with boxes, or alone), texts with labels, or a table"


def _of_images(source: str, path: Path) -> Recognised:
    try:
        opened = open_images(source, Inspection(), Problems())
    except DataError:
        if len(class_folders(path).get("train", [])) > 1:
            raise
        return Recognised("autoencoder", "images without labels")
    if len(opened.classes) < 2:
        return Recognised("autoencoder", "images of a single folder, without labels")
    return Recognised("classification", f"images of {len(opened.classes)} classes")


def _by_features(source: str, part: datasets.Dataset, target: str | None, encoding: str | None) -> Recognised:
    images = [name for name, kind in part.features.items() if isinstance(kind, datasets.Image)]
    if not images:
        return _by_table(source, target, encoding)
    if "objects" in part.features:
        return Recognised("detection", "a column of images and one of boxes")
    labels = [
        name
        for name, kind in part.features.items()
        if isinstance(kind, datasets.ClassLabel) or name in ("label", "labels", "class")
    ]
    if labels:
        return Recognised("classification", f"a column of images and one of labels ({labels[0]})")
    return Recognised("autoencoder", "a column of images without labels")


def _by_table(source: str, target: str | None, encoding: str | None) -> Recognised:
    tables = read_tables(source, "Give a file or a folder.", Inspection(), Problems(), encoding=encoding)
    table = tables.get("train") or next(iter(tables.values()))
    if target is not None:  # which says what texts have no use for
        return Recognised("tabular", f"a table of {len(table.columns)} columns", {"target": target})
    try:
        text, label = find_columns(source, table, None, None, Inspection())
    except DataError:
        text = label = ""
    if text and _reads_like_text(table, text):
        return Recognised(
            "text", f"texts in {text!r} with labels in {label!r}", {"text_column": text, "label_column": label}
        )
    usual = {name.lower(): name for name in table.columns}
    guess = next((usual[name] for name in _TARGETS if name in usual), table.columns[-1])
    return Recognised("tabular", f"a table of {len(table.columns)} columns", {"target": guess}, sure=False)


def _reads_like_text(table: Table, column: str) -> bool:
    cells: list[Any] = [value for value in islice(table.values(column), _SAMPLE) if isinstance(value, str) and value]
    if not cells:
        return False
    words = sum(len(cell.split()) for cell in cells) / len(cells)
    return words >= _WORDS and len(set(cells)) > len(cells) / 2
