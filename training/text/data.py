"""Labelled texts, from a hub id or local files."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt

from training.data import DataError, stratified_sample
from training.hub import SPLITS, load_file_or_hub, standard_splits

_TEXT_COLUMNS = ("text", "content", "sentence", "document", "review", "title")
_LABEL_COLUMNS = ("label", "labels", "class", "topic", "category")


@dataclass(frozen=True, slots=True)
class TextSplit:
    """texts: as they were written; labels: int64, shape (n,)."""

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "TextSplit":
        """The items at `indices`, in that order."""
        return TextSplit(tuple(self.texts[index] for index in indices), self.labels[indices])


@dataclass(frozen=True, slots=True)
class TextData:
    """A data set with its three splits and its fingerprint."""

    name: str
    classes: tuple[str, ...]
    train: TextSplit
    validation: TextSplit
    test: TextSplit
    fingerprint: str


def load_texts(
    source: str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    validation: float = 0.1,
    limit: int | None = None,
    seed: int = 0,
) -> TextData:
    """Loads a data set of labelled texts.

    Args:
        source: a hub id; a folder with parquet, CSV or JSON lines, one file a split (`train.csv`, `test.csv`); or one
            such file, which is divided into splits.
        text_column: by default the one with a usual name.
        label_column: likewise.
        validation: the fraction of train that becomes the validation split if the source has none.
        limit: the most texts of each split, for a trial.
        seed: of the splits that are held out from train.

    Raises:
        DataError: a wrong path, a missing column, a text or a label that is missing; the message names the row.
    """
    loaded = _open(source)
    first = next(iter(loaded.values()))
    text_column = _column(source, first, text_column, _TEXT_COLUMNS, "--text-column")
    label_column = _column(source, first, label_column, _LABEL_COLUMNS, "--label-column")
    names = getattr(first.features[label_column], "names", None)
    if names is None:
        values = {str(value) for part in loaded.values() for value in part[label_column] if value is not None}
        names = sorted(values)
    lookup = {name: index for index, name in enumerate(names)}
    splits = {
        name: _split(f"{source} [{name}]", part, text_column, label_column, lookup) for name, part in loaded.items()
    }
    if len(names) < 2:
        raise DataError(f"{source}: has {len(names)} class; classification needs two or more.")
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    for name, share in (("test", 0.2), ("validation", validation)):
        if name not in splits:
            splits[name], splits["train"] = hold_out(splits["train"], share, seed)
    if limit is not None:
        splits = {
            name: part.take(np.sort(stratified_sample(part.labels, limit, seed))) for name, part in splits.items()
        }
    empty = [name for index, name in enumerate(names) if not (splits["train"].labels == index).any()]
    if empty:
        raise DataError(f"{source} [train]: no text of the class {', '.join(empty[:10])}.")
    digest = hashlib.sha256()
    for name in SPLITS:
        for text in splits[name].texts:
            digest.update(text.encode() + b"\0")
        digest.update(splits[name].labels.tobytes())
    path = Path(source).expanduser()
    return TextData(
        path.resolve().stem if path.exists() else source,
        tuple(names),
        splits["train"],
        splits["validation"],
        splits["test"],
        f"sha256:{digest.hexdigest()}",
    )


def hold_out(split: TextSplit, share: float, seed: int) -> tuple[TextSplit, TextSplit]:
    """Divides a split into a fraction of every class and the rest; a class with a single text stays in the rest."""
    random = np.random.default_rng(seed)
    taken = np.zeros(len(split), dtype=bool)
    for label in np.unique(split.labels):
        members = random.permutation(np.flatnonzero(split.labels == label))
        count = min(len(members) - 1, round(share * len(members)))
        taken[members[:count]] = True
    if not taken.any():
        raise DataError(f"too few texts ({len(split)}) to hold out a split")
    return split.take(np.flatnonzero(taken)), split.take(np.flatnonzero(~taken))


def _open(source: str) -> dict[str, datasets.Dataset]:
    loaders = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
    loaded = load_file_or_hub(source, "Give a hub id, a folder, or a CSV or JSON lines file.", loaders)
    # Some data sets have further splits, of texts without labels.
    return {name: part for name, part in standard_splits(source, loaded).items() if name in SPLITS}


def _column(source: str, part: datasets.Dataset, given: str | None, usual: tuple[str, ...], option: str) -> str:
    found = given or next((name for name in usual if name in part.column_names), None)
    if found is None or found not in part.column_names:
        raise DataError(f"{source}: has the columns {', '.join(part.column_names)}: choose one with {option}.")
    return found


def _split(
    where: str, part: datasets.Dataset, text_column: str, label_column: str, lookup: dict[str, int]
) -> TextSplit:
    texts, labels = [], []
    is_index = hasattr(part.features[label_column], "names")
    for row, (text, label) in enumerate(zip(part[text_column], part[label_column], strict=True)):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where} row {row}: the text is missing.")
        index = label if is_index else lookup.get(str(label))
        if label is None or index is None or not 0 <= index < len(lookup):
            raise DataError(f"{where} row {row}: the label {label!r} is none of the classes.")
        texts.append(text)
        labels.append(index)
    counts = Counter(labels)
    if not counts:
        raise DataError(f"{where}: holds no text.")
    return TextSplit(tuple(texts), np.array(labels, dtype=np.int64))
