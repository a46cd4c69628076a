"""Rows of answers as flat tables: the most likely label and each box in columns."""

from collections.abc import Iterator, Mapping
from typing import Any

# The columns of the most likely label.
LIKELIEST = ("label", "probability")
# The fields of a box that are columns where each box has a row.
OF_BOXES = ("label", "score", "x_min", "y_min", "x_max", "y_max")


def is_failure(row: Mapping[str, Any]) -> bool:
    """Whether an item could not be answered; a result may hold a number that is called `error` too."""
    return isinstance(row.get("error"), str)


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the most likely label as columns, and `error` last; the error of a restored image is called `mse`."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "labels" and not is_failure(row):
            first = value[0] if value else {}
            flat |= {column: first.get(column) for column in LIKELIEST}
        if name != "error":
            flat[name] = value
        elif not is_failure(row):
            flat["mse"] = value
    return flat | {"error": row["error"] if is_failure(row) else None}


def numbered(number: int) -> tuple[str, ...]:
    """The columns of the label with this rank."""
    return LIKELIEST if number == 1 else tuple(f"{name}_{number}" for name in LIKELIEST)


def spread(row: Mapping[str, Any], *, boxes: bool = True) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file for a row of answers: further labels are columns, and each box has a row.

    Args:
        row: with the fields of a result.
        boxes: whether a field `boxes` holds boxes.
    """
    flat = flatten(row)
    for number, entry in enumerate(flat.get("labels") or (), 1):
        flat |= dict(zip(numbered(number), (entry["label"], entry["probability"]), strict=True))
    found = flat.get("boxes") if boxes else None
    if not found:
        yield flat
    for box in found or ():
        yield flat | box
