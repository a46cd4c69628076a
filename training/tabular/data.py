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
from training.data.recognise import Recognised, Source
from training.data.sources import name_of
from training.data.splits import Indices, hold_out, split_validation
from training.data.tables import Table, joined, read_tables
from training.parser import did_you_mean
from training.tabular.encoding import Floats, Mask, describe_columns, encode, sort_classes, targets_of
from training.tabular.options import BREAST_CANCER
from training.tabular.profile import Kind, Profile, profile

# What a training takes: the columns as they are read and as the splits hold them, standardised for the network, and
# prepared for the methods that it is compared with. 400,000 rows of 20 numbers took 263 bytes a row.
_BYTES_PER_CELL, _BYTES_PER_ROW = 20, 100
_ROWS_PER_HASH = 100_000
_MOST_NAMED = 8
# Usual names of the column to predict.
_TARGETS = ("target", "label", "class", "y", "outcome", "species", "price", "churn", "survived", "정답", "타깃", "라벨")


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


def recognise_table(source: Source) -> Recognised | None:
    """Whether a source is a table, and the column that is probably to be predicted."""
    if source.example_of:
        return Recognised("tabular", f"it is the example of {source.example_of}")
    if (table := source.table) is None:
        return None
    names = {name.lower(): name for name in table.columns}
    guess = next((names[name] for name in _TARGETS if name in names), table.columns[-1])
    options = {"target": source.target or guess}
    return Recognised("tabular", f"a table of {len(table.columns)} columns", options, sure=source.target is not None)


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
        source: as `read_tables` takes it, or `breast-cancer` for scikit-learn's data (Street et al. 1993).
        target: the column to predict.
        kind: what the target is; by default a number if it is numeric with more than twenty values, a class otherwise.
        columns: the ones to use, even if they look like ids; by default all that may help.
        drop: columns to leave out.
        limit: the most rows of each file or split, drawn at random.
        bad: what to do with rows that cannot be used: those without a target, or with a word where a number should be.
        encoding: of text files; found by default.
        validation: the fraction of the training rows that is held out for validation.
        seed: of the splits.

    Raises:
        DataError: a wrong path, no such column, unusable rows, nothing to learn from, or more than fits into memory.
    """
    inspection, problems = Inspection(), Problems()
    if source == BREAST_CANCER:
        target = target or "diagnosis"
        tables = {"train": _breast_cancer(target)}
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

    profiles = {name: profile(table, name) for name in table.columns if name not in drop}
    of_target = profiles.pop(target)
    used = _choose(source, profiles, columns, inspection)
    usable = np.ones(table.rows, dtype=bool)
    kind = kind or of_target.kind
    words, targets = targets_of(source, table, target, of_target, kind, problems, usable)
    encoded = [encode(table, card, problems, usable) for card in used]
    problems.settle(source, bad, inspection)

    classes: tuple[str, ...] = ()
    if kind == "classification" and len(np.unique(targets[usable])) < 2:
        raise DataError(f"{source}: the target {target!r} has 1 value; classification needs two or more.")
    parts = _divide(source, tables, usable, targets if kind == "classification" else None, validation, seed)
    if kind == "classification":
        classes, targets = sort_classes(source, words, targets, parts)
    layout, rows = describe_columns(source, used, encoded, parts["train"], inspection)
    splits = {name: TabularSplit(rows[indices], targets[indices]) for name, indices in parts.items()}

    sizes = {name: len(part) for name, part in splits.items()}
    describe_splits(inspection, sizes, [name for name in sizes if name not in tables], "rows")
    if classes:
        counts = np.bincount(targets[np.concatenate(list(parts.values()))], minlength=len(classes)).tolist()
        describe_classes(inspection, classes, counts, "rows")
    digests = {
        name: [hashlib.blake2b(row, digest_size=16).digest() for row in part.rows] for name, part in splits.items()
    }
    if len(set().union(*digests.values())) > usable.sum() / 2:  # rows of a few words are bound to repeat
        describe_repeats(inspection, digests, "rows")
    ignored = tuple(name for name in table.columns if name not in {card.name for card in layout})
    return TabularData(
        name_of(source), kind, layout, target, classes, splits["train"], splits["validation"], splits["test"],
        _fingerprint(rows, targets, parts), ignored, inspection,
    )  # fmt: skip


def _breast_cancer(target: str) -> Table:
    bunch: Any = load_breast_cancer()
    values = dict(zip(map(str, bunch.feature_names), bunch.data.T, strict=True))
    values[target] = bunch.target_names[bunch.target]
    return Table(BREAST_CANCER, tuple(values), len(bunch.target), lambda name: iter([pa.array(values[name])]))


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
    known = table.columns
    if target is None or target not in known:
        hint = did_you_mean(target or "", known) or "."
        raise DataError(f"{source}: has the columns {', '.join(known)}: choose the one to predict with --target{hint}")
    if wrong := [name for name in (*columns, *drop) if name not in known]:
        hints = [f" {name}{hint}" for name in wrong if (hint := did_you_mean(name, known))]
        raise DataError(f"{source}: has no column {', '.join(wrong)}; it has {', '.join(known)}.{''.join(hints)}")
    if target in drop:
        raise DataError(f"--drop {target}: is the column to predict.")
    return target


def _choose(
    source: str, profiles: dict[str, Profile], columns: Sequence[str], inspection: Inspection
) -> list[ColumnCard]:
    """The columns to use."""
    used, left = [], []
    for name, column in profiles.items():
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
    plurals = {"number": "numbers", "boolean": "yes or no", "category": "categories", "date": "dates"}
    parts = []
    for kind, plural in plurals.items():
        names = [card.name for card in used if card.kind == kind]
        if names:
            word = kind.replace("boolean", plural) if len(names) == 1 else plural
            parts.append(f"{len(names)} {word} ({', '.join(names[:_MOST_NAMED])}{', …' * (len(names) > _MOST_NAMED)})")
    inspection.notes.append(f"columns: {'; '.join(parts)}")
    return used


def _sample(table: Table, limit: int, seed: int) -> Table:
    """At most `limit` rows, in their order."""
    if table.rows <= limit:
        return table
    return table.take(np.sort(np.random.default_rng(seed).choice(table.rows, limit, replace=False)))


def _divide(
    source: str, tables: dict[str, Table], usable: Mask, classes: Indices | None, validation: float, seed: int
) -> dict[str, Indices]:
    """The rows of each split, as indices into the joined table."""
    parts: dict[str, Indices] = {}
    start = 0
    for name, table in tables.items():
        parts[name] = start + np.flatnonzero(usable[start : start + table.rows])
        start += table.rows
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    for name, fraction in (("test", 0.2), ("validation", validation)):
        if name not in parts:
            rows = parts["train"]
            labels = None if classes is None else classes[rows]
            kept, taken = hold_out(source, name, len(rows), fraction, seed, labels)
            parts["train"], parts[name] = rows[kept], rows[taken]
    if not all(len(rows) for rows in parts.values()):
        raise DataError(f"{source}: too few rows to hold out test and validation rows.")
    return {name: parts[name] for name in ("train", "validation", "test")}


def _fingerprint(rows: Floats, targets: npt.NDArray[Any], parts: dict[str, Indices]) -> str:
    """Of all rows in the order of the table, and of the split that each is in."""
    used = np.sort(np.concatenate(list(parts.values())))
    digest = hashlib.sha256()
    for start in range(0, len(used), _ROWS_PER_HASH):
        digest.update(rows[used[start : start + _ROWS_PER_HASH]].tobytes())
    digest.update(targets[used].tobytes())
    for indices in parts.values():
        digest.update(np.sort(indices).astype("<i8").tobytes() + b"\0")
    return f"sha256:{digest.hexdigest()}"
