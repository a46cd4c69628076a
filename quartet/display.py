"""How answers look in a notebook: tables, bars, boxes over a picture, coloured words. Everything is escaped."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#e377c2", "#8c564b")
_MOST_ROWS = 50


def table(rows: Sequence[Mapping[str, Any]], total: int | None = None) -> str:
    """An HTML table, of long ones the beginning.

    Args:
        rows: by column; a column that a row lacks stays empty.
        total: how many rows there are, where `rows` is their beginning.
    """
    shown = rows[:_MOST_ROWS]
    columns = list(dict.fromkeys(column for row in shown for column in row))
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(row.get(column))}</td>' for column in columns)}</tr>" for row in shown)
    more = (total or len(rows)) - len(shown)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" + (
        f"<p>… and {more} more</p>" if more > 0 else ""
    )


def image(data: bytes, width: int | None = None) -> str:
    """A picture, shown at most `width` pixels wide; a small one enlarged without smoothing."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"  # browsers look at the bytes of the others
    size = f"width:{width}px;max-width:100%;" if width else ""
    source = base64.b64encode(data).decode()
    return f'<img alt="" src="data:image/{kind};base64,{source}" style="{size}image-rendering:pixelated">'


def bars(values: Iterable[tuple[str, float]]) -> str:
    """Probabilities as bars, one below the other."""
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(label)}</td>'
        f'<td style="text-align:left;min-width:12em"><div style="background:#1f77b4;height:0.9em;width:{value:.1%}">'
        f"</div></td><td>{value:.1%}</td></tr>"
        for label, value in values
    )
    return f"<table>{rows}</table>"


def boxes(data: bytes, width: int, height: int, found: Iterable[tuple[str, float, Sequence[float]]]) -> str:
    """Boxes over a picture.

    Args:
        data: of the picture.
        width: in pixels, of the coordinates.
        height: likewise.
        found: label, score and x_min, y_min, x_max, y_max of each.
    """
    found = list(found)
    colours = dict(zip(dict.fromkeys(label for label, *_ in found), _COLOURS * len(found), strict=False))
    shapes = "".join(
        f'<rect x="{x_min}" y="{y_min}" width="{x_max - x_min}" height="{y_max - y_min}" fill="none" '
        f'stroke="{colours[label]}" stroke-width="2" vector-effect="non-scaling-stroke">'
        f"<title>{escape(label)} {score:.2f}</title></rect>"
        for label, score, (x_min, y_min, x_max, y_max) in found
    )
    legend = " ".join(f'<span style="color:{colour}">■ {escape(label)}</span>' for label, colour in colours.items())
    # The picture is an <img>, which honours EXIF rotation, as the coordinates do.
    return (
        f'<div style="position:relative;width:{min(width, 640)}px;max-width:100%">{image(data, min(width, 640))}'
        f'<svg viewBox="0 0 {width} {height}" style="position:absolute;left:0;top:0;width:100%">{shapes}</svg></div>'
        f"<div>{legend}</div>"
    )


def words(weights: Iterable[tuple[str, float]]) -> str:
    """Words in colours: green speaks for the answer, red against it; the more, the deeper."""
    weights = list(weights)
    most = max((abs(weight) for _, weight in weights), default=0) or 1
    spans = " ".join(
        f'<span style="background:rgba({"44,160,44" if weight > 0 else "214,39,40"},{abs(weight) / most:.2f})" '
        f'title="{weight:+.2f}">{escape(word)}</span>'
        for word, weight in weights
    )
    return f"<p>{spans}</p>" if spans else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return escape(", ".join(map(str, value)))
    return escape(str(Path(value)) if isinstance(value, Path) else str(value))
