"""A sheet of rows."""

from PIL import Image

from service.tasks.tabular.columns import ColumnCard
from training.report.samples import LINES, table_of
from training.tabular.data import TabularData


def draw_rows(data: TabularData) -> Image.Image:
    """Training rows as they are understood, with their targets: numbers, dates and words as the table writes them."""
    chosen = range(min(LINES, len(data.train)))

    def row(index: int) -> list[str]:
        target = data.train.targets[index]
        return [
            data.classes[int(target)] if data.classes else f"{target:.4g}",
            *(_cell(card, value) for card, value in zip(data.layout, data.train.rows[index], strict=True)),
        ]

    return table_of((data.target, *data.columns), map(row, chosen))


def _cell(card: ColumnCard, value: float) -> str:
    written = card.write(float(value))
    if written is None:
        return "–"
    return f"{written:.7g}" if isinstance(written, float) else str(written)
