"""Rows of any table that has the target, to measure a published model of tables on."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from quartet.offline.scoring.sources import Item
from service.tasks.tabular.columns import ColumnCard, key_of
from service.tasks.tabular.manifest import TabularManifest
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.tables import Table, joined, read_tables
from training.export.figures import bootstrap
from training.export.labelled import (
    Findings,
    Items,
    Labelled,
    LabelledClasses,
    choose_splits,
    listed,
    no_such_label,
    refuse_foreign,
)
from training.parser import did_you_mean
from training.tabular.columns import MISSING_WORDS, encode, profile

_MEASURES = {"r2": r2_score, "rmse": root_mean_squared_error, "mae": mean_absolute_error}
# The target of each row of a table; NaN if it cannot be used, which is then a problem.
Targets = npt.NDArray[np.float64]


def labelled_rows(manifest: TabularManifest, options: Any) -> Labelled:
    """The rows of a table with their targets.

    Args:
        manifest: of the model.
        options: `EvaluateOptions`.

    Raises:
        DataError: the data cannot be used.
    """
    source, inspection, problems = options.data, Inspection(), Problems()
    hint = "Give a table (CSV, xlsx, JSON lines, parquet) or a hub id."
    tables = read_tables(source, hint, inspection, problems, needs_train=False, encoding=options.encoding)
    tables = choose_splits(source, tables, options.split)
    target = options.label_column or manifest.target
    needed = (target, *(name for name in manifest.reading.names if name != target))
    for name, part in tables.items():
        if missing := [column for column in needed if column not in part.columns]:
            hints = [f" {column}{hint}" for column in missing if (hint := did_you_mean(column, part.columns))]
            what = "the column of the target," if missing == [target] else "the column"
            raise DataError(
                f"{source} [{name}]: lacks {what} {listed(missing)}; it has {listed(part.columns)}.{''.join(hints)}"
            )
    table = joined([replace(part, data=part.data.select(list(needed))) for part in tables.values()])
    of_classes = manifest.kind == "classification"
    targets = (_labels_of if of_classes else _numbers_of)(table, target, manifest, problems)
    problems.settle(source, options.bad, inspection)
    ends = np.cumsum([0, *(part.rows for part in tables.values())])
    random = np.random.default_rng(0)
    rows = []
    for start, end in pairwise(ends):
        some = start + np.flatnonzero(~np.isnan(targets[start:end]))
        rows.append(some if options.limit is None else np.sort(random.permutation(some)[: options.limit]))
    chosen = np.concatenate(rows)
    found = TableRows(table, manifest, dict(zip(tables, map(len, rows), strict=True)), chosen)
    if of_classes:
        return LabelledClasses(manifest, source, found, inspection, targets[chosen].astype(np.int64))
    return LabelledNumbers(manifest, source, found, inspection, targets[chosen])


class TableRows:
    """Some rows of a table; see `training.export.labelled.Items`."""

    kind = "rows"
    column: str | None = None

    def __init__(
        self, table: Table, manifest: TabularManifest, splits: Mapping[str, int], rows: npt.NDArray[np.int64]
    ) -> None:
        self.splits, self.columns = splits, table.columns
        self._table, self._rows = table, rows
        self._cells = {card.name: _cell_of(table, card) for card in manifest.columns}

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        """See `Items`."""
        wanted, number = set(self._rows.tolist()), 0
        reads = [self._cells[name] for name in columns]
        for row, values in enumerate(zip(*map(self._table.values, columns), strict=True)):
            if row in wanted:
                if number >= start:
                    cells = (read(value) for read, value in zip(reads, values, strict=True))
                    yield Item(number, dict(zip(columns, cells, strict=True)))
                number += 1

    def where(self, index: int) -> str:
        """See `Items`."""
        return self._table.where(int(self._rows[index]))

    def describe(self, index: int) -> Mapping[str, Any]:  # noqa: ARG002
        """See `Items`."""
        return {}


class LabelledNumbers(Labelled):
    """Items whose target is a number.

    Args:
        truth: float64, shape (n,); the rest as for `Labelled`.
    """

    def __init__(self, manifest: Any, source: str, found: Items, inspection: Inspection, truth: Targets) -> None:
        super().__init__(manifest, source, found, inspection)
        self._truth, self._values = truth, np.zeros(self.total)

    def take(self, index: int, answer: Mapping[str, Any]) -> None:
        self._values[index] = answer["value"]

    def findings(self) -> Findings:
        truth, values = self._truth[self.answered], self._values[self.answered]

        def errors(chosen: npt.NDArray[np.int64]) -> dict[str, float]:
            return {name: float(measure(truth[chosen], values[chosen])) for name, measure in _MEASURES.items()}

        measured, intervals = errors(np.arange(len(truth))), bootstrap(errors, len(truth))
        metrics = self.manifest.metrics
        figures = tuple(
            self.figure(name, value, intervals[name], getattr(metrics, name), higher_is_better=name == "r2")
            for name, value in measured.items()
        )
        rows = np.argsort(-np.abs(values - truth), kind="stable")
        worst = [
            {
                "item": self.found.where(self.answered[row]),
                self.manifest.target: float(truth[row]),
                "answer": float(values[row]),
            }
            for row in rows
        ]
        return Findings(figures, worst=worst)


def _cell_of(table: Table, card: ColumnCard) -> Callable[[Any], Any]:
    """What the service is sent for a value of a column, which a typed column may hold in other types than text."""
    names = table.classes.get(card.name, ())

    def read(value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if card.kind == "category":
            return names[value] if names and 0 <= value < len(names) else str(value)
        if card.kind == "date" and isinstance(value, int | float):  # such as 20240131
            return str(int(value))
        return float(value) if card.kind == "number" and not isinstance(value, int | float) else value

    return read


def _labels_of(table: Table, target: str, manifest: TabularManifest, problems: Problems) -> Targets:
    """The indices of labels."""
    words = {key_of(label): index for index, label in enumerate(manifest.labels)}
    # A column of whole numbers may be stored as 1 here and as 1.0 there.
    numbers = {number: index for label, index in words.items() if not math.isnan(number := _as_number(label))}
    read = _cell_of(table, ColumnCard(name=target, kind="category", values=manifest.labels))
    targets, foreign = np.full(table.rows, np.nan), set[str]()
    for row, value in enumerate(map(read, table.values(target))):
        key = key_of(value or "")
        index = words.get(key, numbers.get(_as_number(key)))
        if index is not None:
            targets[row] = index
        elif not key or key in MISSING_WORDS:
            problems.add(table.where(row), f"the target {target!r} is missing")
        else:
            foreign.add(value)
            problems.add(table.where(row), no_such_label(value, manifest.labels))
    if np.isnan(targets).all():
        refuse_foreign(table.name, foreign, manifest.labels)
    return targets


def _numbers_of(table: Table, target: str, manifest: TabularManifest, problems: Problems) -> Targets:  # noqa: ARG001
    """The numbers of a column, as it writes them."""
    card = profile(table, target).card
    if card is None or card.kind != "number":
        raise DataError(f"{table.name}: the target {target!r} holds no numbers.")
    named: set[int] = set()

    def exclude(rows: npt.NDArray[np.int64], reason: str) -> None:
        for row in rows.tolist():
            problems.add(table.where(row), reason)
        named.update(rows.tolist())

    values, _ = encode(table, card, exclude)
    targets = values.astype(np.float64)
    targets[list(named)] = np.nan
    for row in np.flatnonzero(np.isnan(targets)).tolist():
        if row not in named:
            problems.add(table.where(row), f"the target {target!r} is missing")
    return targets


def _as_number(word: str) -> float:
    """The number that a word is; NaN if it is none."""
    try:
        return float(word)
    except ValueError:
        return math.nan
