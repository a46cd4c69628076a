"""POST /v1/generate: new images from a seed, as a sheet, an archive or JSON, made while they are sent."""

import asyncio
import base64
import csv
import io
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic_core
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.exchange import Exchange, Stream
from service.api.patience import Patience
from service.api.problems import RESPONSES
from service.api.thin import ThinRoute
from service.api.uploads import json_schema, read_json
from service.errors import BodyTooLarge, InvalidRequest, Overloaded
from service.inference.manifests.coding import DecoderManifest
from service.inference.queue import Group
from service.inference.repository import Model
from service.tasks.archives import Archive, npy_header
from service.tasks.generation import Draws
from service.tasks.images import UInt8Array
from service.tasks.pictures import Sheet, to_png

router = APIRouter(route_class=ThinRoute, tags=["inference"])

# Parts of a request in flight: one runs while the next one waits.
_PARTS_IN_FLIGHT = 2


class GenerateQuery(BaseModel):
    """The options of /v1/generate beside its body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("decoder", description="which model answers; `GET /v1/models` lists them")


class GenerateRequest(BaseModel):
    """What to generate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(16, ge=1, le=10_000, description="how many images")
    label: str | None = Field(None, description="the class; without one, any, as often as in training")
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="the same seed gives the same images; without one, the header `X-Seed` tells"
    )
    temperature: float = Field(1.0, ge=0, le=5, description="lower: more typical; higher: more varied, more mistakes")
    format: Literal["grid", "zip", "npz", "json"] = Field(
        "grid",
        description="a PNG sheet; a zip of PNG files with a CSV of labels and latents; numpy arrays `images`, `labels` "
        "and `latents`; or PNG files in base64",
    )


class GeneratedImage(BaseModel):
    """An image that has never been seen before."""

    label: str = Field(examples=["7"], description="the class it was drawn from")
    index: int = Field(examples=[7], description="its place among the model's labels")
    png: str = Field(description="a PNG file in base64")


class GenerateAnswer(BaseModel):
    """The answer in the format `json`."""

    model: str = Field(examples=["decoder"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"], description="where it ran: cpu or cuda")
    seed: int = Field(examples=[42])
    images: list[GeneratedImage]


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the images of a request, with what they were made from."""

    first: int
    images: list[UInt8Array]
    labels: npt.NDArray[np.int64]
    latents: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Job:
    """A request that has been understood."""

    model: Model
    manifest: DecoderManifest
    count: int
    seed: int
    draws: Callable[[], Draws]
    in_pool: Callable[..., Awaitable[Any]]


@router.post(
    "/v1/generate",
    summary="Generate images",
    response_model=GenerateAnswer,
    responses={
        **RESPONSES,
        200: {
            "model": GenerateAnswer,
            "headers": {
                "X-Seed": {"description": "makes the same images again", "schema": {"type": "integer"}},
            },
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("image/png", "application/zip", "application/octet-stream")
            },
        },
    },
    openapi_extra=json_schema(GenerateRequest, {"count": 25, "label": "7", "seed": 42, "format": "grid"}),
)
async def generate(exchange: Exchange, query: Annotated[GenerateQuery, Query()]) -> Any:
    """Makes new images that look like those the model was trained on.

    The same seed, model and device give the same images, whatever else the server does meanwhile; a larger count
    begins with the images of a smaller one. Large counts are sent while they are made.
    """
    state = exchange.app.state
    wanted = await read_json(exchange, GenerateRequest)
    model = state.repository.get(query.model)
    manifest = model.manifest_as(DecoderManifest)
    exchange.note(model, wanted.count)
    limit = exchange.settings.max_items
    if wanted.count > limit:
        raise BodyTooLarge(f"count={wanted.count}: at most {limit} images are made in a request: send several.")
    if wanted.label is not None and wanted.label not in manifest.labels:
        raise InvalidRequest(f"label={wanted.label!r} is none of the labels: {', '.join(manifest.labels)}.")
    label = None if wanted.label is None else manifest.labels.index(wanted.label)
    seed = secrets.randbelow(2**63) if wanted.seed is None else wanted.seed
    draws = partial(Draws, model.companion, seed, label, wanted.temperature)
    job = Job(model, manifest, wanted.count, seed, draws, state.images.in_pool)
    write, media_type, suffix = _FORMATS[wanted.format]
    headers = [(b"x-seed", b"%d" % seed)]
    if suffix:
        headers.append((b"content-disposition", f'attachment; filename="generated.{suffix}"'.encode()))
    return Stream(write(job, decode(exchange, job)), media_type, tuple(headers))


async def decode(exchange: Exchange, job: Job) -> AsyncGenerator[Part, None]:
    """The images of a request, a batch's worth at a time, in order; never more than two parts at once."""
    draws, timeout = job.draws(), exchange.settings.timeout
    patience = Patience(timeout)
    pending: deque[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.int64], Group]] = deque()
    begun = 0
    drawn = None
    try:
        while begun < job.count or pending:
            if begun < job.count and len(pending) < _PARTS_IN_FLIGHT:
                drawn = drawn or draws.take(min(job.model.max_batch, job.count - begun))
                try:
                    group = job.model.batcher.enqueue(list(drawn[0]), timeout=timeout, priority=1)
                except Overloaded as refusal:
                    if not begun:
                        raise
                    if not pending:
                        await patience.wait(refusal)
                        continue
                else:
                    patience.rewarded()
                    pending.append((begun, *drawn, group))
                    begun += len(drawn[1])
                    drawn = None
                    continue
            first, latents, labels, group = pending[0]
            rows = await group.future
            pending.popleft()
            yield Part(first, [image for (image,) in rows], labels, latents)
    finally:
        for *_, group in pending:
            group.future.cancel()


Writer = Callable[[Job, AsyncGenerator[Part, None]], AsyncGenerator[bytes, None]]


async def write_grid(job: Job, parts: AsyncGenerator[Part, None]) -> AsyncGenerator[bytes, None]:
    """A PNG sheet, row by row."""
    card = job.manifest.image
    sheet = Sheet(job.count, card.height, card.width, card.channels)

    def add(images: list[UInt8Array]) -> bytes:
        return b"".join(sheet.add(images))

    async for part in parts:
        yield await job.in_pool(add, part.images)
    yield sheet.end()


async def write_zip(job: Job, parts: AsyncGenerator[Part, None]) -> AsyncGenerator[bytes, None]:
    """PNG files, and a CSV with the label and the latents of each."""
    archive = Archive()
    digits = len(str(job.count - 1))

    def add(part: Part) -> bytes:
        for offset, (image, label) in enumerate(zip(part.images, part.labels.tolist(), strict=True)):
            archive.add(_file_name(part.first + offset, digits, job.manifest.labels[label]), to_png(image))
        return archive.take()

    async for part in parts:
        yield await job.in_pool(add, part)
    # Drawn once more rather than kept: a seed is shorter than what it gives.
    draws = job.draws()
    with archive.member("latents.csv", compress=True) as file:
        file.write(_csv_lines([["file", "label", *(f"z{number}" for number in range(job.manifest.latent))]]))
        for first in range(0, job.count, job.model.max_batch):
            latents, labels = draws.take(min(job.model.max_batch, job.count - first))
            names = [job.manifest.labels[label] for label in labels.tolist()]
            files = [_file_name(first + offset, digits, name) for offset, name in enumerate(names)]
            file.write(_csv_lines(zip(files, names, *latents.T, strict=True)))
            yield archive.take()
            await asyncio.sleep(0)
    yield archive.close()


async def write_npz(job: Job, parts: AsyncGenerator[Part, None]) -> AsyncGenerator[bytes, None]:
    """Numpy arrays `images`, `labels` (places among the model's) and `latents`."""
    archive, card = Archive(), job.manifest.image
    with archive.member("images.npy") as file:
        file.write(npy_header((job.count, card.height, card.width, card.channels), np.uint8))
        async for part in parts:
            file.write(np.stack(part.images).tobytes())
            yield archive.take()
    # Drawn once more for each array rather than kept.
    for name, dtype, tail in (("labels", np.int64, ()), ("latents", np.float32, (job.manifest.latent,))):
        draws = job.draws()
        with archive.member(f"{name}.npy") as file:
            file.write(npy_header((job.count, *tail), dtype))
            for first in range(0, job.count, job.model.max_batch):
                latents, labels = draws.take(min(job.model.max_batch, job.count - first))
                file.write((labels if name == "labels" else latents).tobytes())
                yield archive.take()
                await asyncio.sleep(0)
    yield archive.close()


async def write_json(job: Job, parts: AsyncGenerator[Part, None]) -> AsyncGenerator[bytes, None]:
    """`GenerateAnswer`, image by image."""
    model, labels = job.model, job.manifest.labels

    def encode(part: Part) -> bytes:
        items = [
            {"label": labels[label], "index": label, "png": base64.b64encode(to_png(image)).decode()}
            for image, label in zip(part.images, part.labels.tolist(), strict=True)
        ]
        return pydantic_core.to_json(items)[1:-1]

    head = {**model.signature, "seed": job.seed}
    before = pydantic_core.to_json(head)[:-1] + b',"images":['
    async for part in parts:
        yield before + await job.in_pool(encode, part)
        before = b","
    yield b"]}"


def _csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _file_name(number: int, digits: int, label: str) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in label)
    return f"{number:0{digits}d}_{safe}.png"


_FORMATS: dict[str, tuple[Writer, bytes, str]] = {
    "grid": (write_grid, b"image/png", ""),
    "zip": (write_zip, b"application/zip", "zip"),
    "npz": (write_npz, b"application/octet-stream", "npz"),
    "json": (write_json, b"application/json", ""),
}
