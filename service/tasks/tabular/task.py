"""The task `tabular`: predict-tabular."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydantic_core
from pydantic import BaseModel, Field

from service.errors import BodyTooLarge, InvalidRequest
from service.tasks.base import (
    AnswerBase,
    Documents,
    Format,
    Operation,
    Options,
    Records,
    Results,
    Sample,
    Task,
    model_option,
)
from service.tasks.call import Call
from service.tasks.documents import count_bytes, parse_json
from service.tasks.labels import Label, top
from service.tasks.pauses import map_with_pauses
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.tabular.rows import LARGEST, Floats, from_csv, from_records, parse_cell

_VALUE = {"type": ["number", "null"], "minimum": -LARGEST, "maximum": LARGEST}


class TabularOptions(Options):
    """The options of `predict-tabular`."""

    model: str = model_option("tabular")
    top_k: int = Field(5, ge=1, le=1000, description="the most labels in each answer, where classes are predicted")


class RowPrediction(BaseModel):
    """The answer for one row."""

    labels: list[Label] | None = Field(None, description="where classes are predicted, the likeliest first")
    value: float | None = Field(None, examples=[22.4], description="where a number is predicted")


class TabularAnswer(AnswerBase):
    """The answers for all rows of a request, in the order sent."""

    target: str = Field(examples=["diagnosis"], description="what is predicted")
    results: list[RowPrediction]


async def predict_tabular(call: Call[TabularManifest, TabularOptions]) -> Results:
    """Predicts a class or a number from rows of named numbers, in the order sent.

    Send JSON (`{"rows": [{"<column>": <number>, …}]}`, null where a value is missing) or CSV under a line of column
    names (an empty cell where a value is missing), the columns in any order; `GET /v1/models/tabular` lists them.
    """
    manifest = call.manifest
    rows = await call.infer(call.inputs)

    def describe(outputs: tuple[Any]) -> dict[str, Any]:
        if manifest.kind == "classification":
            return {"labels": top(outputs[0], manifest.labels, call.options.top_k)}
        return {"value": float(f"{outputs[0][0]:.7g}")}

    return Results(await map_with_pauses(call.context, describe, rows), {"target": manifest.target})


def _columns(manifest: TabularManifest) -> tuple[str, ...]:
    return tuple(column.name for column in manifest.columns)


def _parse_csv(body: bytes, manifest: TabularManifest, limit: int) -> list[Floats]:
    columns = _columns(manifest)
    most = (limit + 1) * (len(columns) + sum(name.count(",") for name in columns))
    # Each comma and each line becomes an object; what cannot be rows of this model is not even split.
    for separator, bound in ((b",", most), (b"\n", 2 * limit + 100), (b"\r", 2 * limit + 100)):
        if count_bytes(body, separator, bound) > bound:
            raise BodyTooLarge(f"The CSV holds more than {limit} rows of {len(columns)} cells: send several requests.")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The CSV is not valid UTF-8 ({error.reason} at byte {error.start}).") from None
    return list(from_csv(text, columns, limit))


def _parse_json(body: bytes, manifest: TabularManifest, limit: int) -> list[Floats]:
    cells = (limit + 1) * (len(manifest.columns) + 1)
    document = parse_json(body, strings=2 * cells, values=2 * cells)
    only_rows = isinstance(document, dict) and set(document) == {"rows"}
    return list(from_records(document["rows"] if only_rows else None, _columns(manifest), limit))


def _read_records(rows: list[Any], manifest: TabularManifest) -> list[Floats]:
    try:
        return list(from_records(rows, _columns(manifest), len(rows)))
    except InvalidRequest as error:
        if len(rows) > 1:
            raise
        # Whoever asks about one row knows which it is.
        raise InvalidRequest(error.detail.removeprefix("Row 0, "), index=0) from None


def _json_schema(manifest: TabularManifest | None, limit: int) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "object", "additionalProperties": _VALUE}
    if manifest:
        columns = _columns(manifest)
        row = {
            "type": "object",
            "required": list(columns),
            "additionalProperties": False,
            "properties": dict.fromkeys(columns, _VALUE),
        }
    return {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {"rows": {"type": "array", "minItems": 1, "maxItems": limit, "items": row}},
    }


def _csv_schema(_manifest: TabularManifest | None, _limit: int) -> dict[str, Any]:
    return {"type": "string", "format": "csv"}


def _means(manifest: TabularManifest) -> dict[str, float]:
    """A row of the columns' means."""
    return {column.name: float(f"{column.mean:.4g}") for column in manifest.columns}


def _json_example(manifest: TabularManifest | None) -> Any:
    return {"rows": [_means(manifest) if manifest else {"column": 1.0}]}


def _csv_example(manifest: TabularManifest | None) -> Any:
    row = _means(manifest) if manifest else {"column": 1.0}
    names = ",".join(f'"{name}"' if "," in name else name for name in row)
    return f"{names}\n{','.join(map(str, row.values()))}\n"


def row_samples(inputs: Mapping[str, Any], manifest: TabularManifest, companion: None) -> list[Sample]:  # noqa: ARG001
    """The rows of the golden file, those without a missing value first; such a value is null."""
    (unordered,) = (inputs[spec.name] for spec in manifest.inputs)
    rows = sorted(unordered, key=lambda row: bool(np.isnan(row).any()))
    columns = _columns(manifest)
    return [
        Sample("application/json", pydantic_core.to_json({"rows": [dict(zip(columns, map(_plain, row), strict=True))]}))
        for row in rows
    ]


def _plain(value: Any) -> float | None:
    """A float32 with as many digits as it has."""
    return None if math.isnan(value) else float(f"{value:.7g}")


TABULAR = Task(
    name="tabular",
    manifest=TabularManifest,
    operations=(
        Operation(
            name="predict-tabular",
            summary="Predict from numbers",
            run=predict_tabular,
            options=TabularOptions,
            reads=Documents(
                {
                    "application/json": Format(_json_schema, _parse_json, _json_example),
                    "text/csv": Format(_csv_schema, _parse_csv, _csv_example),
                },
                records=Records(_columns, _read_records, parse_cell),
            ),
            answer=TabularAnswer,
        ),
    ),
    samples=row_samples,
)
