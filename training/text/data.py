"""Labelled texts, from a hub id or local files through one door."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt

from training.data import DataError, spread

_NAMES = ("train", "validation", "test")
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
    """A data set with its three splits and what identifies it."""

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
            such file, from which the splits are carved.
        text_column: by default the one that is called so, or something like it.
        label_column: likewise.
        validation: the share of train that becomes the validation split where the source has none.
        limit: at most so many texts of each split, for a trial.
        seed: of the carving.

    Raises:
        DataError: a wrong path, a missing column, a text or a label that is missing; names the row.
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
            splits[name], splits["train"] = carve(splits["train"], share, seed)
    if limit is not None:
        splits = {name: part.take(np.sort(spread(part.labels, limit, seed))) for name, part in splits.items()}
    empty = [name for index, name in enumerate(names) if not (splits["train"].labels == index).any()]
    if empty:
        raise DataError(f"{source} [train]: no text of the class {', '.join(empty[:10])}.")
    digest = hashlib.sha256()
    for name in _NAMES:
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


def carve(split: TextSplit, share: float, seed: int) -> tuple[TextSplit, TextSplit]:
    """A share of every class (a class of one stays whole in the rest), and the rest."""
    random = np.random.default_rng(seed)
    taken = np.zeros(len(split), dtype=bool)
    for label in np.unique(split.labels):
        members = random.permutation(np.flatnonzero(split.labels == label))
        count = min(len(members) - 1, round(share * len(members)))
        taken[members[:count]] = True
    if not taken.any():
        raise DataError(f"too few texts ({len(split)}) to carve a split from")
    return split.take(np.flatnonzero(taken)), split.take(np.flatnonzero(~taken))


def _open(source: str) -> dict[str, datasets.Dataset]:
    path = Path(source).expanduser()
    if source.startswith((".", "/", "~")) and not path.exists():
        raise DataError(f"{source}: no such file or folder. Give a hub id, a folder, or a CSV or JSON lines file.")
    try:
        if path.is_file():
            kind = {".csv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}.get(path.suffix)
            if kind is None:
                raise DataError(f"{source}: ends in {path.suffix!r}; .csv, .jsonl and .parquet are read.")
            loaded = datasets.load_dataset(kind, data_files=str(path))
        else:
            loaded = datasets.load_dataset(str(path) if path.is_dir() else source)
    except DataError:
        raise
    except Exception as error:  # the library raises many kinds, from a network failure to a parser's
        raise DataError(f"{source}: cannot be loaded as a data set: {error}") from error
    splits = {("validation" if name in ("valid", "val") else name): part for name, part in loaded.items()}
    if "train" not in splits:
        raise DataError(f"{source}: has no train split, only {', '.join(splits)}.")
    # Some sets bring further ones, of texts without labels.
    return {name: part for name, part in splits.items() if name in _NAMES}


def _column(source: str, part: datasets.Dataset, given: str | None, usual: tuple[str, ...], option: str) -> str:
    found = given or next((name for name in usual if name in part.column_names), None)
    if found is None or found not in part.column_names:
        raise DataError(f"{source}: has the columns {', '.join(part.column_names)}: choose one with {option}.")
    return found


def _split(
    place: str, part: datasets.Dataset, text_column: str, label_column: str, lookup: dict[str, int]
) -> TextSplit:
    texts, labels = [], []
    is_index = hasattr(part.features[label_column], "names")
    for row, (text, label) in enumerate(zip(part[text_column], part[label_column], strict=True)):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{place} row {row}: the text is missing.")
        index = label if is_index else lookup.get(str(label))
        if label is None or index is None or not 0 <= index < len(lookup):
            raise DataError(f"{place} row {row}: the label {label!r} is none of the classes.")
        texts.append(text)
        labels.append(index)
    counts = Counter(labels)
    if not counts:
        raise DataError(f"{place}: holds no text.")
    return TextSplit(tuple(texts), np.array(labels, dtype=np.int64))
