"""The operations encode, decode and reconstruct of an autoencoder and its parts."""

from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.errors import BodyTooLarge, InvalidRequest
from service.tasks.autoencoder.coding import LARGEST, Invert, prepare, to_latents
from service.tasks.autoencoder.manifest import AutoencoderManifest, DecoderManifest, EncoderManifest
from service.tasks.autoencoder.pictures import side_by_side, to_png
from service.tasks.autoencoder.results import decoded, encoded, restored
from service.tasks.base import (
    AnswerBase,
    Documents,
    Format,
    Images,
    Operation,
    Options,
    Picture,
    Records,
    Results,
    model_option,
)
from service.tasks.call import Call
from service.tasks.documents import parse_model
from service.tasks.familiarity import typicality_field, unfamiliar_field
from service.tasks.samples import SEVEN

# Pixels are enlarged to 8 x 8 in rendered answers.
_SHOWN_SCALE = 8


class EncodeOptions(Options):
    """The options of `encode`."""

    model: str = model_option("encoder")
    invert: Invert = Field(
        "auto",
        description="swap light and dark: `auto` does if the picture's edges look like the training images' inverted",
    )


class ReconstructOptions(EncodeOptions):
    """The options of `reconstruct`."""

    model: str = model_option("autoencoder")
    render: bool = Field(False, description="answer with a picture: the image and its restoration, side by side")


class DecoderOptions(Options):
    """The options of `decode`."""

    model: str = model_option("decoder")


class ImageResult(BaseModel):
    """The fields that the results for an image share."""

    name: str | None = Field(examples=["seven.png"], description="the file's name, if the request gave one")
    inverted: bool = Field(examples=[False], description="whether light and dark were swapped before")
    typicality: float | None = typicality_field()
    unfamiliar: float | None = unfamiliar_field()


class EncodedImageAnswer(ImageResult):
    """The latents of an image."""

    latents: list[float] = Field(description="as many numbers as the manifest says")


class EncodeAnswer(AnswerBase):
    """The latents of all images of a request, in the order sent."""

    results: list[EncodedImageAnswer]


class DecodeRequest(BaseModel):
    """Latents to decode."""

    model_config = ConfigDict(extra="forbid")

    latents: list[Any] = Field(description="lists of as many numbers as the manifest says")


class DecodedImage(BaseModel):
    """The image that latents were decoded to."""

    png: str = Field(description="a PNG file in base64")


class DecodeAnswer(AnswerBase):
    """The images of all latents of a request, in the order sent."""

    results: list[DecodedImage]


class RestoredImage(ImageResult):
    """A restored image and its distance from the original."""

    error: float = Field(examples=[0.004], description="mean squared error, pixels from 0 to 1")
    png: str = Field(description="the restored image, a PNG file in base64")


class ReconstructAnswer(AnswerBase):
    """The restorations of all images of a request, in the order sent."""

    results: list[RestoredImage]


async def encode(call: Call[EncoderManifest, EncodeOptions]) -> Results:
    """Turns images into a few numbers each, which other models can learn from. Send images as to `/v1/predict`."""
    rows, seen = await call.infer_images(partial(prepare, card=call.manifest.image, invert=call.options.invert))
    columns = zip(call.inputs, seen, rows, strict=True)
    return Results([encoded(upload.name, shown.inverted, row) for upload, shown, row in columns])


async def decode(call: Call[DecoderManifest, DecoderOptions]) -> Results:
    """Turns latents, such as `/v1/encode` gives, into images."""
    rows = await call.infer(call.inputs)
    return Results(await call.in_background(lambda: list(map(decoded, rows))))


async def reconstruct(call: Call[AutoencoderManifest, ReconstructOptions]) -> Results | Picture:
    """Sends images through the bottleneck and back, and tells the error of each restoration.

    A large error marks an out-of-distribution image. Send images as to `/v1/predict`.
    """
    render = call.wants_picture(call.options.render)
    rows, seen = await call.infer_images(partial(prepare, card=call.manifest.image, invert=call.options.invert))
    if render:
        return Picture(to_png(side_by_side([seen[0].pixels, rows[0][0]], _SHOWN_SCALE)))
    names, inverted = [upload.name for upload in call.inputs], [shown.inverted for shown in seen]
    return Results(await call.in_background(lambda: list(map(restored, names, inverted, rows))))


def _parse_latents(body: bytes, manifest: DecoderManifest, limit: int) -> list[Any]:
    rows = parse_model(body, DecodeRequest, values=(limit + 1) * (manifest.latent + 2)).latents
    if len(rows) > limit:
        raise BodyTooLarge(f"The request holds {len(rows)} lists of latents; at most {limit} are accepted.")
    if not rows:
        raise InvalidRequest('The JSON must be {"latents": [[…], …]} with at least one list of numbers.')
    return to_latents(rows, manifest.latent)


def _latents_schema(manifest: DecoderManifest | None, limit: int) -> dict[str, Any]:
    code: dict[str, Any] = {"type": "array", "items": {"type": "number", "minimum": -LARGEST, "maximum": LARGEST}}
    if manifest:
        code |= {"minItems": manifest.latent, "maxItems": manifest.latent}
    schema = DecodeRequest.model_json_schema()
    schema["properties"]["latents"] |= {"minItems": 1, "maxItems": limit, "items": code}
    return schema


def _latents_example(manifest: DecoderManifest | None) -> dict[str, Any]:
    return {"latents": [[0.0] * (manifest.latent if manifest else 32)]}


_LATENT_RECORDS = Records(
    columns=lambda _manifest: ("latents",),
    read=lambda rows, manifest: to_latents([row["latents"] for row in rows], manifest.latent),
)
ENCODE = Operation(
    name="encode",
    summary="Encode images",
    run=encode,
    options=EncodeOptions,
    reads=Images(SEVEN),
    answer=EncodeAnswer,
)
DECODE = Operation(
    name="decode",
    summary="Decode latents",
    run=decode,
    options=DecoderOptions,
    reads=Documents(
        {"application/json": Format(_latents_schema, _parse_latents, _latents_example)}, records=_LATENT_RECORDS
    ),
    answer=DecodeAnswer,
)
RECONSTRUCT = Operation(
    name="reconstruct",
    summary="Restore images",
    run=reconstruct,
    options=ReconstructOptions,
    reads=Images(SEVEN),
    answer=ReconstructAnswer,
    media_types=("image/png",),
)
