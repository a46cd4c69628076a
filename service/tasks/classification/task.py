"""The task `classification`: predict."""

from functools import partial
from typing import Any

from pydantic import Field

from service.tasks.base import AnswerBase, Images, Operation, Results, Task, model_option
from service.tasks.call import Call, Upload
from service.tasks.classification.agreement import AGREEMENT
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.classification.statistics import STATISTICS
from service.tasks.images import EncodedImage, UInt8Array, read_pixels
from service.tasks.labels import Labelled, LabelOptions, label_bounds, labelling
from service.tasks.pauses import map_with_pauses
from service.tasks.samples import CAT, image_samples
from service.tasks.truth import LABEL


class PredictOptions(LabelOptions):
    """The options of `predict`."""

    model: str = model_option("classifier")


class Prediction(Labelled):
    """The answer for one image."""

    name: str | None = Field(examples=["cat.jpg"], description="the file's name, where the request gave one")


class PredictAnswer(AnswerBase):
    """The answers for all images of a request, in the order sent."""

    results: list[Prediction]


def prepare(image: EncodedImage, manifest: ClassifierManifest) -> tuple[UInt8Array, None]:
    """The pixels that the model takes, shape (height, width, channels), as in training."""
    return read_pixels(image, manifest.image), None


async def predict(call: Call[ClassifierManifest, PredictOptions]) -> Results:
    """Classifies one or many images, in the order sent.

    Send an image as the body (`Content-Type: image/jpeg`, `image/png`, `image/webp`, …), a multipart form with one
    or many `files`, or JSON with base64. EXIF rotation is honoured, transparency is laid over white, and of an
    animation the first frame counts. The header `Server-Timing` says where the time went.
    """
    labelled = labelling(call.manifest, call.options)
    rows, _ = await call.infer_images(partial(prepare, manifest=call.manifest))

    def describe(upload: Upload, outputs: tuple[Any, ...]) -> dict[str, Any]:
        return {"name": upload.name, **labelled(outputs)}

    return Results(await map_with_pauses(call.scope, describe, call.inputs, rows))


CLASSIFICATION = Task(
    name="classification",
    manifest=ClassifierManifest,
    operations=(
        Operation(
            name="predict",
            summary="Classify images",
            run=predict,
            options=PredictOptions,
            reads=Images(CAT),
            answer=PredictAnswer,
            bounds=label_bounds,
        ),
    ),
    samples=image_samples,
    agreement=AGREEMENT,
    truth=lambda _manifest: LABEL,
    statistics=STATISTICS,
)
