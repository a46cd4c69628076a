"""POST /v1/detect: images to objects, each with a label, a score and a box."""

import asyncio
from functools import partial
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.exchange import BREATH, Answer, Exchange
from service.api.problems import RESPONSES
from service.api.samples import SMEAR
from service.api.thin import ThinRoute
from service.api.uploads import body_schema, read_images
from service.inference.manifests.detection import DetectorManifest
from service.tasks.detection import Box, choose_threshold, class_filter, count_labels, detections, prepare
from service.tasks.drawing import draw_detections
from service.tasks.images import EncodedImage

router = APIRouter(route_class=ThinRoute, tags=["inference"])

PNG = "image/png"


class DetectQuery(BaseModel):
    """The options of /v1/detect."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("detector", description="which model answers; `GET /v1/models` lists them")
    confidence: float | None = Field(
        None, ge=0, le=1, description="the least score that counts; without a choice, the threshold of the best F1"
    )
    precision: float | None = Field(
        None, gt=0, le=1, description="choose the threshold with this share of right detections on the test split"
    )
    recall: float | None = Field(
        None, gt=0, le=1, description="choose the threshold that found this share of the objects of the test split"
    )
    classes: str | None = Field(
        None, examples=["RBC,WBC"], description="only these labels, separated by commas; counts and boxes alike"
    )
    max_detections: int = Field(300, ge=1, le=1000, description="the most boxes of an image, the best first")
    render: bool = Field(False, description="answer with the picture, boxes and labels drawn (one image a request)")


class ThresholdAnswer(BaseModel):
    """The threshold that was used, and the figures that it had on the test split, over all classes."""

    confidence: float = Field(examples=[0.41])
    precision: float = Field(examples=[0.91], description="share of the detections that were right")
    recall: float = Field(examples=[0.9], description="share of the objects that were found")


class DetectedBox(BaseModel):
    """An object, in pixels of the image as it was sent, after EXIF rotation; the origin is the top left corner."""

    label: str = Field(examples=["RBC"])
    index: int = Field(examples=[0], description="its place among the model's labels")
    score: float = Field(examples=[0.88])
    x_min: float = Field(examples=[12.0])
    y_min: float = Field(examples=[30.5])
    x_max: float = Field(examples=[110.2])
    y_max: float = Field(examples=[131.0])


class ImageDetections(BaseModel):
    """The answer for one image."""

    name: str | None = Field(examples=["smear.jpg"], description="the file's name, where the request gave one")
    width: int = Field(examples=[640], description="of the image, in pixels, after EXIF rotation")
    height: int = Field(examples=[480])
    counts: dict[str, int] = Field(examples=[{"RBC": 12}], description="boxes of each label")
    boxes: list[DetectedBox] = Field(description="the best first")


class DetectAnswer(BaseModel):
    """The answers for all images of a request, in the order sent."""

    model: str = Field(examples=["detector"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"], description="where it ran: cpu or cuda")
    threshold: ThresholdAnswer
    results: list[ImageDetections]


@router.post(
    "/v1/detect",
    summary="Detect objects",
    response_model=DetectAnswer,
    responses={
        **RESPONSES,
        200: {"content": {PNG: {"schema": {"type": "string", "format": "binary"}}}, "model": DetectAnswer},
    },
    openapi_extra=body_schema(SMEAR),
)
async def detect(exchange: Exchange, query: Annotated[DetectQuery, Query()]) -> Any:
    """Finds and classifies the objects in one or many images.

    What counts as found depends on a threshold. Choose it by what it did on the test split: `precision=0.95` when a
    false alarm is dear, `recall=0.95` when a miss is, or `confidence` itself; the answer says which threshold was
    used and what it costs. With `render=true`, or `Accept: image/png`, the answer is the picture with the boxes.

    Send images as to `/v1/predict`.
    """
    state = exchange.app.state
    uploads = await read_images(exchange)
    model = state.repository.get(query.model)
    manifest = model.manifest_as(DetectorManifest)
    exchange.note(model, len(uploads))
    threshold = choose_threshold(manifest, query.confidence, query.precision, query.recall)
    classes = class_filter(manifest, query.classes)
    render = exchange.wants_picture(query.render, len(uploads))
    rows, places, progress = await state.images.run(exchange, model, partial(prepare, manifest=manifest), uploads)
    results: list[dict[str, Any]] = []
    for upload, answer, place in zip(uploads, rows, places, strict=True):
        boxes = detections(
            answer,
            place,
            manifest.labels,
            confidence=threshold.confidence,
            classes=classes,
            most=query.max_detections,
        )
        results.append(
            {
                "name": upload.name,
                "width": place.width,
                "height": place.height,
                "counts": count_labels(boxes),
                "boxes": boxes,
            }
        )
        if len(results) % BREATH == 0:
            await asyncio.sleep(0)
    if render:
        picture = await state.images.in_pool(_draw, uploads[0].data, exchange.settings.max_pixels, results[0]["boxes"])
        return Answer(picture, media_type=PNG.encode(), timing=progress.header())
    answer = {**model.signature, "threshold": threshold, "results": results}
    return Answer(pydantic_core.to_json(answer), timing=progress.header())


def _draw(data: bytes, max_pixels: int, boxes: list[Box]) -> bytes:
    return draw_detections(EncodedImage.open(data, max_pixels), boxes)
