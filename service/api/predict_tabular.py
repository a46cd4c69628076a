"""POST /v1/predict-tabular: rows of named numbers to class probabilities, or to a number."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.exchange import Answer, Exchange
from service.api.labels import Label
from service.api.problems import RESPONSES
from service.api.thin import ThinRoute
from service.errors import InvalidRequest, UnsupportedMediaType
from service.inference.manifests.tabular import TabularManifest
from service.inference.repository import Model
from service.tasks.classification import top
from service.tasks.tabular import Floats, from_csv, from_records

router = APIRouter(route_class=ThinRoute, tags=["inference"])

# Bodies that are read on the event loop; larger ones go to a thread.
_INLINE_BYTES = 50_000


class TabularQuery(BaseModel):
    """The options of /v1/predict-tabular."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("tabular", description="which model answers; `GET /v1/models` lists them")
    top_k: int = Field(5, ge=1, le=1000, description="the most labels in each answer, where classes are told")


class RowPrediction(BaseModel):
    """The answer for one row."""

    labels: list[Label] | None = Field(None, description="where classes are told, the likeliest first")
    value: float | None = Field(None, examples=[22.4], description="where a number is told")


class TabularAnswer(BaseModel):
    """The answers for all rows of a request, in the order sent."""

    model: str = Field(examples=["tabular"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"], description="where it ran: cpu or cuda")
    target: str = Field(examples=["diagnosis"], description="what is told")
    results: list[RowPrediction]


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["rows"],
                    "additionalProperties": False,
                    "properties": {
                        "rows": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
                        }
                    },
                }
            },
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}


def show_columns(models: Mapping[str, Model]) -> None:
    """Puts the real columns of the model that answers by default into the OpenAPI page: a row of their means."""
    model = models.get(TabularQuery.model_fields["model"].default)
    if model is None or not isinstance(model.manifest, TabularManifest):
        return
    manifest = model.manifest
    row = {column.name: float(f"{column.mean:.4g}") for column in manifest.columns}
    content = _BODY["requestBody"]["content"]
    content["application/json"]["example"] = {"rows": [row]}
    lines = (",".join(f'"{name}"' if "," in name else name for name in row), ",".join(map(str, row.values())))
    content["text/csv"]["example"] = "\n".join(lines) + "\n"


@router.post(
    "/v1/predict-tabular",
    summary="Predict from numbers",
    response_model=TabularAnswer,
    response_model_exclude_none=True,
    responses=RESPONSES,
    openapi_extra=_BODY,
)
async def predict_tabular(exchange: Exchange, query: Annotated[TabularQuery, Query()]) -> Any:
    """Tells a class or a number from rows of named numbers, in the order sent.

    Send JSON (`{"rows": [{"<column>": <number>, …}]}`, null where a value is missing) or CSV under a line of column
    names (an empty cell where a value is missing), the columns in any order; `GET /v1/models/tabular` lists them.
    """
    state = exchange.app.state
    body = await exchange.read()
    model = state.repository.get(query.model)
    manifest = model.manifest_as(TabularManifest)
    columns = tuple(column.name for column in manifest.columns)
    read = partial(_read_rows, exchange.media_type, body, columns, exchange.settings.max_items)
    rows = read() if len(body) <= _INLINE_BYTES else await state.images.in_pool(read)
    exchange.note(model, len(rows))
    answers, progress = await state.images.run_prepared(exchange, model, list(rows))
    results: list[dict[str, Any]]
    if manifest.kind == "classification":
        results = [{"labels": top(probabilities, manifest.labels, query.top_k)} for (probabilities,) in answers]
    else:
        results = [{"value": float(f"{value[0]:.7g}")} for (value,) in answers]
    answer = {**model.signature, "target": manifest.target, "results": results}
    return Answer(pydantic_core.to_json(answer), timing=progress.header())


def _read_rows(media_type: str, body: bytes, columns: tuple[str, ...], most: int) -> Floats:
    if media_type == "text/csv":
        try:
            return from_csv(body.decode("utf-8-sig"), columns, most)
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"The CSV is no valid UTF-8 ({error.reason} at byte {error.start}).") from None
    if media_type not in ("application/json", ""):
        raise UnsupportedMediaType(f"Content-Type {media_type} is not read here: send application/json or text/csv.")
    try:
        document = pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidRequest(f"The body is no JSON ({error}).") from None
    only_rows = isinstance(document, dict) and set(document) == {"rows"}
    return from_records(document["rows"] if only_rows else None, columns, most)
