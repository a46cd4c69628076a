"""Which task a data set is for, by what is in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import datasets

from training import registry
from training.data import hub
from training.data.dataset import DataError, Inspection
from training.data.image_sources import class_folders, open_images
from training.data.inspection import Problems
from training.data.sources import files_below, kinds_of, locate
from training.data.tables import SUFFIXES, Table, read_tables


@dataclass(frozen=True, slots=True)
class Recognised:
    """The recipe that a data set is for, what in the data shows it, and the recipe's options that follow from the data.

    `sure` is False if something was guessed: a table does not say which of its columns is to be predicted.
    """

    task: str
    because: str
    options: Mapping[str, str] = field(default_factory=dict)
    sure: bool = True


class Source:
    """What recipes look at to recognise data: read once, when the first recipe asks for it."""

    def __init__(self, name: str, *, target: str | None = None, encoding: str | None = None) -> None:
        self.name, self.target, self.encoding = name, target, encoding
        self.example_of = {"breast-cancer": "scikit-learn"}.get(name)
        self.path = None if self.example_of else locate(name, "Give a folder, a file, a URL, an archive, or a hub id.")

    @cached_property
    def folder(self) -> Path | None:
        """A folder of plain files; None for a file, parquet and the hub."""
        return self.path if self.path and self.path.is_dir() and not any(self.path.rglob("*.parquet")) else None

    @cached_property
    def files(self) -> list[str]:
        return files_below(self.folder) if self.folder else []

    @cached_property
    def has_images(self) -> bool:
        return any(map(hub.is_image, self.files))

    @cached_property
    def features(self) -> datasets.Features | None:
        """The columns of parquet and of the hub; None for a file and for a folder of plain files."""
        if self.example_of or self.folder or (self.path and self.path.is_file()):
            return None
        return next(iter(hub.load(self.name, str(self.path or self.name)).values())).features

    @cached_property
    def table(self) -> Table | None:
        """The training rows of a table; None if there are images, or no table."""
        in_column = self.features and hub.image_columns(self.features)[0]
        no_file = self.folder and not any(Path(path).suffix.lower() in SUFFIXES for path in self.files)
        if self.example_of or self.has_images or in_column or no_file:
            return None
        tables = read_tables(self.name, "Give a file or a folder.", Inspection(), Problems(), encoding=self.encoding)
        return tables.get("train") or next(iter(tables.values()))


def recognise(source: str, *, target: str | None = None, encoding: str | None = None) -> Recognised:
    """Finds out which task a data set is for; raises DataError if no recipe could learn from it."""
    seen = Source(source, target=target, encoding=encoding)
    # Recipes from outside this package first: the others take nearly anything.
    for name in sorted(registry.RECIPES, key=lambda name: registry.RECIPES[name].recipe.startswith("training.")):
        if found := registry.recipe(name).recognise(seen):
            return found
    known = "images (in class folders, with boxes, or alone), texts with labels, or a table"
    raise DataError(f"{source}: holds {kinds_of(seen.files)}, nothing to learn from: {known}.")


def of_labelled_images(source: Source) -> Recognised | None:
    """Images of two or more classes; raises DataError if there are class folders, and one of them cannot be used."""
    if source.features and all(columns := hub.image_columns(source.features)):
        return Recognised("classification", f"a column of images and one of labels ({columns[1]})")
    if not source.folder or not source.has_images:
        return None
    try:
        classes, _ = open_images(source.name, Inspection(), Problems(), encoding=source.encoding)
    except DataError:
        if len(class_folders(source.folder)["train"]) > 1:
            raise
        return None
    return Recognised("classification", f"images of {len(classes)} classes") if len(classes) > 1 else None


def of_images(source: Source) -> Recognised | None:
    """Images alone."""
    in_column = source.features and hub.image_columns(source.features)[0]
    found = "images" if source.has_images else "a column of images" if in_column else None
    return Recognised("autoencoder", f"{found} without labels") if found else None
