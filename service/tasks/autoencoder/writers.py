"""Streaming writers for generated images: a PNG sheet, a zip, numpy arrays, JSON."""

import asyncio
import base64
import csv
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic_core

from service.tasks.autoencoder.archives import Archive, npy_header
from service.tasks.autoencoder.density import Draws
from service.tasks.autoencoder.manifest import DecoderManifest
from service.tasks.autoencoder.pictures import Sheet, to_png
from service.tasks.images import UInt8Array


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive images of a call, with their labels and latents.

    Attributes:
        first: the index of the first of them.
        images: each of shape (height, width, channels).
        labels: shape (images,), indices among the model's labels.
        latents: shape (images, latent).
    """

    first: int
    images: list[UInt8Array]
    labels: npt.NDArray[np.int64]
    latents: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Job:
    """The parameters of a `generate` call.

    Attributes:
        manifest: of the decoder.
        signature: the fields that every JSON answer has.
        count: images in total.
        batch: images per part.
        seed: of the draw.
        draws: starts the draw again.
        in_background: runs a function on a thread.
    """

    manifest: DecoderManifest
    signature: dict[str, str]
    count: int
    batch: int
    seed: int
    draws: Callable[[], Draws]
    in_background: Callable[..., Awaitable[Any]]


Parts = AsyncGenerator[Part, None]
Chunks = AsyncGenerator[bytes, None]


async def write_grid(job: Job, parts: Parts) -> Chunks:
    """A PNG sheet, row by row."""
    card = job.manifest.image
    sheet = Sheet(job.count, card.height, card.width, card.channels)
    async for part in parts:
        yield await job.in_background(sheet.add, part.images)
    yield sheet.end()


async def write_zip(job: Job, parts: Parts) -> Chunks:
    """PNG files, and a CSV with the label and the latents of each."""
    archive = Archive()
    digits = len(str(job.count - 1))

    def add(part: Part) -> bytes:
        for offset, (image, label) in enumerate(zip(part.images, part.labels.tolist(), strict=True)):
            archive.add(_file_name(part.first + offset, digits, job.manifest.labels[label]), to_png(image))
        return archive.take()

    async for part in parts:
        yield await job.in_background(add, part)
    # Latents are drawn again, since keeping them would take memory.
    draws = job.draws()
    with archive.member("latents.csv", compress=True) as file:
        file.write(_csv_lines([["file", "label", *(f"z{number}" for number in range(job.manifest.latent))]]))
        for first in range(0, job.count, job.batch):
            latents, labels = draws.take(min(job.batch, job.count - first))
            names = [job.manifest.labels[label] for label in labels.tolist()]
            files = [_file_name(first + offset, digits, name) for offset, name in enumerate(names)]
            file.write(_csv_lines(zip(files, names, *latents.T, strict=True)))
            yield archive.take()
            await asyncio.sleep(0)
    yield await job.in_background(archive.close)  # writes the directory of all members


async def write_npz(job: Job, parts: Parts) -> Chunks:
    """Numpy arrays `images`, `labels` (indices among the model's labels) and `latents`."""
    archive, card = Archive(), job.manifest.image
    with archive.member("images.npy") as file:
        file.write(npy_header((job.count, card.height, card.width, card.channels), np.uint8))
        async for part in parts:
            file.write(np.stack(part.images).tobytes())
            yield archive.take()
    # Drawn again for each array, since keeping them would take memory.
    for name, dtype, tail in (("labels", np.int64, ()), ("latents", np.float32, (job.manifest.latent,))):
        draws = job.draws()
        with archive.member(f"{name}.npy") as file:
            file.write(npy_header((job.count, *tail), dtype))
            for first in range(0, job.count, job.batch):
                latents, labels = draws.take(min(job.batch, job.count - first))
                file.write((labels if name == "labels" else latents).tobytes())
                yield archive.take()
                await asyncio.sleep(0)
    yield archive.close()


async def write_json(job: Job, parts: Parts) -> Chunks:
    """`GenerateAnswer`, image by image."""
    labels = job.manifest.labels

    def encode(part: Part) -> bytes:
        items = [
            {"label": labels[label], "index": label, "png": base64.b64encode(to_png(image)).decode()}
            for image, label in zip(part.images, part.labels.tolist(), strict=True)
        ]
        return pydantic_core.to_json(items)[1:-1]

    head = {**job.signature, "seed": job.seed}
    before = pydantic_core.to_json(head)[:-1] + b',"images":['
    async for part in parts:
        yield before + await job.in_background(encode, part)
        before = b","
    yield b"]}"


def _csv_lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _file_name(number: int, digits: int, label: str) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in label)
    return f"{number:0{digits}d}_{safe}.png"


@dataclass(frozen=True, slots=True)
class Writer:
    """A format; it has a file suffix if clients save it rather than show it."""

    write: Callable[[Job, Parts], Chunks]
    media_type: str
    suffix: str = ""


WRITERS = {
    "grid": Writer(write_grid, "image/png"),
    "zip": Writer(write_zip, "application/zip", "zip"),
    "npz": Writer(write_npz, "application/octet-stream", "npz"),
    "json": Writer(write_json, "application/json"),
}
