"""Tables for people at a terminal: columns that line up, figures that are short."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Entries of a list, and numbers of a vector, that a cell shows.
_LABELS, _NUMBERS = 3, 4


def format_table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Lines: the names of the columns that hold anything, and a line for each row.

    Args:
        rows: cells by column; a column that a row lacks stays empty there.
    """
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name, cell in row.items() if cell))
    cells = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def to_cell(name: str, value: Any) -> str:
    """A field of a result in a few words.

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
    """An entry of a list: a label or a word with the figure that goes with it, or just what it is."""
    if not isinstance(value, Mapping):
        return to_cell("", value)
    what = next((str(value[key]) for key in ("label", "word") if key in value), "")
    figure = next((f" {value[key]:.2f}" for key in ("probability", "score", "weight") if key in value), "")
    return what + figure


def _listed(entries: Sequence[str], most: int) -> str:
    more = f", … {len(entries) - most} more" if len(entries) > most else ""
    return ", ".join(entries[:most]) + more


def _width(text: str) -> int:
    """Columns of a terminal: East Asian characters take two, combining ones none (Unicode Standard Annex 11)."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
