"""The columns and the target of a table as numbers."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from service.tasks.tabular.columns import UNKNOWN, ColumnCard, key_of, reader_of
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.splits import Indices
from training.data.tables import Table
from training.tabular.profile import MISSING_WORDS, Kind, Profile, class_name, is_numeric

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Further words, and words of a single row, count as unknown.
_MOST_WORDS = 1_000
_FEWEST_ROWS_PER_WORD = 2


def encode(table: Table, card: ColumnCard, problems: Problems, usable: Mask) -> tuple[Floats, list[str]]:
    """A column as numbers.

    Args:
        table: that has it.
        card: how its values are read; the words of a category are found here.
        problems: gets the values that cannot be read.
        usable: of the rows, shape (rows,); those of such values become False.

    Returns:
        float32, shape (rows,), NaN where a value is missing; and for a category its words, which the numbers index.
    """
    spellings: dict[str, Counter[str]] = {}
    indices: dict[str, int] = {}
    missing = {"", *map(key_of, card.missing_words)}
    reader = reader_of(card)

    def read(value: Any, count: int) -> float:
        if card.kind != "category":
            # Typed columns may store dates as numbers such as 20240131.
            return reader(str(int(value)) if card.kind == "date" and isinstance(value, int | float) else value)
        text = class_name(table, card.name, value)
        key = key_of(text)
        if key in missing:
            return math.nan
        spellings.setdefault(key, Counter())[" ".join(text.split())] += count
        return indices.setdefault(key, len(indices))

    columns, start = [np.empty(0, np.float32)], 0
    for part in table.parts(card.name):
        if card.kind == "number" and is_numeric(part.type):
            numbers = part.cast(pa.float64()).to_numpy(zero_copy_only=False)
            columns.append(np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float32))
        else:
            coded = part if pa.types.is_dictionary(part.type) else part.dictionary_encode()
            codes = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
            counts = np.bincount(codes, minlength=len(coded.dictionary) + 1)
            decoded = np.full(len(counts), np.nan, dtype=np.float32)
            for code, value in enumerate(coded.dictionary.to_pylist()):
                if value is None or value != value:
                    continue
                try:
                    decoded[code] = read(value.strip() if isinstance(value, str) else value, int(counts[code]))
                except ValueError as error:
                    reason = str(error).replace("; null stands for a missing one", "")
                    wrong = start + np.flatnonzero(codes == code)
                    _exclude(table, wrong, f"column {card.name!r}: {reason}", problems, usable)
            columns.append(decoded[codes])
        start += len(part)
    return np.concatenate(columns), [spelt.most_common(1)[0][0] for spelt in spellings.values()]


def targets_of(
    source: str, table: Table, target: str, profile: Profile, kind: Kind, problems: Problems, usable: Mask
) -> tuple[list[str], npt.NDArray[Any]]:
    """The classes, in the order in which they occur, and the targets of all rows: int64 indices or float32 values."""
    card = profile.card
    if kind == "classification":
        card = ColumnCard(name=target, kind="category", values=("",), missing_words=tuple(MISSING_WORDS))
    elif card is None or card.kind != "number":
        raise DataError(f"{source}: the target {target!r} holds no numbers; use --kind classification.")
    values, words = encode(table, card, problems, usable)
    _exclude(table, np.flatnonzero(np.isnan(values)), f"the target {target!r} is missing", problems, usable)
    return words, values if kind == "regression" else np.nan_to_num(values, nan=len(words)).astype(np.int64)


def _exclude(table: Table, rows: Indices, reason: str, problems: Problems, usable: Mask) -> None:
    for row in rows[usable[rows]].tolist():
        problems.add(table.where(row), reason)
    usable[rows] = False


def describe_columns(
    source: str, cards: Sequence[ColumnCard], encoded: Sequence[tuple[Floats, list[str]]], train: Indices,
    inspection: Inspection,
) -> tuple[tuple[ColumnCard, ...], Floats]:  # fmt: skip
    """The columns with statistics of the training rows, and their numbers; without those that are empty there.

    Args:
        source: of the table.
        cards: of the columns.
        encoded: the columns, by `encode`.
        train: the indices of the training rows.
        inspection: gets the columns that are left out.

    Returns:
        The cards, and all rows, float32, shape (rows, cards).
    """
    layout, columns, empty = [], [], []
    for card, (values, words) in zip(cards, encoded, strict=True):
        known = values[train][~np.isnan(values[train])].astype(np.float64)
        about: dict[str, Any] = {"missing": 1 - len(known) / len(train)}
        if card.kind == "category":
            # The words of single rows teach the network what an unknown word means.
            counts = np.bincount(known.astype(np.int64), minlength=len(words)).tolist()
            order = sorted(range(len(words)), key=lambda index: (-counts[index], words[index]))
            kept = [index for index in order if counts[index] >= _FEWEST_ROWS_PER_WORD][:_MOST_WORDS]
            about["values"] = tuple(words[index] for index in kept)
            codes = np.nan_to_num(values, nan=len(words)).astype(np.int64)
            values = np.append(_positions(kept, len(words)).astype(np.float32), np.float32(np.nan))[codes]
        elif len(known):
            about |= {"mean": float(known.mean()), "std": float(known.std())}
            about |= {"low": float(known.min()), "high": float(known.max())}
        if len(known) and about.get("values", True):
            layout.append(card.model_copy(update=about))
            columns.append(values)
        else:
            empty.append(card.name)
    if empty:
        inspection.notes.append(f"left out, since too few training rows have a value: {', '.join(map(repr, empty))}")
    if not layout:
        raise DataError(f"{source}: no column has values in the training rows.")
    return tuple(layout), np.stack(columns, axis=1)


def sort_classes(
    source: str, classes: list[str], targets: npt.NDArray[np.int64], parts: dict[str, Indices]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The classes of the training rows in ascending order, and the targets as indices of these.

    Raises:
        DataError: another split has a class that the training rows lack.
    """
    used = np.unique(targets[parts["train"]])
    for name, rows in parts.items():
        if unknown := sorted(classes[index] for index in np.setdiff1d(targets[rows], used)):
            raise DataError(f"{source} [{name}]: no training row is of the class {', '.join(unknown)}.")

    def rank(index: int) -> tuple[bool, float, str]:
        try:
            return False, float(classes[index]), classes[index]
        except ValueError:
            return True, 0.0, classes[index]

    order = sorted(used.tolist(), key=rank)
    return tuple(classes[index] for index in order), np.append(_positions(order, len(classes)), -1)[targets]


def _positions(kept: Sequence[int], count: int) -> npt.NDArray[np.int64]:
    """The position of each of `count` indices in `kept`, or `UNKNOWN`."""
    positions = np.full(count, int(UNKNOWN))
    positions[list(kept)] = np.arange(len(kept))
    return positions
