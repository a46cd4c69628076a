"""Labelled texts of any data, to measure a published text classifier on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from quartet.offline.scoring.sources import Item
from service.errors import truncate
from service.tasks.text.manifest import TextManifest
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.splits import limited
from training.data.tables import Table
from training.export.labelled import LabelIndex, LabelledClasses, choose_splits
from training.text.data import find_columns, open_texts


def labelled_texts(manifest: TextManifest, options: Any) -> LabelledClasses:
    """The texts of any of the sources that `training.text.data.load_texts` takes.

    Args:
        manifest: of the classifier.
        options: `EvaluateOptions`.

    Raises:
        DataError: the data cannot be used.
    """
    source, inspection, problems = options.data, Inspection(), Problems()
    tables = open_texts(source, inspection, problems, options.encoding, needs_train=False)
    tables = choose_splits(source, tables, options.split)
    first = next(iter(tables.values()))
    text = options.text_column or (manifest.text_column if manifest.text_column in first.columns else None)
    text, label = find_columns(source, first, text, options.label_column, inspection)
    known, truth = LabelIndex(manifest.labels, problems), []
    rows = {}
    for name, table in tables.items():
        if missing := {text, label} - set(table.columns):
            raise DataError(f"{source} [{name}]: lacks {' and '.join(map(repr, sorted(missing)))}.")
        rows[name], labels = _labelled_rows(table, text, label, known, problems)
        if options.limit is not None and len(labels) > options.limit:
            chosen = limited(name, np.array(labels), options.limit, 0)
            rows[name], labels = [rows[name][index] for index in chosen], [labels[index] for index in chosen]
        truth += labels
    known.check(source)
    problems.settle(source, options.bad, inspection)
    return LabelledClasses(manifest, source, TextRows(tables, text, rows), inspection, truth)


class TextRows:
    """Some rows of the tables of one or several splits; see `training.export.labelled.Items`."""

    kind = "texts"

    def __init__(self, tables: Mapping[str, Table], column: str, rows: Mapping[str, Sequence[int]]) -> None:
        self.splits = {name: len(some) for name, some in rows.items()}
        self.columns: Sequence[str] | None = (column,)
        self.column: str | None = column
        self._tables = [(table, rows[name]) for name, table in tables.items()]
        self._rows = [(table, row) for table, some in self._tables for row in some]

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        """See `Items`."""
        (column,), number = columns, 0
        for table, rows in self._tables:
            wanted = set(rows)
            for row, text in enumerate(table.values(column)):
                if row in wanted:
                    if number >= start:
                        yield Item(number, {column: text})
                    number += 1

    def where(self, index: int) -> str:
        """See `Items`."""
        table, row = self._rows[index]
        return table.where(row)

    def describe(self, index: int) -> Mapping[str, Any]:
        """See `Items`."""
        table, row = self._rows[index]
        text = str(table.data.column(self.column)[row].as_py())
        return {"text": truncate(" ".join(text[:400].split()), 48)}


def _labelled_rows(
    table: Table, text: str, label: str, known: LabelIndex, problems: Problems
) -> tuple[list[int], list[int]]:
    """The rows with a text and a label of the model, and the indices of the labels."""
    rows, labels = [], []
    names = table.classes.get(label, ())
    for row, (words, value) in enumerate(zip(table.values(text), table.values(label), strict=True)):
        if not isinstance(words, str) or not words.strip():
            problems.add(table.where(row), "the text is missing")
            continue
        named = names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value
        index = known.find(named, table.where(row))
        if index is not None:
            rows.append(row)
            labels.append(index)
    return rows, labels
