"""The columns of a table and a target, from whatever people keep tables in, or scikit-learn's own example."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.datasets import load_breast_cancer

from service.tasks.tabular.columns import ColumnCard
from training.data.capacity import check_fits
from training.data.dataset import DataError, Inspection
from training.data.inspection import Bad, Problems, describe_classes, describe_repeats, describe_splits
from training.data.sources import name_of
from training.data.splits import Indices, hold_out, split_validation
from training.data.tables import Table, joined, read_tables
from training.tabular.encoding import (
    Floats,
    Kind,
    Mask,
    classes_in_order,
    describe_columns,
    encode,
    kind_of,
    targets_of,
)
from training.tabular.options import BREAST_CANCER
from training.tabular.profile import Profile, profile

# What a training takes: the columns as they are read and as the splits hold them, standardised for the network, and
# prepared for the methods that it is compared with. 400,000 rows of 20 numbers took 263 bytes a row.
_BYTES_PER_CELL, _BYTES_PER_ROW = 20, 100
# That are hashed at a time.
_ROWS = 100_000


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
    def division(self) -> tuple[Indices, Indices]:
        """The indices of the selection half and of the calibration half of validation."""
        return split_validation(self.validation.targets if self.classes else np.zeros(len(self.validation), np.int64))

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
    limit: int | None = None,
    bad: Bad = "refuse",
    encoding: str | None = None,
    validation: float = 0.15,
    seed: int = 0,
) -> TabularData:
    """Loads a table.

    Args:
        source: as `read_tables` takes it, or `breast-cancer` for scikit-learn's data (Street et al.
            1993).
        target: the column to predict.
        kind: what the target is; by default a number if it is numeric with more than twenty values, a class otherwise.
        columns: the ones to use, even if they look like ids; by default all that may help.
        drop: columns to leave out.
        limit: the most rows of each file or split, drawn at random.
        bad: what to do with rows that cannot be used: those without a target, or with a word where a number should be.
        encoding: of text files; found by default.
        validation: the share of the training rows that chooses the epoch.
        seed: of the splits.

    Raises:
        DataError: a wrong path, no such column, unusable rows, nothing to learn from, or more than fits into memory.
    """
    inspection, problems = Inspection(), Problems()
    if source == BREAST_CANCER:
        tables, target = {"train": _breast_cancer(target or "diagnosis")}, target or "diagnosis"
    else:
        hint = f"Give a table (CSV, xlsx, JSON lines, parquet), a hub id, or {BREAST_CANCER}."
        tables = read_tables(source, hint, inspection, problems, encoding=encoding)
    tables = _splits(source, tables, target, inspection)
    target = _check_names(source, tables["train"], target, columns, drop)
    if limit is not None:
        tables = {name: _sample(part, limit, seed) for name, part in tables.items()}
    table = joined(list(tables.values()))
    width = len(columns) or len(table.columns) - len(drop)
    check_fits(source, "rows", table.rows, _BYTES_PER_ROW + width * _BYTES_PER_CELL)

    found = {name: profile(table, name) for name in table.columns if name not in drop}
    aim = found.pop(target)
    used = _choose(source, found, columns, inspection)
    usable = np.ones(table.rows, dtype=bool)
    kind = kind or kind_of(aim)
    classes, targets = targets_of(source, table, target, aim, kind, problems, usable)
    encoded = [encode(table, card, problems, usable) for card in used]
    problems.settle(source, bad, inspection)

    if kind == "classification" and len(np.unique(targets[usable])) < 2:
        raise DataError(f"{source}: the target {target!r} has 1 value; classification needs two or more.")
    parts = _divide(source, tables, usable, targets if kind == "classification" else None, validation, seed)
    if kind == "classification":
        classes, targets = classes_in_order(source, classes, targets, parts)
    layout, arrays = describe_columns(source, encoded, parts["train"], inspection)
    splits = {name: TabularSplit(_stack(arrays, indices), targets[indices]) for name, indices in parts.items()}

    described = {name: len(part) for name, part in splits.items()}
    describe_splits(inspection, described, [name for name in described if name not in tables], "rows")
    if kind == "classification":
        counts = np.bincount(targets[np.concatenate(list(parts.values()))], minlength=len(classes)).tolist()
        describe_classes(inspection, classes, counts, "rows")
    digests = {
        name: [hashlib.blake2b(row, digest_size=16).digest() for row in part.rows] for name, part in splits.items()
    }
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
    kinds = {
        "number": ("number", "numbers"),
        "boolean": ("yes or no", "yes or no"),
        "category": ("category", "categories"),
        "date": ("date", "dates"),
    }
    parts = []
    for kind, (singular, plural) in kinds.items():
        names = [card.name for card in used if card.kind == kind]
        if names:
            words = singular if len(names) == 1 else plural
            parts.append(f"{len(names)} {words} ({', '.join(names[:8])}{', …' if len(names) > 8 else ''})")
    inspection.notes.append(f"columns: {'; '.join(parts)}")
    return used


def _sample(table: Table, limit: int, seed: int) -> Table:
    """At most so many rows, in their order."""
    if table.rows <= limit:
        return table
    return table.take(np.sort(np.random.default_rng(seed).choice(table.rows, limit, replace=False)))


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


def _stack(arrays: list[Floats], rows: Indices) -> Floats:
    stacked = np.empty((len(rows), len(arrays)), dtype=np.float32)
    for index, values in enumerate(arrays):
        stacked[:, index] = values[rows]
    return stacked


def _fingerprint(splits: dict[str, TabularSplit], parts: dict[str, Indices]) -> str:
    """Of all rows in the order of the table, and of the split that each is in."""
    order = np.argsort(np.concatenate(list(parts.values())), kind="stable")
    rows = np.concatenate([part.rows for part in splits.values()])
    targets = np.concatenate([part.targets for part in splits.values()])
    digest = hashlib.sha256()
    for start in range(0, len(order), _ROWS):
        digest.update(rows[order[start : start + _ROWS]].tobytes())
    digest.update(targets[order].tobytes())
    for indices in parts.values():
        digest.update(np.sort(indices).astype("<i8").tobytes() + b"\0")
    return f"sha256:{digest.hexdigest()}"
