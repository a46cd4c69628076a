"""The task `tabular`: predict-tabular."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic_core
from pydantic import BaseModel, Field

from service.errors import BodyTooLarge, InvalidRequest
from service.tasks.base import AnswerBase, Documents, Format, Operation, Records, Results, Sample, Task, model_option
from service.tasks.call import Call
from service.tasks.documents import OCTETS, a_file, object_schema, parse_json
from service.tasks.familiarity import StrictOptions, strict_level, typicality_field, unfamiliar_field
from service.tasks.labels import Label
from service.tasks.pauses import map_with_pauses
from service.tasks.slices import count_bytes
from service.tasks.tabular.agreement import AGREEMENT
from service.tasks.tabular.columns import LARGEST, LARGEST_INTEGER, ColumnCard
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.tabular.result import describe
from service.tasks.tabular.rows import Floats, from_csv, from_records
from service.tasks.tabular.statistics import STATISTICS
from service.tasks.truth import LABEL, NUMBER

_VALUE = {"type": ["number", "null"], "minimum": -LARGEST, "maximum": LARGEST}
# CSV has a header and at least one row.
_TWO_LINES = r"[^\r\n][\r\n]+[^\r\n]"
# Words of a category that the API page lists.
_WORDS_SHOWN = 12


class TabularOptions(StrictOptions):
    """The options of `predict-tabular`."""

    model: str = model_option("tabular")
    top_k: int = Field(5, ge=1, le=1000, description="the most labels in each answer, where classes are predicted")


class RowPrediction(BaseModel):
    """The answer for one row."""

    labels: list[Label] | None = Field(
        None, description="where classes are predicted, the likeliest first; none with `strict` for an unfamiliar row"
    )
    value: float | None = Field(
        None, examples=[22.4], description="where a number is predicted; null for an unfamiliar row"
    )
    unknown: list[str] | None = Field(
        None, examples=[["city"]], description="columns with a word that no training row had, if there are any"
    )
    typicality: float | None = typicality_field()
    unfamiliar: float | None = unfamiliar_field()


class TabularAnswer(AnswerBase):
    """The answers for all rows of a request, in the order sent."""

    target: str = Field(examples=["diagnosis"], description="what is predicted")
    results: list[RowPrediction]


async def predict_tabular(call: Call[TabularManifest, TabularOptions]) -> Results:
    """Predicts a class or a number from the rows of a table, in the order sent.

    Send JSON (`{"rows": [{"<column>": <value>, …}]}`; null is a missing value) or CSV with a header of column names (an
    empty cell is a missing value). Columns may come in any order. Values are written as in the training table;
    `GET /v1/models/tabular` lists columns and words.
    """
    manifest, options = call.manifest, call.options
    level = strict_level(manifest, options)
    rows = await call.infer(call.inputs)

    def describe_row(row: Floats, outputs: tuple[Any, ...]) -> dict[str, Any]:
        return describe(manifest, row, outputs, options.top_k, level)

    return Results(await map_with_pauses(call.scope, describe_row, call.inputs, rows), {"target": manifest.target})


def _parse_csv(body: bytes, manifest: TabularManifest, limit: int) -> list[Floats]:
    names = (*manifest.reading.names, *manifest.reading.ignored)
    most = (limit + 1) * (len(names) + sum(name.count(",") for name in names))
    if not manifest.reading.plain:
        most *= 4  # commas inside of cells
    # Each cell and each line becomes an object, so the separators are counted before splitting.
    bounds = ((b",", most), (b";", most), (b"\t", most), (b"\n", 2 * limit + 100), (b"\r", 2 * limit + 100))
    for separator, bound in bounds:
        if count_bytes(body, separator, bound) > bound:
            raise BodyTooLarge(f"The CSV holds more than {limit} rows of {len(names)} cells: send several requests.")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The CSV is not valid UTF-8 ({error.reason} at byte {error.start}).") from None
    return list(from_csv(text, manifest.reading, limit))


def _parse_json(body: bytes, manifest: TabularManifest, limit: int) -> list[Floats]:
    cells = (limit + 1) * (len(manifest.columns) + len(manifest.reading.ignored) + 1)
    document = parse_json(body, strings=2 * cells, values=2 * cells)
    only_rows = isinstance(document, dict) and set(document) == {"rows"}
    return list(from_records(document["rows"] if only_rows else None, manifest.reading, limit))


def _read_records(rows: list[Any], manifest: TabularManifest) -> list[Floats]:
    try:
        return list(from_records(rows, manifest.reading, len(rows), cells=True))
    except InvalidRequest as error:
        if len(rows) > 1:
            raise
        # The number of a single row is redundant.
        raise InvalidRequest(error.detail.removeprefix("Row 0, "), index=0) from None


def _write_record(row: Floats, manifest: TabularManifest) -> dict[str, Any]:
    """A row as the training table writes it."""
    return {card.name: card.write(float(value)) for card, value in zip(manifest.columns, row, strict=True)}


def _json_schema(manifest: TabularManifest | None, limit: int) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "object", "additionalProperties": _VALUE}
    if manifest:
        textual = manifest.reading.textual
        row = object_schema(**{column.name: _column_schema(column, textual) for column in manifest.columns})
        row["properties"] |= {name: {"description": "ignored"} for name in sorted(manifest.reading.ignored)}
    rows = {"type": "array", "minItems": 1, "maxItems": limit, "items": row}
    return {"title": "PredictTabularRequest", "description": "Rows of a table.", **object_schema(rows=rows)}


def _column_schema(column: ColumnCard, textual: bool) -> dict[str, Any]:
    """The JSON schema of a column's values; `textual` if numbers may be in strings."""
    missing = list(column.missing_words)
    null, none = ([], []) if column.required else (["null"], [None])
    if column.kind == "number":
        greatest = LARGEST_INTEGER if column.integer else LARGEST
        number = "integer" if column.integer else "number"
        value = {"type": [number, *null], "minimum": -greatest, "maximum": greatest}
        texts = [{"type": "string", "examples": [str(column.example)]}] if textual else []
        words = [{"enum": missing}] if missing else []
        return {"anyOf": [value, *texts, *words]} if texts or words else value
    if column.kind == "boolean":
        return {"enum": [*column.values, True, False, *missing, *none]}
    if column.kind == "date":
        return {"type": ["string", *null], "examples": [column.example], "description": "a date"}
    if column.closed:
        numbers = [int(word) for word in column.values if word.removeprefix("-").isdecimal()]
        return {"enum": [*column.values, *numbers, *missing, *none]}
    listed = ", ".join(column.values[:_WORDS_SHOWN]) + (", …" if len(column.values) > _WORDS_SHOWN else "")
    return {
        "type": ["string", "number", *null],
        "examples": [column.example],
        "description": f"known: {listed}; any other word counts as unknown",
    }


def _usual_row(manifest: TabularManifest | None) -> dict[str, Any]:
    """A typical row."""
    return {column.name: column.example for column in manifest.columns} if manifest else {"column": 1.0}


def _csv_example(manifest: TabularManifest | None) -> Any:
    row = _usual_row(manifest)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((row, row.values()))
    return text.getvalue()


def row_samples(inputs: Mapping[str, Any], manifest: TabularManifest, companion: None) -> list[Sample]:  # noqa: ARG001
    """The rows of the golden file, those without a missing value first; such a value is null."""
    (rows,) = (inputs[spec.name] for spec in manifest.inputs)

    def written(row: npt.NDArray[np.float32]) -> bytes:
        return pydantic_core.to_json({"rows": [_write_record(row, manifest)]})

    order = sorted(range(len(rows)), key=lambda index: bool(np.isnan(rows[index]).any()))
    return [Sample("application/json", written(rows[index]), index) for index in order]


TABULAR = Task(
    name="tabular",
    manifest=TabularManifest,
    operations=(
        Operation(
            name="predict-tabular",
            summary="Predict from the rows of a table",
            run=predict_tabular,
            options=TabularOptions,
            reads=Documents(
                {
                    "application/json": Format(
                        _json_schema, _parse_json, lambda manifest: {"rows": [_usual_row(manifest)]}
                    ),
                    "text/csv": Format(
                        lambda _manifest, _limit: {"type": "string", "format": "csv", "pattern": _TWO_LINES},
                        _parse_csv,
                        _csv_example,
                    ),
                    OCTETS: Format(lambda _manifest, _limit: a_file("CSV in UTF-8"), _parse_csv, _csv_example),
                },
                records=Records(lambda manifest: manifest.reading.names, _read_records, str.strip, _write_record),
            ),
            answer=TabularAnswer,
        ),
    ),
    samples=row_samples,
    agreement=AGREEMENT,
    truth=lambda manifest: LABEL if manifest.kind == "classification" else NUMBER,
    statistics=STATISTICS,
)
