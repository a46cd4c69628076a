"""Tables for a terminal: aligned columns, short figures."""

import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

# How many entries of a list and numbers of a vector a cell shows.
_LABELS, _NUMBERS = 3, 4
# Blanks between columns.
_GAP = 2


def terminal_width() -> int | None:
    """The columns of the terminal that stdout is; None if it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def format_table(
    rows: Sequence[Mapping[str, str]], width: int | None = None, below: str | None = None
) -> Iterator[str]:
    """The lines of a table: the names of the columns that are not empty, then a line per row.

    Args:
        rows: cells by column; a missing column is an empty cell.
        width: of the terminal; None for no limit. In a wider table, the cells of the widest columns are wrapped.
        below: a column whose cells stand below their rows if the table is wider than `width`.
    """
    if not rows:
        return
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in names if any(row.get(name) for row in rows)]
    cells = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    notes = [""] * len(cells)
    if width is not None and sum(widths) + _GAP * (len(widths) - 1) > width:
        if below in columns:
            at = columns.index(below)
            notes = ["", *(row[at] for row in cells[1:])]
            cells, widths = [row[:at] + row[at + 1 :] for row in cells], widths[:at] + widths[at + 1 :]
        least = [max(_width(part) for cell in column for part in _parts(cell)) for column in zip(*cells, strict=True)]
        widths = _narrowed(widths, least, width - _GAP * (len(widths) - 1))
    for row, note in zip(cells, notes, strict=True):
        wrapped = [_wrap(cell, limit) for cell, limit in zip(row, widths, strict=True)]
        for line in zip_longest(*wrapped, fillvalue=""):
            padded = (part + " " * (limit - _width(part)) for part, limit in zip(line, widths, strict=True))
            yield (" " * _GAP).join(padded).rstrip()
        for text in _wrap(note, (width or 0) - 2 * _GAP) if note else ():
            yield " " * 2 * _GAP + text


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


def _narrowed(widths: Sequence[int], least: Sequence[int], total: int) -> list[int]:
    """Widths that add up to `total`, if `least` allows it: the widest columns become equally wide."""
    widths = list(widths)
    while sum(widths) > total and (wide := [i for i in range(len(widths)) if widths[i] > least[i]]):
        widths[max(wide, key=lambda index: widths[index])] -= 1
    return widths


def _parts(cell: str) -> list[str]:
    """What a cell is divided into at the ends of lines: words, and the parts of those with hyphens."""
    return re.findall(r"[^\s-]*-|[^\s-]+|\s+", cell) or [""]


def _wrap(cell: str, width: int) -> list[str]:
    """The lines of a cell, none of them wider than `width` unless a part is."""
    if _width(cell) <= width:
        return [cell]
    lines = [""]
    for part in _parts(cell):
        if lines[-1] and _width(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return [line.rstrip() for line in lines]


def _width(text: str) -> int:
    """Width in terminal columns: East Asian characters take two, combining ones none (Unicode Standard Annex 11)."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
