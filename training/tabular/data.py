"""Tables with a column to predict, and their splits."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.datasets import load_breast_cancer

from service.tasks.tabular.columns import ColumnCard
from training.data.added import Added
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems, describe_classes, describe_repeats, describe_splits
from training.data.leaks import Clue, warn_of_columns
from training.data.sources import name_of
from training.data.splits import Indices, hold_out, split_validation
from training.data.tables import Table, check_fits, joined, read_tables
from training.options import override
from training.parser import did_you_mean
from training.tabular import columns
from training.tabular.columns import Floats, Mask, Profile
from training.tabular.options import BREAST_CANCER, DEFAULTS, Kind, TabularOptions
from training.tabular.target import check_target, guess_target

_ROWS_PER_HASH = 100_000
_MOST_NAMED = 8
# The code of a missing word; UNKNOWN is -1.
_MISSING = -2


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

    def take(self, indices: Indices) -> "TabularSplit":
        return TabularSplit(self.rows[indices], self.targets[indices])


@dataclass(frozen=True, slots=True)
class TabularData:
    """A table with its three splits; `classes` is empty if the target is a number.

    Attributes:
        layout: the columns in the order of the rows, with statistics of the training rows.
        ignored: the columns that are not used, the target among them.
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
    added: Added | None = None

    @property
    def division(self) -> tuple[Indices, Indices]:
        return split_validation(self.validation.targets if self.classes else np.zeros(len(self.validation), np.int64))

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(card.name for card in self.layout)


def load_table(options: TabularOptions) -> TabularData:
    """Loads the table that `options` name, or scikit-learn's breast-cancer data (Street et al. 1993).

    Raises:
        DataError: a wrong path, no such column, unusable rows, nothing to learn from, or more than fits into memory.
    """
    source, target, inspection, problems = options.data, options.target, Inspection(), Problems()
    seed = override(DEFAULTS, options.fit).seed
    if source == BREAST_CANCER:
        target = target or "diagnosis"
        given = {"train": _breast_cancer(target)}
    else:
        hint = f"Give a table (CSV, xlsx, JSON lines, parquet), a hub id, or {BREAST_CANCER}."
        given = read_tables(source, hint, inspection, problems, encoding=options.encoding)
    given = _usable_splits(source, given, target, inspection)
    names = given["train"].columns
    target = target or guess_target(source, given["train"])
    _check_names(options, names, target)
    if options.limit is not None:
        given = {name: _sample(part, options.limit, seed) for name, part in given.items()}
    table = joined(list(given.values()))
    # A training of 400,000 rows of 20 numbers took 263 bytes a row, the methods that it is compared with included.
    check_fits(source, "rows", table.rows, 100 + 20 * (len(options.columns) or len(names) - len(options.drop)))

    profiles = {name: columns.profile(table, name) for name in names if name not in options.drop}
    of_target = profiles.pop(target)
    used = _choose(source, profiles, options.columns, inspection)
    usable = np.ones(table.rows, dtype=bool)

    def exclude(rows: Indices, reason: str) -> None:
        for row in rows[usable[rows]].tolist():
            problems.add(table.where(row), reason)
        usable[rows] = False

    kind = options.kind or of_target.kind
    card = of_target.card
    if kind == "classification":
        card = ColumnCard(name=target, kind="category", values=("",), missing_words=tuple(columns.MISSING_WORDS))
    elif card is None or card.kind != "number":
        raise DataError(f"{source}: the target {target!r} holds no numbers; use --kind classification.")
    values, words = columns.encode(table, card, exclude)
    exclude(np.flatnonzero(np.isnan(values)), f"the target {target!r} is missing")
    encoded = [columns.encode(table, each, exclude) for each in used]
    problems.settle(source, options.bad, inspection)

    classes: tuple[str, ...] = ()
    targets: npt.NDArray[Any] = values
    if kind == "classification":
        labels = np.nan_to_num(values, nan=len(words)).astype(np.int64)
        if len(np.unique(labels[usable])) < 2:
            raise DataError(f"{source}: the target {target!r} has 1 value; classification needs two or more.")
        _check_repeats(source, target, labels[usable], numeric=of_target.kind == "regression")
        parts = _divide(source, given, usable, labels, seed)
        classes, targets = columns.sort_classes(source, words, labels, parts)
    else:
        parts = _divide(source, given, usable, None, seed)
    layout, rows = columns.describe_columns(source, used, encoded, parts["train"], inspection)

    describe_splits(inspection, {name: len(part) for name, part in parts.items()}, [*(parts.keys() - given)], "rows")
    if classes:
        counts = np.bincount(targets[np.concatenate(list(parts.values()))], minlength=len(classes)).tolist()
        describe_classes(inspection, classes, counts, "rows")
    digests = {
        name: [hashlib.blake2b(row, digest_size=16).digest() for row in rows[part]] for name, part in parts.items()
    }
    if len(set().union(*digests.values())) > usable.sum() / 2:  # rows of a few words are bound to repeat
        describe_repeats(inspection, digests, "rows")
    seen = np.concatenate((parts["train"], parts["validation"]))
    clues = {card.name: _clue(card, rows[seen, index]) for index, card in enumerate(layout)}
    warn_of_columns(inspection, clues, targets[seen], regression=not classes)
    return TabularData(
        name=name_of(source),
        kind=kind,
        layout=layout,
        target=target,
        classes=classes,
        **{name: TabularSplit(rows[part], targets[part]) for name, part in parts.items()},
        fingerprint=_fingerprint(rows, targets, parts),
        ignored=tuple(name for name in names if name not in {each.name for each in layout}),
        inspection=inspection,
        added=None,
    )


def _clue(card: ColumnCard, values: Floats) -> Clue:
    return Clue(np.nan_to_num(values, nan=_MISSING).astype(np.int64) if card.kind == "category" else values)


def _breast_cancer(target: str) -> Table:
    bunch: Any = load_breast_cancer()
    values = dict(zip(map(str, bunch.feature_names), bunch.data.T, strict=True))
    values[target] = bunch.target_names[bunch.target]
    return Table(BREAST_CANCER, pa.table(values))


def _usable_splits(
    source: str, given: dict[str, Table], target: str | None, inspection: Inspection
) -> dict[str, Table]:
    """The splits that have all columns of the training rows; one that lacks the target is left out."""
    if "train" not in given:
        given = {"train": next(iter(given.values()))}
    kept: dict[str, Table] = {}
    for name in [name for name in ("train", "validation", "test") if name in given]:
        missing = sorted(set(given["train"].columns) - set(given[name].columns))
        if not missing:
            kept[name] = given[name]
        elif missing == [target]:
            inspection.notes.append(f"{given[name].name}: has no {target!r}, so nothing can be measured on it")
        else:
            raise DataError(f"{source}: {given[name].name} lacks the columns {', '.join(missing)}.")
    return kept


def _check_names(options: TabularOptions, known: Sequence[str], target: str) -> None:
    source, listed = options.data, ", ".join(known)
    check_target(source, known, target)
    if wrong := [name for name in (*options.columns, *options.drop) if name not in known]:
        hints = [f" {name}{hint}" for name in wrong if (hint := did_you_mean(name, known))]
        raise DataError(f"{source}: has no column {', '.join(wrong)}; it has {listed}.{''.join(hints)}")
    if target in options.drop:
        raise DataError(f"--drop {target}: is the column to predict.")


def _check_repeats(source: str, target: str, labels: Indices, *, numeric: bool) -> None:
    """Raises DataError if hardly a class has two rows, so that there is nothing to learn."""
    distinct = len(np.unique(labels))
    if distinct > columns.MANY and distinct > len(labels) / 2:
        other = "predict it as a number with --kind regression, or " if numeric else ""
        raise DataError(
            f"{source}: the target {target!r} hardly repeats ({distinct:,} different values in {len(labels):,} rows), "
            f"so there is nothing to learn: {other}name another column with --target."
        )


def _choose(
    source: str, profiles: dict[str, Profile], asked: Sequence[str], inspection: Inspection
) -> list[ColumnCard]:
    used, left = [], []
    for name, column in profiles.items():
        if asked and name not in asked:
            continue
        if column.card is None or (column.left_out and name not in asked):
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
    parts = []
    plurals = {"number": "numbers", "boolean": "yes or no", "category": "categories", "date": "dates"}
    for kind, plural in plurals.items():
        if names := [card.name for card in used if card.kind == kind]:
            word = kind if len(names) == 1 and kind != "boolean" else plural
            listed = ", ".join(names[:_MOST_NAMED]) + ", …" * (len(names) > _MOST_NAMED)
            parts.append(f"{len(names)} {word} ({listed})")
    inspection.notes.append(f"columns: {'; '.join(parts)}")
    return used


def _sample(table: Table, limit: int, seed: int) -> Table:
    if table.rows <= limit:
        return table
    return table.take(np.sort(np.random.default_rng(seed).choice(table.rows, limit, replace=False)))


def _divide(
    source: str, given: dict[str, Table], usable: Mask, classes: Indices | None, seed: int
) -> dict[str, Indices]:
    """The rows of each split, as indices into the joined table."""
    ends = np.cumsum([table.rows for table in given.values()])
    parts = dict(zip(given, np.split(np.arange(len(usable)), ends[:-1]), strict=True))
    parts = {name: rows[usable[rows]] for name, rows in parts.items()}
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    for name, fraction in (("test", 0.2), ("validation", 0.15)):
        if name not in parts:
            rows = parts["train"]
            labels = None if classes is None else classes[rows]
            kept, taken = hold_out(source, name, len(rows), fraction, seed, labels)
            parts["train"], parts[name] = rows[kept], rows[taken]
    if not all(map(len, parts.values())):
        raise DataError(f"{source}: too few rows to hold out test and validation rows.")
    if classes is None and len(parts["test"]) < 2:
        raise DataError(f"{source}: R² needs two test rows or more, and there is one.")
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
