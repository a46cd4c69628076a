"""A sheet of rows."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from service.tasks.tabular.columns import ColumnCard
from training.samples import LINES, table_of
from training.tabular.data import TabularData


def draw_rows(data: TabularData) -> Image.Image:
    """Training rows as the network gets them, with their targets."""
    chosen = range(min(LINES, len(data.train)))
    cells = [_reader_of_column(card) for card in data.layout]

    def row(index: int) -> list[str]:
        target = data.train.targets[index]
        return [
            data.classes[int(target)] if data.classes else f"{target:.4g}",
            *(cell(value) for cell, value in zip(cells, data.train.rows[index], strict=True)),
        ]

    return table_of((data.target, *data.columns), map(row, chosen))


def _reader_of_column(card: ColumnCard) -> Callable[[float], str]:
    def cell(value: float) -> str:
        if np.isnan(value):
            return "–"
        if card.values:
            return card.values[int(value)] if 0 <= value < len(card.values) else "?"
        return f"{value:.4g}"

    return cell
