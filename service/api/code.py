"""POST /v1/encode, /v1/decode, /v1/reconstruct: an autoencoder's parts, and the whole."""

import base64
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.exchange import Answer, Exchange
from service.api.problems import RESPONSES
from service.api.samples import SEVEN
from service.api.thin import ThinRoute
from service.api.uploads import body_schema, json_schema, read_images, read_json
from service.errors import BodyTooLarge
from service.inference.manifests.coding import AutoencoderManifest, DecoderManifest, EncoderManifest
from service.inference.repository import Model
from service.tasks.coding import Invert, prepare, to_latents
from service.tasks.pictures import side_by_side, to_png

router = APIRouter(route_class=ThinRoute, tags=["inference"])

PNG = b"image/png"
# Pixels of an image are shown as squares of so many, for people to see.
_SHOWN_SCALE = 8
_INVERT = "turn light and dark round: `auto` does so where the picture's edges look like the training images' inverted"


class EncodeQuery(BaseModel):
    """The options of /v1/encode."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("encoder", description="which model answers; `GET /v1/models` lists them")
    invert: Invert = Field("auto", description=_INVERT)


class DecodeQuery(BaseModel):
    """The options of /v1/decode beside its body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("decoder", description="which model answers; `GET /v1/models` lists them")


class ReconstructQuery(BaseModel):
    """The options of /v1/reconstruct."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("autoencoder", description="which model answers; `GET /v1/models` lists them")
    invert: Invert = Field("auto", description=_INVERT)
    render: bool = Field(False, description="answer with a picture: the image and what was restored, side by side")


class Code(BaseModel):
    """What an image became."""

    name: str | None = Field(examples=["seven.png"], description="the file's name, where the request gave one")
    inverted: bool = Field(examples=[False], description="whether light and dark were turned round")
    latents: list[float] = Field(description="as many numbers as the manifest says")


class EncodeAnswer(BaseModel):
    """The codes of all images of a request, in the order sent."""

    model: str = Field(examples=["encoder"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"])
    results: list[Code]


class DecodeRequest(BaseModel):
    """Codes to decode."""

    model_config = ConfigDict(extra="forbid")

    latents: list[Any] = Field(description="lists of as many numbers as the manifest says")


class DecodedImage(BaseModel):
    """What a code became."""

    png: str = Field(description="a PNG file in base64")


class DecodeAnswer(BaseModel):
    """The images of all codes of a request, in the order sent."""

    model: str = Field(examples=["decoder"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"])
    results: list[DecodedImage]


class RestoredImage(BaseModel):
    """What an image became, and how far that is from it."""

    name: str | None = Field(examples=["seven.png"], description="the file's name, where the request gave one")
    inverted: bool = Field(examples=[False], description="whether light and dark were turned round before")
    error: float = Field(examples=[0.004], description="mean squared error, pixels from 0 to 1")
    png: str = Field(description="the restored image, a PNG file in base64")


class ReconstructAnswer(BaseModel):
    """The answers for all images of a request, in the order sent."""

    model: str = Field(examples=["autoencoder"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"])
    results: list[RestoredImage]


@router.post(
    "/v1/encode",
    summary="Encode images",
    response_model=EncodeAnswer,
    responses=RESPONSES,
    openapi_extra=body_schema(SEVEN),
)
async def encode(exchange: Exchange, query: Annotated[EncodeQuery, Query()]) -> Any:
    """Turns images into a few numbers each, which other models can learn from. Send images as to `/v1/predict`."""
    state = exchange.app.state
    uploads = await read_images(exchange)
    model = state.repository.get(query.model)
    manifest = model.manifest_as(EncoderManifest)
    exchange.note(model, len(uploads))
    ready = partial(prepare, card=manifest.image, invert=query.invert)
    rows, seen, progress = await state.images.run(exchange, model, ready, uploads)
    results = [
        {"name": upload.name, "inverted": shown.inverted, "latents": latents.tolist()}
        for upload, shown, (latents,) in zip(uploads, seen, rows, strict=True)
    ]
    return Answer(_document(model, results), timing=progress.header())


_DECODE_BODY = json_schema(DecodeRequest, {"latents": [[0.0] * 32]})


def show_length(models: Mapping[str, Model]) -> None:
    """Puts a code as long as the decoder that answers by default takes it into the OpenAPI page."""
    model = models.get(DecodeQuery.model_fields["model"].default)
    if model is not None and isinstance(model.manifest, DecoderManifest):
        example = {"latents": [[0.0] * model.manifest.latent]}
        _DECODE_BODY["requestBody"]["content"]["application/json"]["example"] = example


@router.post(
    "/v1/decode",
    summary="Decode codes",
    response_model=DecodeAnswer,
    responses=RESPONSES,
    openapi_extra=_DECODE_BODY,
)
async def decode(exchange: Exchange, query: Annotated[DecodeQuery, Query()]) -> Any:
    """Turns codes, such as `/v1/encode` gives, into images."""
    state = exchange.app.state
    sent = await read_json(exchange, DecodeRequest)
    model = state.repository.get(query.model)
    manifest = model.manifest_as(DecoderManifest)
    limit = exchange.settings.max_items
    if len(sent.latents) > limit:
        raise BodyTooLarge(f"The request holds {len(sent.latents)} codes; at most {limit} are accepted.")
    latents = to_latents(sent.latents, manifest)
    exchange.note(model, len(latents))
    rows, progress = await state.images.run_prepared(exchange, model, list(latents))
    pictures = await state.images.in_pool(lambda: [to_png(image) for (image,) in rows])
    results = [{"png": base64.b64encode(picture).decode()} for picture in pictures]
    return Answer(_document(model, results), timing=progress.header())


@router.post(
    "/v1/reconstruct",
    summary="Restore images",
    response_model=ReconstructAnswer,
    responses={
        **RESPONSES,
        200: {"model": ReconstructAnswer, "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    },
    openapi_extra=body_schema(SEVEN),
)
async def reconstruct(exchange: Exchange, query: Annotated[ReconstructQuery, Query()]) -> Any:
    """Sends images through the bottleneck and back, and says how far each comes back from where it was.

    A picture unlike those of the training comes back badly: the error tells strangers from friends. Send images as to
    `/v1/predict`.
    """
    state = exchange.app.state
    uploads = await read_images(exchange)
    model = state.repository.get(query.model)
    manifest = model.manifest_as(AutoencoderManifest)
    exchange.note(model, len(uploads))
    render = exchange.wants_picture(query.render, len(uploads))
    ready = partial(prepare, card=manifest.image, invert=query.invert)
    rows, seen, progress = await state.images.run(exchange, model, ready, uploads)
    if render:
        picture = to_png(side_by_side([seen[0].pixels, rows[0][0]], _SHOWN_SCALE))
        return Answer(picture, media_type=PNG, timing=progress.header())
    pictures = await state.images.in_pool(lambda: [to_png(image) for image, _ in rows])
    results = [
        {
            "name": upload.name,
            "inverted": shown.inverted,
            "error": round(float(error), 6),
            "png": base64.b64encode(picture).decode(),
        }
        for upload, shown, (_, error), picture in zip(uploads, seen, rows, pictures, strict=True)
    ]
    return Answer(_document(model, results), timing=progress.header())


def _document(model: Model, results: list[dict[str, Any]]) -> bytes:
    return pydantic_core.to_json({**model.signature, "results": results})
