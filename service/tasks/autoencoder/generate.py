"""The operation `generate`: new images from a seed and a class, streamed as a sheet, an archive or JSON."""

import secrets
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.errors import BodyTooLarge, InvalidRequest, truncate
from service.tasks.autoencoder.density import Draws
from service.tasks.autoencoder.manifest import DecoderManifest
from service.tasks.autoencoder.operations import DecoderOptions
from service.tasks.autoencoder.writers import WRITERS, Chunks, Job, Part, Parts
from service.tasks.base import AnswerBase, Documents, Format, Operation, Stream
from service.tasks.call import Call
from service.tasks.documents import parse_model


def _whole(value: object) -> object:
    """Converts an integral float to an integer, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Count = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(_whole)]
_Seed = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_whole)]


class GenerateRequest(BaseModel):
    """What to generate."""

    # Strict, as JSON Schema is: neither a string nor a boolean is a number.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    count: _Count = Field(16, description="how many images")
    label: str | None = Field(None, description="the class; by default any, as often as in training")
    seed: _Seed | None = Field(
        None,
        description="the same seed gives the same images; by default random, and in the header `X-Seed`",
    )
    temperature: float = Field(1.0, ge=0, le=5, description="lower: more typical; higher: more varied, more mistakes")
    format: Literal["grid", "zip", "npz", "json"] = Field(
        "grid",
        description="a PNG sheet; a zip of PNG files with a CSV of labels and latents; numpy arrays `images`, `labels` "
        "and `latents`; or PNG files in base64",
    )


class GeneratedImage(BaseModel):
    """A generated image."""

    label: str = Field(examples=["7"], description="the class it was drawn from")
    index: int = Field(examples=[7], description="the label's index among the model's labels")
    png: str = Field(description="a PNG file in base64")


class GenerateAnswer(AnswerBase):
    """The answer in the format `json`."""

    seed: int = Field(examples=[42])
    images: list[GeneratedImage]


async def generate(call: Call[DecoderManifest, DecoderOptions]) -> Stream:
    """Makes new images that look like those the model was trained on.

    The same seed, model and device give the same images, whatever else the server does meanwhile; a larger count
    begins with the images of a smaller one. Large counts are sent while they are made.
    """
    (wanted,) = call.inputs
    labels = call.manifest.labels
    if wanted.label is not None and wanted.label not in labels:
        raise InvalidRequest(f"label={truncate(wanted.label)!r} is none of the labels: {', '.join(labels)}.")
    label = None if wanted.label is None else labels.index(wanted.label)
    seed = secrets.randbelow(2**63) if wanted.seed is None else wanted.seed
    # A stream of images must not delay single answers.
    call.scope.run_in_background()
    draws = Draws(call.companion, seed, label, wanted.temperature)
    writer = WRITERS[wanted.format]
    chunks = _chunks(writer.write, Job(call, wanted.count, seed), draws)
    return Stream(chunks, writer.media_type, writer.filename, {"seed": seed})


async def _chunks(write: Callable[[Job, Parts], Chunks], job: Job, draws: Draws) -> Chunks:
    """The chunks of the answer; closing the generator stops the inference."""
    async with aclosing(_parts(job, draws)) as parts, aclosing(write(job, parts)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _parts(job: Job, draws: Draws) -> Parts:
    """The images of a call in order, one batch at a time."""
    drawn: deque[tuple[Any, Any]] = deque()

    async def make(start: int, end: int) -> list[Any]:
        latents, labels = draws.take(end - start)
        drawn.append((latents, labels))
        return list(latents)

    async with aclosing(job.call.stream(job.count, make)) as answers:
        async for rows in answers:
            latents, labels = drawn.popleft()
            yield Part([image for (image,) in rows], labels, latents)


def _parse(body: bytes, manifest: DecoderManifest, limit: int) -> list[GenerateRequest]:  # noqa: ARG001
    wanted = parse_model(body, GenerateRequest)
    if wanted.count > limit:
        raise BodyTooLarge(f"count={wanted.count}: at most {limit} images are made in a request: send several.")
    return [wanted]


def _schema(manifest: DecoderManifest | None, limit: int) -> dict[str, Any]:
    schema = GenerateRequest.model_json_schema()
    fields = schema["properties"]
    fields["count"]["maximum"] = min(fields["count"]["maximum"], limit)
    if manifest:
        # pydantic describes an optional string as one of a string and null.
        fields["label"]["anyOf"][0]["enum"] = list(manifest.labels)
    return schema


def _example(manifest: DecoderManifest | None) -> dict[str, Any]:
    label = manifest.labels[7 % len(manifest.labels)] if manifest else "7"
    return {"count": 25, "label": label, "seed": 42, "format": "grid"}


GENERATE = Operation(
    name="generate",
    summary="Generate images",
    run=generate,
    options=DecoderOptions,
    reads=Documents({"application/json": Format(_schema, _parse, _example)}, required=False),
    answer=GenerateAnswer,
    media_types=("image/png", "application/zip", "application/octet-stream"),
    facts={"seed": "makes the same images again"},
    items=lambda inputs: sum(wanted.count for wanted in inputs),
)
