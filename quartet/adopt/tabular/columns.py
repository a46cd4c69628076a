"""The columns of a table as an adopted graph takes them, and that graph with the matrix of the service as its input."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto

from quartet.adopt.composition import Composition, element_of
from quartet.adopt.graph import Array, CannotAdopt, Value, declare, inputs_of
from quartet.adopt.tabular.rows import Table
from quartet.adopt.tabular.tracing import Facts, Word
from service.tasks.tabular.columns import UNKNOWN, ColumnCard
from service.tasks.tabular.rows import Floats

Run = Callable[[Floats], Sequence[Array]]

ROWS = "rows"
_BOOLEAN = ("false", "true")


@dataclass(frozen=True)
class Column:
    """A column of the matrix that the service sends.

    Attributes:
        card: of the column.
        dtype: of the graph's input.
        words: that the graph takes, in the order of the card's values; empty if it takes the number itself.
        missing: the word for a missing value.
        unknown: the word for any other.
    """

    card: ColumnCard
    dtype: str
    words: tuple[Word, ...] = ()
    missing: Word = ""
    unknown: Word = ""


def make_column(name: str, dtype: str, facts: Facts, table: Table | None) -> Column:
    """A column of an input, from what the graph tells about it.

    Args:
        name: of the column.
        dtype: of the input.
        facts: what the graph tells.
        table: sample rows, which have the words that the graph does not hold.

    Raises:
        CannotAdopt: it is free text, or its words are not known.
    """
    if facts.text:
        raise CannotAdopt(
            "free text",
            f"The column {name!r} is free text, in which the graph counts words; a table has categories. Adopt the "
            "graph as tensors: leave --task out.",
        )
    if dtype == "bool":
        return Column(ColumnCard(name=name, kind="boolean", values=_BOOLEAN, required=True), dtype)
    if dtype != "str":
        numbers = [word for word in facts.words if isinstance(word, int)]
        if not numbers or facts.spread is not None or facts.thresholds:
            return Column(_number_card(name, dtype, facts), dtype)
        card = ColumnCard(name=name, kind="category", values=tuple(map(str, numbers)), closed=facts.closed)
        other = max(numbers) + 1
        return Column(card, dtype, tuple(numbers), other, other)
    words = [word for word in facts.words if isinstance(word, str)] or (table.words(name) if table else [])
    if not words:
        raise CannotAdopt(
            "categories",
            f"The graph holds no words of the column {name!r}: give rows that have them all with --samples FILE.csv.",
        )
    unknown = "(unknown)"
    while unknown in words:
        unknown = f"({unknown})"
    card = ColumnCard(name=name, kind="category", values=tuple(words), closed=facts.closed)
    return Column(card, dtype, tuple(words), unknown if facts.missing is None else facts.missing, unknown)


def _number_card(name: str, dtype: str, facts: Facts) -> ColumnCard:
    integer = not dtype.startswith("float")
    middle = float(np.median(facts.thresholds)) if facts.thresholds else None
    typical = next((each for each in (facts.centre, facts.imputed, middle) if each is not None), None)
    if typical is not None:
        typical = float(round(typical)) if integer else float(f"{typical:.4g}")
    # An integer cannot be NaN, and a graph that ignores NaN answers something.
    required = integer or not facts.nullable
    return ColumnCard(name=name, integer=integer, required=required, typical=typical)


def measured(card: ColumnCard, values: Floats) -> ColumnCard:
    """The card with statistics of sample rows."""
    known = values[~np.isnan(values)].astype(np.float64)
    figures: dict[str, Any] = {"missing": float(np.isnan(values).mean())}
    if card.kind == "number" and len(known):
        median = float(np.sort(known)[len(known) // 2])
        figures |= {
            "mean": float(f"{known.mean():.7g}"),
            "std": float(f"{known.std():.7g}"),
            "low": float(known.min()),
            "high": float(known.max()),
            "typical": float(f"{median:.7g}"),
        }
    return card.model_copy(update=figures)


def compose_inputs(model: ModelProto, columns: Sequence[Column], parts: Mapping[str, range]) -> ModelProto:
    """The graph with one input: float32, shape (rows, columns), NaN for a missing value, -1 for an unknown word.

    Args:
        model: the graph.
        columns: of the matrix.
        parts: the indices of the columns of each input, by its name.
    """
    composition = Composition(model)
    matrix = composition.name(ROWS, "table_rows")
    for value in inputs_of(model):
        taken = [columns[index] for index in parts[value.name]]
        if any(column.words for column in taken):
            each = [_looked_up(composition, matrix, index, columns[index], value) for index in parts[value.name]]
            part = composition.before("Concat", *each, axis=1)
        else:
            indices = composition.constant(np.array(parts[value.name], np.int64))
            part = _cast(composition, composition.before("Gather", matrix, indices, axis=1), value)
        if len(value.shape or ()) == 1:
            part = composition.before("Reshape", part, composition.constant(np.array([-1], np.int64)))
        composition.before("Identity", part, output=value.name)
    return composition.finish([declare(matrix, "float32", ["batch", len(columns)])], model.graph.output)


def _looked_up(composition: Composition, matrix: str, index: int, column: Column, value: Value) -> str:
    """A column of (rows, 1) with the values that the graph takes."""
    numbers = composition.before("Gather", matrix, composition.constant(np.array([index], np.int64)), axis=1)
    if not column.words:
        return _cast(composition, numbers, value)
    # The last word is that at index -1.
    words = np.array([*column.words, column.missing, column.unknown])
    place = composition.constant(np.float32(len(column.words)))
    known = composition.before("Where", composition.before("IsNaN", numbers), place, numbers)
    found = composition.before(
        "Gather", composition.constant(words), composition.before("Cast", known, to=element_of("int64")), axis=0
    )
    return found if value.dtype == "str" else _cast(composition, found, value)


def _cast(composition: Composition, name: str, value: Value) -> str:
    return name if value.dtype == "float32" else composition.before("Cast", name, to=element_of(value.dtype))


def try_columns(columns: Sequence[Column], rows: Floats, run: Run) -> list[Column]:
    """The columns, `required` or `closed` where the graph fails or answers NaN without a value or for another word.

    Raises:
        CannotAdopt: the graph cannot even answer the rows.
    """
    base = rows[:4].copy()
    for index, column in enumerate(columns):
        gaps = np.isnan(base[:, index]) | ((base[:, index] == UNKNOWN) & bool(column.words))
        base[gaps, index] = column.card.typical or 0.0
    try:
        failure = None if _finite(run(base)) else "its answers are not finite"
    except Exception as error:  # the runtime's exceptions share no public base class
        failure = str(error)
    if failure:
        raise CannotAdopt("samples", f"The graph cannot answer the sample rows; give others with --samples: {failure}.")

    def takes(index: int, number: float) -> bool:
        changed = base.copy()
        changed[:, index] = number
        try:
            return _finite(run(changed))
        except Exception:
            return False

    tried = []
    for index, column in enumerate(columns):
        card = column.card
        closed = card.kind == "category" and (card.closed or not takes(index, UNKNOWN))
        # Where a missing value is an unknown word, it is accepted as one.
        required = card.required or (closed and column.missing == column.unknown) or not takes(index, np.nan)
        tried.append(replace(column, card=card.model_copy(update={"closed": closed, "required": required})))
    return tried


def _finite(answers: Sequence[Array]) -> bool:
    return all(np.isfinite(array).all() for array in answers if array.dtype.kind == "f")
