"""What is counted of a tabular model: the values of the columns, and the answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.tasks.base import Statistic, Statistics, Values
from service.tasks.statistics import label_statistics, measure_labels, measure_typicality, typicality_statistics
from service.tasks.tabular.columns import ColumnCard
from service.tasks.tabular.manifest import TabularManifest

# Columns that are counted; of a wider table the first ones.
_MOST_COLUMNS = 200


def of(manifest: TabularManifest) -> tuple[Statistic, ...]:
    """See `service.tasks.base.Statistics`."""
    columns = [Statistic("input", card.name, _categories(card)) for card in manifest.columns[:_MOST_COLUMNS]]
    classes = manifest.kind == "classification"
    answers = label_statistics(manifest.labels) if classes else (Statistic("answer", "value"),)
    return (*columns, *answers, *typicality_statistics(manifest))


def measure(manifest: TabularManifest, items: Sequence[Any], rows: Sequence[Any]) -> list[Values]:
    """See `service.tasks.base.Statistics`. Dates are numbers."""
    values = np.stack(items)
    columns = []
    for index, card in enumerate(manifest.columns[:_MOST_COLUMNS]):
        column = values[:, index].astype(np.float64)
        columns.append(Values(_indices(column, card) if _categories(card) else column))
    if manifest.kind == "classification":
        answers = measure_labels(rows)
    else:
        answers = [Values(np.array([row[0][0] for row in rows], np.float64))]
    return [*columns, *answers, *measure_typicality(manifest, rows)]


def _categories(card: ColumnCard) -> tuple[str, ...]:
    return (*card.values, "(unknown)", "(missing)") if card.kind in ("category", "boolean") else ()


def _indices(column: Any, card: ColumnCard) -> Any:
    """The index of each value among the categories of its column."""
    unknown, missing = len(card.values), len(card.values) + 1
    known = np.where(np.isnan(column), missing, column)
    return np.where((known < 0) | (known > missing), unknown, known).astype(np.int64)


STATISTICS = Statistics(of, measure)
