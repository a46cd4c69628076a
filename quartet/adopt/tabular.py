"""`quartet adopt --task tabular`: pipelines of scikit-learn that skl2onnx exported, and other graphs of columns.

The service sends one matrix of numbers, NaN for missing values. The composed graph takes it apart into the inputs of the
pipeline, and looks up the words of categories by their index.
"""

import argparse
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto

from quartet.adopt.base import AdoptTask, Proposal
from quartet.adopt.composition import Composition, element_of, row_runner
from quartet.adopt.graph import Array, CannotAdopt, Loaded, Value, declare, inputs_of, outputs_of
from quartet.adopt.labels import labels_of
from quartet.adopt.samples import Samples
from quartet.adopt.tables import Table, draw_rows, read_table, with_gaps
from quartet.adopt.tracing import Facts, Word, attributes_of, constants_of, facts_of
from service.errors import InvalidRequest
from service.inference.cards import ManifestBase
from service.tasks.tabular.columns import UNKNOWN, ColumnCard
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.tabular.rows import Columns, Floats, from_records

_ROWS = "rows"
Run = Callable[[Floats], Sequence[Array]]
# Golden rows, and rows on which the graph's answers are looked at.
_GOLDEN, _TRIED = 16, 256
_MOST_COLUMNS = 10_000
# How far the probabilities of a row may be from 1 together.
_SUM_TOLERANCE = 1e-3
# Some classifiers, such as SVC, do not decide for the likeliest label.
_LEAST_AGREEMENT = 0.8
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


@dataclass(frozen=True)
class _Answer:
    """What the graph answers: probabilities of labels, or without labels a number."""

    output: Value
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Classes(NamedTuple):
    """Labels in the order of the probabilities; `sure` if the classifier itself states them."""

    labels: tuple[str, ...]
    sure: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a table."""
    parser.add_argument(
        "--target", metavar="NAME", help="what is predicted; the answer states it (default: the name of the model)"
    )
    parser.add_argument(
        "--columns",
        metavar="A,B,C",
        help="the names of the columns, where the graph takes a matrix (default: the names of the graph's inputs, or "
        "the header of --samples)",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="the classes, one a line (default: those that the graph holds)"
    )


def propose(loaded: Loaded, options: argparse.Namespace) -> Proposal:
    """A graph that answers at `/v1/predict-tabular`; see `AdoptTask`."""
    table = read_table(options.samples) if options.samples else None
    inputs = inputs_of(loaded.model)
    widths = [_width(value) for value in inputs]
    names = _names(inputs, widths, options.columns, table)
    ends = np.cumsum(widths).tolist()
    parts = {value.name: range(end - width, end) for value, width, end in zip(inputs, widths, ends, strict=True)}
    dtypes = [value.dtype for value in inputs for _ in parts[value.name]]
    facts = facts_of(loaded.model, parts)
    columns = [_column(*each, table) for each in zip(names, dtypes, facts, strict=True)]
    model = compose_inputs(loaded.model, columns, parts)
    run = row_runner(model, loaded.source.file)
    if table is None:
        rows = draw_rows([column.card for column in columns], facts, _TRIED)
        columns = _tried(columns, rows, run)
        golden = with_gaps(rows[:_GOLDEN], [column.card for column in columns])
    else:
        rows, columns = _read_rows(table, columns, options.samples)
        columns = _tried(columns, rows, run)
        rows = _some(_answerable(rows, columns), _TRIED)
        golden = _some(rows, _GOLDEN)
    answer = _answer(loaded, model, rows, run, options.labels)
    composed = compose_answer(model, answer, len(columns))
    ignored = tuple(name for name in table.header if name not in names) if table else ()
    target = options.target or options.name

    def make_manifest(fields: Mapping[str, Any]) -> ManifestBase:
        described = f"{target} from {len(columns)} column{'s' * (len(columns) > 1)} ({loaded.source.file}, trained elsewhere)"
        return TabularManifest(
            **{**fields, "description": described},
            kind="classification" if answer.labels else "regression",
            target=target,
            columns=tuple(column.card for column in columns),
            ignored=ignored,
            labels=answer.labels,
        )

    changed = f"one input {_ROWS}, a matrix of {len(columns)} columns, instead of {', '.join(parts)}"
    return Proposal(
        loaded.changed(composed, changed, *answer.notes),
        Samples.of_rows({composed.graph.input[0].name: golden}, "given" if table else "random"),
        make_manifest,
        rows=True,
        call=_call(columns, golden[0], options.name),
    )


TABULAR = AdoptTask("rows of a table, to a class or a number", add_options, propose)


def _width(value: Value) -> int:
    """The columns of an input."""
    shape = value.shape or ()
    if len(shape) not in (1, 2) or (len(shape) == 2 and not (isinstance(shape[1], int) and shape[1])):
        raise CannotAdopt(
            "no table",
            f"The input {value.name!r} has the shape {list(shape)}: a table needs inputs of (rows, columns), with a "
            "stated number of columns.",
        )
    return int(shape[1]) if len(shape) == 2 else 1


def _names(inputs: Sequence[Value], widths: Sequence[int], given: str | None, table: Table | None) -> list[str]:
    """The name of each column."""
    count = sum(widths)
    if count > _MOST_COLUMNS:
        raise CannotAdopt("too large", f"The graph takes {count} columns; at most {_MOST_COLUMNS} can be served.")
    if given is not None:
        names = [name.strip() for name in given.split(",")]
    elif max(widths) == 1:
        names = [value.name for value in inputs]
    elif table is not None:
        names = list(table.header[:count])
    else:
        matrices = ", ".join(value.name for value, width in zip(inputs, widths, strict=True) if width > 1)
        raise CannotAdopt(
            "columns", f"The graph takes a matrix ({matrices}) without names: name its {count} columns with --columns."
        )
    if len(names) != count or len({*names}) < count or not all(names):
        raise CannotAdopt("columns", f"The graph takes {count} columns: give as many distinct names with --columns.")
    if table is not None and (missing := [name for name in names if name not in table.header]):
        raise CannotAdopt("samples", f"The table of --samples lacks the column {missing[0]!r}.")
    return names


def _column(name: str, dtype: str, facts: Facts, table: Table | None) -> Column:
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
        if not numbers or facts.std is not None or facts.thresholds:
            return Column(_number_card(name, dtype, facts), dtype)
        card = ColumnCard(name=name, kind="category", values=tuple(map(str, numbers)), closed=facts.closed)
        other = max(numbers) + 1
        return Column(card, dtype, tuple(numbers), other, other)
    words = [word for word in facts.words if isinstance(word, str)] or (table.words(name) if table else [])
    if not words:
        raise CannotAdopt(
            "categories",
            f"The graph holds no words of the column {name!r}: give rows that have all of them with --samples FILE.csv.",
        )
    unknown = "(unknown)"
    while unknown in words:
        unknown = f"({unknown})"
    card = ColumnCard(name=name, kind="category", values=tuple(words), closed=facts.closed)
    return Column(card, dtype, tuple(words), unknown if facts.missing is None else facts.missing, unknown)


def _number_card(name: str, dtype: str, facts: Facts) -> ColumnCard:
    integer = not dtype.startswith("float")
    middle = float(np.median(facts.thresholds)) if facts.thresholds else None
    typical = next((each for each in (facts.mean, facts.imputed, middle) if each is not None), None)
    if typical is not None:
        typical = float(round(typical)) if integer else float(f"{typical:.4g}")
    # An integer cannot be NaN, and a graph that ignores NaN answers something.
    required = integer or not facts.nullable
    return ColumnCard(name=name, integer=integer, required=required, typical=typical, mean=facts.mean, std=facts.std)


def compose_inputs(model: ModelProto, columns: Sequence[Column], parts: Mapping[str, range]) -> ModelProto:
    """The graph with one input: float32, shape (rows, columns), NaN for a missing value, -1 for an unknown word.

    Args:
        model: the graph.
        columns: of the matrix.
        parts: the indices of the columns of each input, by its name.
    """
    composition = Composition(model)
    matrix = composition.name(_ROWS, "table_rows")
    for value in inputs_of(model):
        taken = [columns[index] for index in parts[value.name]]
        if any(column.words for column in taken):
            each = [
                _looked_up(composition, matrix, index, columns[index], value) for index in parts[value.name]
            ]
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


def _finite(answers: Sequence[Array]) -> bool:
    return all(np.isfinite(array).all() for array in answers if array.dtype.kind == "f")


def _tried(columns: Sequence[Column], rows: Floats, run: Run) -> list[Column]:
    """The columns, `required` or `closed` where the graph fails or answers NaN without a value or for another word."""
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


def _read_rows(table: Table, columns: Sequence[Column], path: Path) -> tuple[Floats, list[Column]]:
    """The rows of a table as numbers, and the columns with their statistics."""
    cards = [column.card for column in columns]
    names = [card.name for card in cards]
    records = [{name: row[name] for name in names} for row in table.rows]
    try:
        rows = from_records(records, Columns(cards), len(records), cells=True)
    except InvalidRequest as error:
        raise CannotAdopt("samples", f"{path}: {error.detail}") from None
    return rows, [replace(column, card=_measured(column.card, rows[:, index])) for index, column in enumerate(columns)]


def _measured(card: ColumnCard, values: Floats) -> ColumnCard:
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


def _answerable(rows: Floats, columns: Sequence[Column]) -> Floats:
    """The rows that the graph can answer."""
    required = [index for index, column in enumerate(columns) if column.card.required]
    closed = [index for index, column in enumerate(columns) if column.card.closed]
    good = rows[~(np.isnan(rows[:, required]).any(1) | (rows[:, closed] == UNKNOWN).any(1))]
    if not len(good):
        raise CannotAdopt("samples", "The graph needs a value in every column, and each row of --samples lacks one.")
    return good


def _some(rows: Floats, most: int) -> Floats:
    """At most so many rows, from all parts of the table."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))]


def _answer(loaded: Loaded, model: ModelProto, rows: Floats, run: Run, path: Path | None) -> _Answer:
    """What the graph answers; decided by its answers to the rows."""
    found = dict(zip(outputs_of(model), run(rows), strict=True))
    scores = {value: array for value, array in found.items() if value.dtype.startswith("float")}
    decisions = {value: array for value, array in found.items() if value not in scores}
    listed = ", ".join(f"{value.name} ({value.dtype}, {list(array.shape[1:])})" for value, array in found.items())
    if len(scores) != 1 or len(decisions) > 1:
        raise CannotAdopt(
            "outputs",
            f"The graph has the outputs {listed}; a table is answered by the probabilities of classes, with or without "
            "the class, or by one number.",
        )
    ((value, array),) = scores.items()
    if not decisions and path is None:
        if array.shape not in ((len(rows),), (len(rows), 1)):
            raise CannotAdopt(
                "labels", f"The graph answers with {listed}: name these classes with --labels FILE, one a line."
            )
        return _Answer(value)
    if array.ndim != 2 or array.shape[1] < 2 or not _are_probabilities(array):
        raise CannotAdopt(
            "no probabilities",
            f"The output {value.name!r} has no probabilities, but scores that no calibration relates to them: in "
            "scikit-learn, wrap the classifier in CalibratedClassifierCV.",
        )
    decided = [_as_labels(each) for each in decisions.values()]
    if path is not None:
        labels, _ = labels_of(path, {})
        if len(labels) != array.shape[1]:
            raise CannotAdopt(
                "labels", f"--labels {path} has {len(labels)} labels; the graph has {array.shape[1]} classes."
            )
        candidates = [_Classes(labels, sure=False)]
    else:
        candidates = [each for each in _classes(loaded) if len(each.labels) == array.shape[1]]
    if not candidates:
        raise CannotAdopt("labels", f"The graph does not name its {array.shape[1]} classes: give --labels FILE.")
    if not decided:
        return _Answer(value, candidates[0].labels)
    notes = [f"only the probabilities are kept of the outputs {', '.join(each.name for each in found)}"]
    for labels, sure in candidates:
        share = _agreement(array, labels, decided[0])
        if sure or share >= _LEAST_AGREEMENT:
            break
    else:
        raise CannotAdopt(
            "labels",
            f"In {1 - share:.0%} of the sample rows the graph decides for another label than the likeliest one: the "
            "labels may be in another order.",
        )
    if share < 1:
        notes.append(f"in {1 - share:.0%} of the sample rows the graph decided for another label than the likeliest one")
    return _Answer(value, labels, tuple(notes))


def _are_probabilities(array: Array) -> bool:
    sums = array.astype(np.float64).sum(1)
    return bool((array >= -_SUM_TOLERANCE).all() and (abs(sums - 1) < _SUM_TOLERANCE).all())


def _as_labels(array: Array) -> list[str]:
    """Decisions as texts; a boolean as 0 or 1, as ZipMap writes it."""
    return [str(each) for each in (array.astype(np.int64) if array.dtype == bool else array).flatten().tolist()]


def _agreement(probabilities: Array, labels: Sequence[str], decided: Sequence[str]) -> float:
    """The share of the rows in which the decision is the likeliest label; near ties do not count."""
    lower, upper = np.sort(probabilities, 1)[:, -2:].T
    clear = upper - lower > _SUM_TOLERANCE
    likeliest = [labels[index] for index in probabilities.argmax(1)]
    same = np.array([one == other for one, other in zip(likeliest, decided, strict=True)])
    return float(same[clear].mean()) if clear.any() else 1.0


def _classes(loaded: Loaded) -> Iterator[_Classes]:
    """What may be the graph's classes, the surest source first."""
    for labels in loaded.classes.values():
        yield _Classes(labels, sure=True)
    constants = constants_of(loaded.model.graph)
    for node in reversed(loaded.model.graph.node):
        for name, value in attributes_of(node).items():
            if name.startswith("classlabels"):
                yield _Classes(tuple(map(str, value)), sure=True)
            if node.op_type == "LabelEncoder" and name.startswith("values"):
                yield _Classes(tuple(map(str, value)), sure=False)
        if node.op_type in ("ArrayFeatureExtractor", "Gather") and node.input[0] in constants:
            yield _Classes(tuple(map(str, constants[node.input[0]].flatten().tolist())), sure=False)


def compose_answer(model: ModelProto, answer: _Answer, columns: int) -> ModelProto:
    """The graph with one output: float32, probabilities of shape (rows, labels), or numbers of shape (rows, 1)."""
    composition = Composition(model)
    width = max(1, len(answer.labels))
    names = ("probabilities", "class_probabilities") if answer.labels else ("value", "predicted_value")
    shaped = composition.after(
        "Reshape", answer.output.name, composition.constant(np.array([-1, width], np.int64))
    )
    name = composition.after("Cast", shaped, output=composition.name(*names), to=element_of("float32"))
    return composition.finish(
        [declare(model.graph.input[0].name, "float32", ["batch", columns])], [declare(name, "float32", ["batch", width])]
    )


def _call(columns: Sequence[Column], row: Floats, name: str) -> str:
    """A command that asks for the answer to a row."""
    values = {column.card.name: column.card.write(float(number)) for column, number in zip(columns, row, strict=True)}
    body = json.dumps({"rows": [values]}, ensure_ascii=False)
    return f"curl -d {shlex.quote(body)} -H 'Content-Type: application/json' 'localhost:8000/v1/predict-tabular?model={name}'"
