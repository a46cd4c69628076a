"""`quartet adopt --task tabular`: pipelines of scikit-learn that skl2onnx exported, and other graphs of columns.

The service sends one matrix of numbers, with NaN for missing values. The composed graph takes it apart into the inputs
of the pipeline, and looks up the words of categories by their index.
"""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from quartet.adopt.base import AdoptTask, Proposal
from quartet.adopt.composition import row_runner
from quartet.adopt.graph import Array, CannotAdopt, Loaded, Value, inputs_of, outputs_of
from quartet.adopt.samples import Samples
from quartet.adopt.tabular.answers import compose_answer, read_answer
from quartet.adopt.tabular.columns import ROWS, Column, compose_inputs, make_column, measured, try_columns
from quartet.adopt.tabular.rows import Table, draw_rows, read_table, with_gaps
from quartet.adopt.tabular.tracing import facts_of
from service.errors import InvalidRequest
from service.inference.cards import ManifestBase
from service.tasks.tabular.columns import UNKNOWN
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.tabular.rows import Columns, Floats, from_records

# Golden rows, and rows on which the graph's answers are looked at.
_GOLDEN, _TRIED = 16, 256
_MOST_COLUMNS = 10_000
# Decimals to which two answers are the same.
_DIGITS = 4
# Words of a category in the model card.
_WORDS_SHOWN = 12


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
    if options.ranges:
        raise CannotAdopt(
            "range", "--range is of plain tensors: the values of the columns come from the graph, or from --samples."
        )
    table = read_table(options.samples) if options.samples else None
    inputs = inputs_of(loaded.model)
    widths = [_width(value) for value in inputs]
    names = _names(inputs, widths, options.columns, table)
    ends = np.cumsum(widths).tolist()
    parts = {value.name: range(end - width, end) for value, width, end in zip(inputs, widths, ends, strict=True)}
    dtypes = [value.dtype for value in inputs for _ in parts[value.name]]
    facts = facts_of(loaded.model, parts)
    columns = [make_column(*each, table) for each in zip(names, dtypes, facts, strict=True)]
    model = compose_inputs(loaded.model, columns, parts)
    run = row_runner(model, loaded.source.file)
    if table is None:
        rows = draw_rows([column.card for column in columns], facts, _TRIED)
        columns = try_columns(columns, rows, run)
    else:
        rows, columns = _read_rows(table, columns, options.samples)
        columns = try_columns(columns, rows, run)
        rows = _some(_answerable(rows, columns), _TRIED)
    found = dict(zip(outputs_of(model), run(rows), strict=True))
    answer = read_answer(loaded, found, options.labels)
    rows = _varied(rows, found[answer.output])
    golden = rows if table else with_gaps(rows, [column.card for column in columns])
    composed = compose_answer(model, answer, len(columns))
    ignored = tuple(name for name in table.header if name not in names) if table else ()
    target = options.target or options.name

    def make_manifest(fields: Mapping[str, Any]) -> ManifestBase:
        described = (
            f"{target} from {len(columns)} column{'s' * (len(columns) > 1)} ({loaded.source.file}, trained elsewhere)"
        )
        return TabularManifest(
            **{**fields, "description": described},
            kind="classification" if answer.labels else "regression",
            target=target,
            columns=tuple(column.card for column in columns),
            ignored=ignored,
            labels=answer.labels,
        )

    changed = f"one input {ROWS}, a matrix of {len(columns)} columns, instead of {', '.join(parts)}"
    return Proposal(
        loaded.changed(composed, changed, *answer.notes),
        Samples.of_rows({composed.graph.input[0].name: golden}, "given" if table else "random"),
        make_manifest,
        trials=Samples.of_rows({composed.graph.input[0].name: rows}, "random"),
        rows=True,
        sections=(_answered(answer.labels, target), _described(columns)),
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


def _read_rows(table: Table, columns: Sequence[Column], path: Path) -> tuple[Floats, list[Column]]:
    """The rows of a table as numbers, and the columns with their statistics."""
    cards = [column.card for column in columns]
    names = [card.name for card in cards]
    records = [{name: row[name] for name in names} for row in table.rows]
    try:
        rows = from_records(records, Columns(cards), len(records), cells=True)
    except InvalidRequest as error:
        raise CannotAdopt("samples", f"{path}: {error.detail}") from None
    return rows, [replace(column, card=measured(column.card, rows[:, index])) for index, column in enumerate(columns)]


def _answerable(rows: Floats, columns: Sequence[Column]) -> Floats:
    """The rows that the graph can answer."""
    required = [index for index, column in enumerate(columns) if column.card.required]
    closed = [index for index, column in enumerate(columns) if column.card.closed]
    good: Floats = rows[~(np.isnan(rows[:, required]).any(1) | (rows[:, closed] == UNKNOWN).any(1))]
    if not len(good):
        raise CannotAdopt("samples", "The graph needs a value in every column, and each row of --samples lacks one.")
    return good


def _some(rows: Floats, most: int) -> Floats:
    """At most so many rows, from all parts of the table."""
    chosen: Floats = rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))]
    return chosen


def _varied(rows: Floats, answers: Array) -> Floats:
    """The golden rows: as many different answers as there are, from all of their range."""
    _, first = np.unique(answers.reshape(len(rows), -1).round(_DIGITS), axis=0, return_index=True)
    others = np.setdiff1d(np.arange(len(rows)), first)
    return np.concatenate([_some(rows[first], _GOLDEN), rows[others]])[:_GOLDEN]


def _answered(labels: Sequence[str], target: str) -> str:
    """What is predicted, for the model card."""
    if not labels:
        return f"It predicts the number {target}."
    return f"It predicts {target}, one of {', '.join(labels)}. Its probabilities were not calibrated here."


def _described(columns: Sequence[Column]) -> str:
    """The columns, for the model card."""
    lines = ["## Columns", "", "| column | values | a missing value |", "|---|---|---|"]
    for card in (column.card for column in columns):
        values = "integers" if card.integer else "numbers"
        if card.kind != "number":
            values = ", ".join(card.values[:_WORDS_SHOWN]) + (", …" if len(card.values) > _WORDS_SHOWN else "")
        if card.kind == "category":
            values += "; any other word is refused" if card.closed else "; any other word is unknown"
        lines.append(f"| {_cell(card.name)} | {_cell(values)} | {'refused' if card.required else 'accepted'} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _call(columns: Sequence[Column], row: Floats, name: str) -> str:
    """A command that asks for the answer to a row."""
    values = {column.card.name: column.card.write(float(number)) for column, number in zip(columns, row, strict=True)}
    body = json.dumps({"rows": [values]}, ensure_ascii=False)
    url = f"localhost:8000/v1/predict-tabular?model={name}"
    return f"curl -d {shlex.quote(body)} -H 'Content-Type: application/json' '{url}'"
