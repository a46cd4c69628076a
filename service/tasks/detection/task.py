"""The task `detection`: detect."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from service.tasks.base import AnswerBase, Images, Operation, Picture, Results, Sample, Task, model_option
from service.tasks.call import Call, Upload
from service.tasks.detection.agreement import AGREEMENT
from service.tasks.detection.boxes import DetectedBox, describe, detections
from service.tasks.detection.drawing import draw_detections
from service.tasks.detection.letterbox import Letterbox, letterbox, without_padding
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.detection.statistics import STATISTICS
from service.tasks.detection.thresholds import ThresholdAnswer, best_figures, choose_threshold, class_filter
from service.tasks.detection.truth import BOXES
from service.tasks.familiarity import (
    StrictOptions,
    strict_level,
    typicality_field,
    unfamiliar_field,
    with_familiarity,
)
from service.tasks.images import EncodedImage
from service.tasks.pauses import map_with_pauses
from service.tasks.samples import SMEAR, encode_sample


class DetectOptions(StrictOptions):
    """The options of `detect`."""

    model: str = model_option("detector")
    confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="the lowest score that counts; by default the threshold with the best F1. Excludes `precision` and "
        "`recall`",
    )
    precision: float | None = Field(
        None,
        gt=0,
        le=1,
        description="choose the threshold that reached this precision on the validation split. Excludes `confidence` "
        "and `recall`",
    )
    recall: float | None = Field(
        None,
        gt=0,
        le=1,
        description="choose the threshold that reached this recall on the validation split. Excludes `confidence` and "
        "`precision`",
    )
    classes: str | None = Field(
        None, examples=["RBC,WBC"], description="only these labels, separated by commas; counts and boxes alike"
    )
    max_detections: int = Field(300, ge=1, le=1000, description="the most boxes of an image, the best first")
    render: bool = Field(False, description="answer with the picture, boxes and labels drawn (one image a request)")


class ImageDetections(BaseModel):
    """The answer for one image."""

    name: str | None = Field(examples=["smear.jpg"], description="the file's name, where the request gave one")
    width: int = Field(examples=[640], description="of the image, in pixels, after EXIF rotation")
    height: int = Field(examples=[480])
    counts: dict[str, int] = Field(examples=[{"RBC": 12}], description="boxes of each label")
    boxes: list[DetectedBox] = Field(description="the best first; none with `strict` for an unfamiliar image")
    typicality: float | None = typicality_field()
    unfamiliar: float | None = unfamiliar_field()


class DetectAnswer(AnswerBase):
    """The answers for all images of a request, in the order sent."""

    threshold: ThresholdAnswer
    results: list[ImageDetections]


async def detect(call: Call[DetectorManifest, DetectOptions]) -> Results | Picture:
    """Finds and classifies the objects in one or many images.

    A threshold decides which detections count. Choose it by its figures on the validation split, `precision=0.95` if
    false alarms are costly or `recall=0.95` if misses are, or set `confidence` itself. The answer holds the threshold
    and its figures on the test split, which took no part in the choice. With `render=true`, or `Accept: image/png`,
    the answer is the picture with the boxes.

    Send images as to `/v1/predict`.
    """
    manifest, options = call.manifest, call.options
    level = strict_level(manifest, options)
    threshold = choose_threshold(manifest, options.confidence, options.precision, options.recall)
    classes = class_filter(manifest, options.classes)
    render = call.wants_picture(options.render)
    frame = manifest.image
    prepare = partial(letterbox, frame_height=frame.height, frame_width=frame.width, antialias=frame.antialias)
    rows, geometries = await call.infer_images(prepare)

    def describe_image(upload: Upload, outputs: tuple[Any, ...], geometry: Letterbox) -> dict[str, Any]:
        found, scores, indices, *more = outputs
        boxes = detections(
            (found, scores, indices),
            geometry,
            manifest.labels,
            confidence=threshold.confidence,
            classes=classes,
            most=options.max_detections,
        )
        return with_familiarity(describe(upload.name, geometry, boxes), more, level, counts={}, boxes=[])

    results = await map_with_pauses(call.scope, describe_image, call.inputs, rows, geometries)
    if render:
        image, boxes = call.inputs[0].data, results[0]["boxes"]
        return Picture(
            await call.in_background(lambda: draw_detections(EncodedImage.open(image, call.max_pixels), boxes))
        )
    return Results(results, {"threshold": threshold})


def _bounds(manifest: DetectorManifest, _limit: int) -> dict[str, Any]:
    reached = best_figures(manifest.curves) if manifest.curves else {}
    figures = {name: {"maximum": best} for name, best in reached.items()}
    return {**figures, "classes": {"examples": [",".join(manifest.labels)]}}


def letterbox_samples(inputs: Mapping[str, Any], manifest: Any, companion: Any) -> list[Sample]:  # noqa: ARG001
    """The images of a golden file without their padding."""
    (frames,) = (inputs[spec.name] for spec in manifest.inputs)
    return [encode_sample(without_padding(frame), row) for row, frame in enumerate(frames)]


DETECTION = Task(
    name="detection",
    manifest=DetectorManifest,
    operations=(
        Operation(
            name="detect",
            summary="Detect objects",
            run=detect,
            options=DetectOptions,
            reads=Images(SMEAR),
            answer=DetectAnswer,
            media_types=("image/png",),
            bounds=_bounds,
        ),
    ),
    samples=letterbox_samples,
    agreement=AGREEMENT,
    truth=lambda _manifest: BOXES,
    statistics=STATISTICS,
)
