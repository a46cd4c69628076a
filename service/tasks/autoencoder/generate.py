"""The operation `generate`: new images from a seed and a class, streamed as a sheet, an archive or JSON."""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from service.errors import InvalidRequest, truncate
from service.faults import Faults
from service.tasks.autoencoder.density import Draws
from service.tasks.autoencoder.manifest import DecoderManifest
from service.tasks.autoencoder.operations import DecoderOptions
from service.tasks.autoencoder.writers import WRITERS, Chunks, Job, Part, Parts
from service.tasks.base import AnswerBase, Documents, Format, Operation, Stream
from service.tasks.call import Call
from service.tasks.documents import parse_model

_MOST = 10_000
# Of the index of a label.
_MOST_DIGITS = 10


def _whole(value: object) -> object:
    """Converts an integral float to an integer, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _in_words(value: object) -> object:
    """Converts a number to a string."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_Count = Annotated[int, Field(ge=1, le=_MOST), BeforeValidator(_whole)]
_Label = Annotated[str, BeforeValidator(_in_words), WithJsonSchema({"type": ["string", "integer"]})]
_Seed = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_whole)]


class GenerateOptions(DecoderOptions):
    """The options of `generate`."""

    count: _Count = Field(16, description="how many images")
    label: str | None = Field(
        None, description="the class, a label or its index; by default any, as often as in training"
    )
    seed: _Seed | None = Field(
        None,
        description="the same seed gives the same images; by default random, and in the header `X-Seed`",
    )
    temperature: float = Field(1.0, ge=0, le=5, description="lower: more typical; higher: more varied, more mistakes")
    format: Literal["grid", "zip", "npz", "json"] = Field(
        "grid",
        description="`grid`: a PNG sheet; `zip`: PNG files and a CSV of labels and latents; `npz`: NumPy arrays "
        "`images`, `labels` and `latents`; `json`: PNG files in base64",
    )


class GenerateRequest(BaseModel):
    """The options of `generate` in the body, which are deprecated: send them in the query."""

    # Strict, as JSON Schema is: neither a string nor a boolean is a number.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    count: _Count | None = None
    label: _Label | None = None
    seed: _Seed | None = None
    temperature: float | None = Field(None, ge=0, le=5)
    format: Literal["grid", "zip", "npz", "json"] | None = None


class GeneratedImage(BaseModel):
    """A generated image."""

    label: str = Field(examples=["7"], description="the class it was drawn from")
    index: int = Field(examples=[7], description="the label's index among the model's labels")
    png: str = Field(description="a PNG file in base64")


class GenerateAnswer(AnswerBase):
    """The answer in the format `json`."""

    seed: int = Field(examples=[42])
    images: list[GeneratedImage]


async def generate(call: Call[DecoderManifest, GenerateOptions]) -> Stream:
    """Makes new images that look like those the model was trained on.

    The same seed, model and device give the same images, whatever else the server does meanwhile; a larger count
    begins with the images of a smaller one. Large counts are sent while they are made.
    """
    wanted = _merged(call.inputs, call.options)
    label = None if wanted.label is None else _index_of(wanted.label, call.manifest.labels)
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


def _merged(inputs: Sequence[GenerateRequest], query: GenerateOptions) -> GenerateOptions:
    """The options of the query, and those of the body.

    Raises:
        InvalidRequest: some are in both.
    """
    given = {name: value for request in inputs for name, value in request if value is not None}
    faults = Faults()
    for name in given.keys() & query.model_fields_set:
        faults.add(f"{name} is in the query and in the body: send it in the query.", parameter=name)
    faults.check()
    return query.model_copy(update=given)


def _index_of(label: str, labels: Sequence[str]) -> int:
    """The index of a label, given by its name or, where no label has that name, by its index.

    Raises:
        InvalidRequest: there is no such label.
    """
    if label in labels:
        return labels.index(label)
    if label.isdecimal() and len(label) < _MOST_DIGITS and int(label) < len(labels):
        return int(label)
    detail = f"label={truncate(label)!r} is none of the labels: {', '.join(labels)}."
    raise InvalidRequest(detail, parameter="label")


def _parse(body: bytes, manifest: DecoderManifest, limit: int) -> list[GenerateRequest]:  # noqa: ARG001
    return [parse_model(body, GenerateRequest)]


def _bounds(manifest: DecoderManifest, limit: int) -> dict[str, Any]:
    return {"label": {"examples": list(manifest.labels)}, "count": {"maximum": min(_MOST, limit)}}


def _schema(manifest: DecoderManifest | None, limit: int) -> dict[str, Any]:  # noqa: ARG001
    return {**GenerateRequest.model_json_schema(), "deprecated": True}


GENERATE = Operation(
    name="generate",
    summary="Generate images",
    run=generate,
    options=GenerateOptions,
    reads=Documents({"application/json": Format(_schema, _parse, lambda _manifest: {})}, required=False),
    answer=GenerateAnswer,
    media_types=("image/png", "application/zip", "application/octet-stream"),
    facts={"seed": "makes the same images again"},
    items=lambda inputs, query: _merged(inputs, query).count,
    bounds=_bounds,
)
