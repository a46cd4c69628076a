"""The columns of a table and a target, from whatever people keep tables in, or scikit-learn's own example."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.datasets import load_breast_cancer

from service.tasks.tabular.columns import UNKNOWN, ColumnCard, key_of, reader_of
from training.data import DataError, Inspection
from training.inspection import Bad, Problems, describe_classes, describe_repeats, describe_splits
from training.sources import name_of
from training.splits import Indices, hold_out
from training.tables import Table, joined, read_tables
from training.tabular.options import BREAST_CANCER
from training.tabular.profile import MISSING_WORDS, Profile, profile

Kind = Literal["classification", "regression"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Words beyond so many, and words of a single row, count as unknown.
_MOST_WORDS = 1_000
_FEWEST_ROWS_PER_WORD = 2


@dataclass(frozen=True, slots=True)
class TabularSplit:
    """Rows with their targets.

    Attributes:
        rows: float32, shape (n, columns); NaN where a value is missing. See `ColumnCard` for what the numbers mean.
        targets: int64 class indices, or float32 values, shape (n,).
    """

    rows: Floats
    targets: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: npt.NDArray[np.int64]) -> "TabularSplit":
        """The rows at `indices`, in that order."""
        return TabularSplit(self.rows[indices], self.targets[indices])


@dataclass(frozen=True, slots=True)
class TabularData:
    """A table with its three splits and its fingerprint; `classes` is empty if the target is a number.

    Attributes:
        layout: the columns in the order of the rows, with statistics of the training rows.
        ignored: the columns that are not used, the target among them.
        inspection: what was found on the way.
    """

    name: str
    kind: Kind
    layout: tuple[ColumnCard, ...]
    target: str
    classes: tuple[str, ...]
    train: TabularSplit
    validation: TabularSplit
    test: TabularSplit
    fingerprint: str
    ignored: tuple[str, ...] = ()
    inspection: Inspection = field(default_factory=Inspection)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(card.name for card in self.layout)


def load_table(
    source: str,
    target: str | None,
    *,
    kind: Kind | None = None,
    columns: Sequence[str] = (),
    drop: Sequence[str] = (),
    bad: Bad = "refuse",
    encoding: str | None = None,
    validation: float = 0.15,
    seed: int = 0,
) -> TabularData:
    """Loads a table.

    Args:
        source: as `training.tables.read_tables` takes it, or `breast-cancer` for scikit-learn's data (Street et al.
            1993).
        target: the column to predict.
        kind: what the target is; by default a number if it is numeric with more than twenty values, a class otherwise.
        columns: the ones to use, even if they look like ids; by default all that may help.
        drop: columns to leave out.
        bad: what to do with rows that cannot be used: those without a target, or with a word where a number should be.
        encoding: of text files; found by default.
        validation: the share of the training rows that chooses the epoch.
        seed: of the splits.

    Raises:
        DataError: a wrong path, no such column, unusable rows, nothing to learn from.
    """
    inspection, problems = Inspection(), Problems()
    if source == BREAST_CANCER:
        tables, target = {"train": _breast_cancer(target or "diagnosis")}, target or "diagnosis"
    else:
        hint = f"Give a table (CSV, xlsx, JSON lines, parquet), a hub id, or {BREAST_CANCER}."
        tables = read_tables(source, hint, inspection, problems, encoding=encoding)
    tables = _splits(source, tables, target, inspection)
    table = joined(list(tables.values()))
    target = _check_names(source, table, target, columns, drop)

    found = {name: profile(table, name) for name in table.columns if name not in drop}
    aim = found.pop(target)
    used = _choose(source, found, columns, inspection)
    usable = np.ones(table.rows, dtype=bool)
    kind = kind or _kind_of(aim)
    classes, targets = _targets(source, table, target, aim, kind, problems, usable)
    encoded = [_encode(table, card, problems, usable) for card in used]
    problems.settle(source, bad, inspection)

    if kind == "classification" and len(np.unique(targets[usable])) < 2:
        raise DataError(f"{source}: the target {target!r} has 1 value; classification needs two or more.")
    parts = _divide(source, tables, usable, targets if kind == "classification" else None, validation, seed)
    if kind == "classification":
        classes, targets = _classes_in_order(source, classes, targets, parts)
    layout, arrays = _describe(source, encoded, parts["train"], inspection)
    splits = {name: TabularSplit(_stack(arrays, indices), targets[indices]) for name, indices in parts.items()}

    described = {name: len(part) for name, part in splits.items()}
    describe_splits(inspection, described, [name for name in described if name not in tables], "rows")
    if kind == "classification":
        counts = np.bincount(targets[np.concatenate(list(parts.values()))], minlength=len(classes)).tolist()
        describe_classes(inspection, classes, counts, "rows")
    digests = {name: [row.tobytes() for row in part.rows] for name, part in splits.items()}
    if len(set().union(*digests.values())) > usable.sum() / 2:  # of a few words, rows are bound to be alike
        describe_repeats(inspection, digests, "rows")
    return TabularData(
        name_of(source),
        kind,
        layout,
        target,
        classes,
        splits["train"],
        splits["validation"],
        splits["test"],
        _fingerprint(splits, parts),
        tuple(name for name in table.columns if name not in {card.name for card in layout}),
        inspection,
    )


def _breast_cancer(target: str) -> Table:
    bunch: Any = load_breast_cancer()
    names = [str(name) for name in bunch.feature_names]
    values = {name: pa.array(bunch.data[:, index]) for index, name in enumerate(names)}
    values[target] = pa.array([str(bunch.target_names[index]) for index in bunch.target])
    return Table(BREAST_CANCER, (*names, target), len(bunch.target), lambda name: iter([values[name]]))


def _splits(source: str, tables: dict[str, Table], target: str | None, inspection: Inspection) -> dict[str, Table]:
    """The tables that can be used: with the columns of the training rows, the target among them."""
    if "train" not in tables:
        tables = {"train": next(iter(tables.values()))}
    columns = set(tables["train"].columns)
    kept: dict[str, Table] = {}
    for name in ("train", "validation", "test"):
        if name not in tables:
            continue
        missing = sorted(columns - set(tables[name].columns))
        if not missing:
            kept[name] = tables[name]
        elif missing == [target]:
            inspection.notes.append(f"{tables[name].name}: has no {target!r}, so nothing can be measured on it")
        else:
            raise DataError(f"{source}: {tables[name].name} lacks the columns {', '.join(missing)}.")
    return kept


def _check_names(source: str, table: Table, target: str | None, columns: Sequence[str], drop: Sequence[str]) -> str:
    """The target; every name that is wrong is an error, all at once."""
    if target is None or target not in table.columns:
        raise DataError(
            f"{source}: has the columns {', '.join(table.columns)}: choose the one to predict with --target."
        )
    wrong = [name for name in (*columns, *drop) if name not in table.columns]
    if wrong:
        raise DataError(f"{source}: has no column {', '.join(wrong)}; it has {', '.join(table.columns)}.")
    if target in drop:
        raise DataError(f"--drop {target}: is the column to predict.")
    return target


def _choose(source: str, found: dict[str, Profile], columns: Sequence[str], inspection: Inspection) -> list[ColumnCard]:
    """The columns to use."""
    used, left = [], []
    for name, column in found.items():
        if columns and name not in columns:
            continue
        if column.card is None or (column.left_out and name not in columns):
            left.append(f"{name!r} {column.left_out}")
        else:
            used.append(column.card)
            if column.remark:
                inspection.notes.append(f"column {name!r}: {column.remark}")
    if left:
        inspection.notes.append(f"left out (--columns overrides it): {'; '.join(left)}")
    if not used:
        more = f": {'; '.join(left)}" if left else ""
        raise DataError(f"{source}: has no column beside the target that can be used{more}.")
    plural = {"number": "numbers", "boolean": "yes or no", "category": "categories", "date": "dates"}
    parts = []
    for kind, words in plural.items():
        names = [card.name for card in used if card.kind == kind]
        if names:
            parts.append(f"{len(names)} {words} ({', '.join(names[:8])}{', …' if len(names) > 8 else ''})")
    inspection.notes.append(f"columns: {'; '.join(parts)}")
    return used


def _kind_of(aim: Profile) -> Kind:
    numeric = aim.card is not None and aim.card.kind == "number"
    return "regression" if numeric and aim.distinct > 20 else "classification"


def _targets(
    source: str, table: Table, target: str, aim: Profile, kind: Kind, problems: Problems, usable: Mask
) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """The targets of all rows; classes still in the order in which they occur."""
    if kind == "regression":
        if aim.card is None or aim.card.kind != "number":
            raise DataError(f"{source}: the target {target!r} holds no numbers; use --kind classification.")
        values = _encode(table, aim.card, problems, usable).values
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
class _Encoded:
    """A column as numbers: values float32, shape (rows,); words, of a category, by index."""

    card: ColumnCard
    values: Floats
    words: tuple[str, ...] = ()


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


def _encode(table: Table, card: ColumnCard, problems: Problems, usable: Mask) -> _Encoded:
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
    return _Encoded(card, values, words.spelt() if words else ())


def _native(value: Any, card: ColumnCard) -> Any:
    """A value of a typed column as its reader takes it: days may be stored as the number 20240131."""
    return str(int(value)) if card.kind == "date" and isinstance(value, int | float) else value


def _divide(
    source: str,
    tables: dict[str, Table],
    usable: Mask,
    classes: npt.NDArray[np.int64] | None,
    validation: float,
    seed: int,
) -> dict[str, Indices]:
    """The rows of each split, as indices into the joined table."""
    parts: dict[str, Indices] = {}
    start = 0
    for name, table in tables.items():
        parts[name] = start + np.flatnonzero(usable[start : start + table.rows])
        start += table.rows
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    for name, share in (("test", 0.2), ("validation", validation)):
        if name not in parts:
            rows = parts["train"]
            labels = None if classes is None else classes[rows]
            kept, taken = hold_out(source, name, len(rows), share, seed, labels)
            parts["train"], parts[name] = rows[kept], rows[taken]
    if not all(len(rows) for rows in parts.values()):
        raise DataError(f"{source}: too few rows to hold out test and validation rows.")
    return {name: parts[name] for name in ("train", "validation", "test")}


def _describe(
    source: str, encoded: list[_Encoded], train: Indices, inspection: Inspection
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


def _vocabulary(column: _Encoded, known: npt.NDArray[np.int64]) -> tuple[tuple[str, ...], Floats]:
    """The words of a category that training rows repeat, the most frequent first, and the column in terms of these.

    The others teach the network what an unknown word means.
    """
    counts = np.bincount(known, minlength=len(column.words))
    order = sorted(range(len(counts)), key=lambda index: (-counts[index], column.words[index]))
    kept = [index for index in order if counts[index] >= _FEWEST_ROWS_PER_WORD][:_MOST_WORDS]
    places = np.full(len(column.words) + 1, UNKNOWN, dtype=np.float32)
    places[kept] = np.arange(len(kept))
    missing = np.isnan(column.values)
    values = places[np.where(missing, -1, column.values).astype(np.int64)]
    values[missing] = np.nan
    return tuple(column.words[index] for index in kept), values


def _classes_in_order(
    source: str, classes: tuple[str, ...], targets: npt.NDArray[np.int64], parts: dict[str, Indices]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The classes in ascending order, and the targets in terms of these; none of other splits alone."""
    used = set(np.unique(targets[parts["train"]]).tolist())
    for name, rows in parts.items():
        unknown = sorted({classes[index] for index in set(targets[rows].tolist()) - used})
        if unknown:
            raise DataError(f"{source} [{name}]: no training row is of the class {', '.join(unknown)}.")
    order = sorted(used, key=lambda index: _sorted_by(classes[index]))
    places = np.full(len(classes) + 1, -1, dtype=np.int64)
    places[order] = np.arange(len(order))
    return tuple(classes[index] for index in order), places[targets]


def _sorted_by(word: str) -> tuple[bool, float, str]:
    """Numbers by their value, then words."""
    try:
        return False, float(word), word
    except ValueError:
        return True, 0.0, word


def _stack(arrays: list[Floats], rows: Indices) -> Floats:
    stacked = np.empty((len(rows), len(arrays)), dtype=np.float32)
    for index, values in enumerate(arrays):
        stacked[:, index] = values[rows]
    return stacked


def _fingerprint(splits: dict[str, TabularSplit], parts: dict[str, Indices]) -> str:
    """Of all rows in the order of the table, whichever split they are in."""
    order = np.argsort(np.concatenate(list(parts.values())), kind="stable")
    rows = np.concatenate([part.rows for part in splits.values()])[order]
    targets = np.concatenate([part.targets for part in splits.values()])[order]
    return f"sha256:{hashlib.sha256(rows.tobytes() + targets.tobytes()).hexdigest()}"
