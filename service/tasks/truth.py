"""What is known of an item afterwards: labels and numbers, and how well an answer fits them."""

from typing import Any

from service.tasks.base import Score, Truth

LONGEST_LABEL = 200
# A double holds it, and its differences.
_LARGEST = 1e300


def read_label(value: Any) -> str:
    """A label: any text of a line, since the right class may be one that the model does not know."""
    if isinstance(value, str) and 0 < len(value) <= LONGEST_LABEL and value.isprintable() and value == value.strip():
        return value
    raise ValueError(f"the truth must be a label, a text of at most {LONGEST_LABEL} characters in one line")


def read_number(value: Any) -> float:
    """A finite number; raises ValueError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return float(value)
    raise ValueError("the truth must be a finite number")


def _likeliest(result: dict[str, Any]) -> str | None:
    labels = result.get("labels")
    return labels[0]["label"] if labels else None


# An answer that was withheld, as `strict` does, is neither right nor wrong.
def _same(gist: str | None, truth: str) -> Score:
    return Score(0.0, 0.0) if gist is None else Score(float(gist == truth), 1.0)


def _error(gist: float | None, truth: float) -> Score:
    return Score(0.0, 0.0) if gist is None else Score(abs(gist - truth), 1.0)


def _read_value(value: Any) -> float:
    """A number, which may be the text of a CSV file."""
    try:
        return read_number(float(value) if isinstance(value, str) else value)
    except ValueError:
        return read_number(None)


LABEL = Truth("accuracy", read_label, _likeliest, _same, confirmed=lambda gist: gist, rated=True)
NUMBER = Truth("mean absolute error", _read_value, lambda result: result.get("value"), _error)
