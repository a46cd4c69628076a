"""Tables for a terminal: aligned columns, short figures."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# How many entries of a list and numbers of a vector a cell shows.
_LABELS, _NUMBERS = 3, 4


def format_table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """The lines of a table: the names of the columns that are not empty, then a line per row.

    Args:
        rows: cells by column; a missing column is an empty cell.
    """
    if not rows:
        return
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in names if any(row.get(name) for row in rows)]
    cells = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def to_cell(name: str, value: Any) -> str:
    """Formats a field of a result briefly.

    Args:
        name: of the field.
        value: of plain JSON types.
    """
    if value is None:
        return ""
    if name == "png":
        return f"PNG, {len(value) * 3 // 4:,} bytes"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return _listed([f"{key} {to_cell(key, each)}" for key, each in value.items()], _LABELS)
    if isinstance(value, list):
        vector = bool(value) and isinstance(value[0], int | float)
        return _listed(list(map(_entry, value)), _NUMBERS if vector else _LABELS)
    return " ".join(str(value).split())


def _entry(value: Any) -> str:
    """Formats an entry of a list: a label or word with its figure, otherwise the value."""
    if not isinstance(value, Mapping):
        return to_cell("", value)
    what = next((str(value[key]) for key in ("label", "word") if key in value), "")
    figure = next((f" {value[key]:.2f}" for key in ("probability", "score", "weight") if key in value), "")
    return what + figure


def _listed(entries: Sequence[str], most: int) -> str:
    more = f", … {len(entries) - most} more" if len(entries) > most else ""
    return ", ".join(entries[:most]) + more


def _width(text: str) -> int:
    """Width in terminal columns: East Asian characters take two, combining ones none (Unicode Standard Annex 11)."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
