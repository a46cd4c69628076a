"""The task `detection`: detect."""

from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from service.tasks.base import AnswerBase, Images, Operation, Picture, Results, Task, model_option
from service.tasks.call import Call, Upload
from service.tasks.detection.boxes import Box, count_labels, detections
from service.tasks.detection.drawing import draw_detections
from service.tasks.detection.letterbox import Letterbox, letterbox
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.detection.thresholds import best_figures, choose_threshold, class_filter
from service.tasks.familiarity import StrictOptions, apply_strict, strict_bounds, strict_level, unfamiliar_field
from service.tasks.images import EncodedImage, UInt8Array
from service.tasks.pauses import map_with_pauses
from service.tasks.samples import SMEAR, image_samples


class DetectOptions(StrictOptions):
    """The options of `detect`."""

    model: str = model_option("detector")
    confidence: float | None = Field(
        None, ge=0, le=1, description="the least score that counts; without a choice, the threshold of the best F1"
    )
    precision: float | None = Field(
        None, gt=0, le=1, description="choose the threshold with this share of right detections on the validation split"
    )
    recall: float | None = Field(
        None,
        gt=0,
        le=1,
        description="choose the threshold that found this share of the objects of the validation split",
    )
    classes: str | None = Field(
        None, examples=["RBC,WBC"], description="only these labels, separated by commas; counts and boxes alike"
    )
    max_detections: int = Field(300, ge=1, le=1000, description="the most boxes of an image, the best first")
    render: bool = Field(False, description="answer with the picture, boxes and labels drawn (one image a request)")


class ThresholdAnswer(BaseModel):
    """The threshold that was used, and the figures that it had on the test split, over all classes."""

    confidence: float = Field(examples=[0.7])
    precision: float = Field(examples=[0.902027], description="share of the detections that were right")
    recall: float = Field(examples=[0.565079], description="share of the objects that were found")


class DetectedBox(BaseModel):
    """An object, in pixels of the image as it was sent, after EXIF rotation; the origin is the top left corner."""

    label: str = Field(examples=["RBC"])
    index: int = Field(examples=[0], description="the label's index among the model's labels")
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
    boxes: list[DetectedBox] = Field(description="the best first; none with `strict` for an unfamiliar image")
    unfamiliar: float | None = unfamiliar_field()


class DetectAnswer(AnswerBase):
    """The answers for all images of a request, in the order sent."""

    threshold: ThresholdAnswer
    results: list[ImageDetections]


def prepare(image: EncodedImage, manifest: DetectorManifest) -> tuple[UInt8Array, Letterbox]:
    """The pixels that the model takes, shape (height, width, 3), and how the image lies in them."""
    return letterbox(image, manifest.image.height, manifest.image.width)


async def detect(call: Call[DetectorManifest, DetectOptions]) -> Results | Picture:
    """Finds and classifies the objects in one or many images.

    What counts as found depends on a threshold. Choose it by what it did on the validation split: `precision=0.95`
    when a false alarm is dear, `recall=0.95` when a miss is, or `confidence` itself; the answer says which threshold
    was used and what it did on the test split, which chose nothing. With `render=true`, or `Accept: image/png`, the
    answer is the picture with the boxes.

    Send images as to `/v1/predict`.
    """
    manifest, options = call.manifest, call.options
    level = strict_level(manifest, options)
    threshold = choose_threshold(manifest, options.confidence, options.precision, options.recall)
    classes = class_filter(manifest, options.classes)
    render = call.wants_picture(options.render)
    rows, geometries = await call.infer_images(partial(prepare, manifest=manifest))

    def describe(upload: Upload, outputs: tuple[Any, ...], geometry: Letterbox) -> dict[str, Any]:
        found, scores, indices, *more = outputs
        boxes = detections(
            (found, scores, indices),
            geometry,
            manifest.labels,
            confidence=threshold.confidence,
            classes=classes,
            most=options.max_detections,
        )
        result = {
            "name": upload.name,
            "width": geometry.width,
            "height": geometry.height,
            "counts": count_labels(boxes),
            "boxes": boxes,
        }
        return apply_strict(result, more, level, {"counts": {}, "boxes": []})

    results = await map_with_pauses(call.scope, describe, call.inputs, rows, geometries)
    if render:
        return Picture(await call.in_background(_draw, call.inputs[0].data, call.max_pixels, results[0]["boxes"]))
    return Results(results, {"threshold": threshold})


def _draw(data: bytes, max_pixels: int, boxes: list[Box]) -> bytes:
    return draw_detections(EncodedImage.open(data, max_pixels), boxes)


def _bounds(manifest: DetectorManifest) -> dict[str, Any]:
    return {
        **{
            name: {"type": "number", "exclusiveMinimum": 0, "maximum": best}
            for name, best in best_figures(manifest.curves).items()
        },
        **strict_bounds(manifest),
        "classes": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": list(manifest.labels)}},
    }


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
    samples=image_samples,
)
