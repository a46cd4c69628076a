"""The columns and the target of a table as numbers."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from service.tasks.tabular.columns import UNKNOWN, ColumnCard, key_of, reader_of
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.splits import Indices
from training.data.tables import Table
from training.tabular.profile import MISSING_WORDS, Profile

Kind = Literal["classification", "regression"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Words beyond so many, and words of a single row, count as unknown.
_MOST_WORDS = 1_000
_FEWEST_ROWS_PER_WORD = 2


def kind_of(aim: Profile) -> Kind:
    """What a target is taken for: numbers of which there are few are classes."""
    numeric = aim.card is not None and aim.card.kind == "number"
    return "regression" if numeric and aim.distinct > 20 else "classification"


def targets_of(
    source: str, table: Table, target: str, aim: Profile, kind: Kind, problems: Problems, usable: Mask
) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """The targets of all rows; classes still in the order in which they occur."""
    if kind == "regression":
        if aim.card is None or aim.card.kind != "number":
            raise DataError(f"{source}: the target {target!r} holds no numbers; use --kind classification.")
        values = encode(table, aim.card, problems, usable).values
        _missing(table, target, np.isnan(values), problems, usable)
        return (), values
    words: dict[str, int] = {}
    spelt: list[str] = []
    indices = np.full(table.rows, -1, dtype=np.int64)
    names = table.classes.get(target)
    for row, value in enumerate(table.values(target)):
        if value is None or value != value:
            continue
        text = names[value] if names and 0 <= value < len(names) else str(value).strip()
        key = key_of(text)
        if not key or key in MISSING_WORDS:
            continue
        if key not in words:
            words[key] = len(spelt)
            spelt.append(text)
        indices[row] = words[key]
    _missing(table, target, indices < 0, problems, usable)
    return tuple(spelt), indices


def _missing(table: Table, target: str, missing: Mask, problems: Problems, usable: Mask) -> None:
    for row in np.flatnonzero(missing & usable):
        problems.add(table.where(int(row)), f"the target {target!r} is missing")
    usable &= ~missing


@dataclass(frozen=True, slots=True)
class Encoded:
    """A column as numbers: values float32, shape (rows,); words, of a category, by index."""

    card: ColumnCard
    values: Floats
    words: tuple[str, ...] = ()


def encode(table: Table, card: ColumnCard, problems: Problems, usable: Mask) -> Encoded:
    """A column as numbers; a row with a value that cannot be read becomes a problem."""
    values = np.empty(table.rows, dtype=np.float32)
    words = _Words(card, table.classes.get(card.name)) if card.kind == "category" else None
    reader = reader_of(card)
    row = 0
    for part in table.parts(card.name):
        end = row + len(part)
        numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
        if card.kind == "number" and any(is_kind(part.type) for is_kind in numeric):
            numbers = part.cast(pa.float64()).to_numpy(zero_copy_only=False)
            values[row:end] = np.where(np.isfinite(numbers), numbers, np.nan)
        else:
            # Each different value is read once.
            coded = part if pa.types.is_dictionary(part.type) else part.dictionary_encode()
            indices = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
            counts = np.bincount(indices, minlength=len(coded.dictionary) + 1)
            read = np.full(len(counts), np.nan, dtype=np.float32)
            wrong: dict[int, str] = {}
            for index, value in enumerate(coded.dictionary.to_pylist()):
                if value is None or value != value:
                    continue
                value = value.strip() if isinstance(value, str) else value
                try:
                    read[index] = words(value, int(counts[index])) if words else reader(_native(value, card))
                except ValueError as error:
                    wrong[index] = str(error).replace("; null stands for a missing one", "")
            values[row:end] = read[indices]
            for offset in np.flatnonzero(np.isin(indices, list(wrong))) if wrong else ():
                if usable[row + offset]:
                    problems.add(table.where(row + int(offset)), f"column {card.name!r}: {wrong[int(indices[offset])]}")
                usable[row + offset] = False
        row = end
    return Encoded(card, values, words.spelt() if words else ())


class _Words:
    """Reads a category: the index of each word in the order in which they occur."""

    def __init__(self, card: ColumnCard, names: tuple[str, ...] | None) -> None:
        self._names = names
        self._missing = frozenset(map(key_of, card.missing_words))
        self._indices: dict[str, int] = {}
        self._spelt: list[Counter[str]] = []

    def __call__(self, value: Any, count: int) -> float:
        text = self._names[value] if self._names and 0 <= value < len(self._names) else str(value)
        key = key_of(text)
        if not key or key in self._missing:
            return math.nan
        index = self._indices.setdefault(key, len(self._spelt))
        if index == len(self._spelt):
            self._spelt.append(Counter())
        self._spelt[index][" ".join(text.split())] += count
        return index

    def spelt(self) -> tuple[str, ...]:
        """The commonest spelling of each word."""
        return tuple(counts.most_common(1)[0][0] for counts in self._spelt)


def _native(value: Any, card: ColumnCard) -> Any:
    """A value of a typed column as its reader takes it: days may be stored as the number 20240131."""
    return str(int(value)) if card.kind == "date" and isinstance(value, int | float) else value


def describe_columns(
    source: str, encoded: list[Encoded], train: Indices, inspection: Inspection
) -> tuple[tuple[ColumnCard, ...], list[Floats]]:
    """The columns with statistics of the training rows, and their numbers; without those that say nothing there."""
    layout, arrays, empty = [], [], []
    for column in encoded:
        values = column.values
        known = values[train]
        known = known[~np.isnan(known)].astype(np.float64)
        about: dict[str, Any] = {"missing": 1 - len(known) / len(train)}
        if column.card.kind == "category":
            about["values"], values = _vocabulary(column, known.astype(np.int64))
        elif len(known):
            about |= {"mean": float(known.mean()), "std": float(known.std())}
            about |= {"low": float(known.min()), "high": float(known.max())}
        if len(known) and about.get("values", True):
            layout.append(column.card.model_copy(update=about))
            arrays.append(values)
        else:
            empty.append(column.card.name)
    if empty:
        inspection.notes.append(f"left out, since too few training rows have a value: {', '.join(map(repr, empty))}")
    if not layout:
        raise DataError(f"{source}: no column has values in the training rows.")
    return tuple(layout), arrays


def _vocabulary(column: Encoded, known: npt.NDArray[np.int64]) -> tuple[tuple[str, ...], Floats]:
    """The words of a category that training rows repeat, the most frequent first, and the column in terms of these.

    The others teach the network what an unknown word means.
    """
    counts = np.bincount(known, minlength=len(column.words))
    order = sorted(range(len(counts)), key=lambda index: (-counts[index], column.words[index]))
    kept = [index for index in order if counts[index] >= _FEWEST_ROWS_PER_WORD][:_MOST_WORDS]
    indices = np.full(len(column.words) + 1, UNKNOWN, dtype=np.float32)
    indices[kept] = np.arange(len(kept))
    missing = np.isnan(column.values)
    values = indices[np.where(missing, -1, column.values).astype(np.int64)]
    values[missing] = np.nan
    return tuple(column.words[index] for index in kept), values


def classes_in_order(
    source: str, classes: tuple[str, ...], targets: npt.NDArray[np.int64], parts: dict[str, Indices]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The classes in ascending order, and the targets in terms of these; none of other splits alone."""
    used = set(np.unique(targets[parts["train"]]).tolist())
    for name, rows in parts.items():
        unknown = sorted({classes[index] for index in set(targets[rows].tolist()) - used})
        if unknown:
            raise DataError(f"{source} [{name}]: no training row is of the class {', '.join(unknown)}.")
    order = sorted(used, key=lambda index: _sorted_by(classes[index]))
    indices = np.full(len(classes) + 1, -1, dtype=np.int64)
    indices[order] = np.arange(len(order))
    return tuple(classes[index] for index in order), indices[targets]


def _sorted_by(word: str) -> tuple[bool, float, str]:
    """Numbers by their value, then words."""
    try:
        return False, float(word), word
    except ValueError:
        return True, 0.0, word
