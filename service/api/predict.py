"""POST /v1/predict: images to labels with calibrated probabilities."""

import asyncio
from functools import partial
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.api.exchange import BREATH, Answer, Exchange
from service.api.labels import Label, LabelQuery
from service.api.problems import RESPONSES
from service.api.samples import CAT
from service.api.thin import ThinRoute
from service.api.uploads import body_schema, read_images
from service.inference.manifests.classification import ClassifierManifest
from service.tasks.classification import conformal_point, label_set, prepare, top

router = APIRouter(route_class=ThinRoute, tags=["inference"])


class PredictQuery(LabelQuery):
    """The options of /v1/predict."""

    model: str = Field("classifier", description="which model answers; `GET /v1/models` lists them")


class Prediction(BaseModel):
    """The answer for one image."""

    name: str | None = Field(examples=["cat.jpg"], description="the file's name, where the request gave one")
    labels: list[Label] = Field(description="the likeliest first")
    label_set: list[str] | None = Field(
        None, examples=[["cat", "dog"]], description="only with `coverage`: labels that together cover the truth"
    )


class PredictAnswer(BaseModel):
    """The answers for all images of a request, in the order sent."""

    model: str = Field(examples=["classifier"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"], description="where it ran: cpu or cuda")
    results: list[Prediction]


@router.post(
    "/v1/predict",
    summary="Classify images",
    response_model=PredictAnswer,
    response_model_exclude_none=True,
    responses=RESPONSES,
    openapi_extra=body_schema(CAT),
)
async def predict(exchange: Exchange, query: Annotated[PredictQuery, Query()]) -> Any:
    """Classifies one or many images, in the order sent.

    Send an image as the body (`Content-Type: image/jpeg`, `image/png`, `image/webp`, …), a multipart form with one
    or many `files`, or JSON with base64. EXIF rotation is honoured, transparency is laid over white, and of an
    animation the first frame counts. The header `Server-Timing` tells where the time went.
    """
    state = exchange.app.state
    uploads = await read_images(exchange)
    model = state.repository.get(query.model)
    manifest = model.manifest_as(ClassifierManifest)
    exchange.note(model, len(uploads))
    point = conformal_point(manifest, query.coverage) if query.coverage is not None else None
    rows, _, progress = await state.images.run(exchange, model, partial(prepare, manifest=manifest), uploads)
    results: list[dict[str, Any]] = []
    for upload, (probabilities,) in zip(uploads, rows, strict=True):
        result: dict[str, Any] = {"name": upload.name, "labels": top(probabilities, manifest.labels, query.top_k)}
        if point is not None:
            result["label_set"] = label_set(probabilities, manifest.labels, point.threshold)
        results.append(result)
        if len(results) % BREATH == 0:
            await asyncio.sleep(0)
    answer = {**model.signature, "results": results}
    return Answer(pydantic_core.to_json(answer), timing=progress.header())
