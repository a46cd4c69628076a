"""Streaming writers for generated images: a PNG sheet, a zip, numpy arrays, JSON.

Of the images, only those that have not been sent are in memory.
"""

import csv
import io
import zipfile
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic_core

from service.tasks.autoencoder.manifest import DecoderManifest
from service.tasks.autoencoder.pictures import Sheet, to_base64, to_png
from service.tasks.call import Call
from service.tasks.images import UInt8Array


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive images of a call.

    Attributes:
        images: each of shape (height, width, channels).
        labels: shape (images,), indices among the model's labels.
        latents: shape (images, latent).
    """

    images: list[UInt8Array]
    labels: npt.NDArray[np.int64]
    latents: npt.NDArray[np.float32]


Parts = AsyncGenerator[Part, None]
Chunks = AsyncGenerator[bytes, None]


@dataclass(frozen=True, slots=True)
class Job:
    """A `generate` call, and how many images it makes from which seed."""

    call: Call[DecoderManifest, Any]
    count: int
    seed: int


class Sink:
    """An unseekable file for `zipfile` that keeps bytes until they are taken."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        """Appends bytes."""
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Does nothing; `zipfile` calls it."""

    def take(self) -> bytes:
        """The bytes written since the last call."""
        taken, self._written = bytes(self._written), bytearray()
        return taken


async def write_grid(job: Job, parts: Parts) -> Chunks:
    """A PNG sheet, row by row."""
    card = job.call.manifest.image
    sheet = Sheet(job.count, card.height, card.width, card.channels)
    async for part in parts:
        yield await job.call.in_background(sheet.add, part.images)
    yield sheet.end()


async def write_zip(job: Job, parts: Parts) -> Chunks:
    """PNG files, and a CSV with the label and the latents of each."""
    names = job.call.manifest.labels
    digits = len(str(job.count - 1))
    numbers = iter(range(job.count))
    sink, text = Sink(), io.StringIO()
    archive = zipfile.ZipFile(sink, "w")  # type: ignore[call-overload]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "label", *(f"z{number}" for number in range(job.call.manifest.latent))])

    def add(part: Part) -> bytes:
        for image, label, latents in zip(part.images, part.labels.tolist(), part.latents, strict=True):
            safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in names[label])
            file = f"{next(numbers):0{digits}d}_{safe}.png"
            archive.writestr(zipfile.ZipInfo(file), to_png(image))
            table.writerow([file, names[label], *latents])
        return sink.take()

    def end() -> bytes:
        info = zipfile.ZipInfo("latents.csv")  # without a date: equal seeds give equal bytes
        archive.writestr(info, text.getvalue(), zipfile.ZIP_DEFLATED)
        archive.close()
        return sink.take()

    async for part in parts:
        yield await job.call.in_background(add, part)
    yield await job.call.in_background(end)


async def write_npz(job: Job, parts: Parts) -> Chunks:
    """Numpy arrays `images`, `labels` (indices among the model's labels) and `latents`."""
    sink, card = Sink(), job.call.manifest.image
    labels, latents = [], []
    archive = zipfile.ZipFile(sink, "w")  # type: ignore[call-overload]
    with archive.open(zipfile.ZipInfo("images.npy"), "w", force_zip64=True) as file:
        # The array's bytes follow the header in C order.
        shape = (job.count, card.height, card.width, card.channels)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        async for part in parts:
            file.write(np.stack(part.images).tobytes())
            labels.append(part.labels)
            latents.append(part.latents)
            yield sink.take()
    for name, arrays in (("labels", labels), ("latents", latents)):
        with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
            np.lib.format.write_array(file, np.concatenate(arrays))
    archive.close()
    yield sink.take()


async def write_json(job: Job, parts: Parts) -> Chunks:
    """`GenerateAnswer`, image by image."""
    names = job.call.manifest.labels

    def encode(part: Part) -> bytes:
        items = [
            {"label": names[label], "index": label, "png": to_base64(image)}
            for image, label in zip(part.images, part.labels.tolist(), strict=True)
        ]
        return pydantic_core.to_json(items)[1:-1]

    before = pydantic_core.to_json({**job.call.signature, "seed": job.seed})[:-1] + b',"images":['
    async for part in parts:
        yield before + await job.call.in_background(encode, part)
        before = b","
    yield b"]}"


@dataclass(frozen=True, slots=True)
class Writer:
    """A format; it has a filename if clients save it rather than show it."""

    write: Callable[[Job, Parts], Chunks]
    media_type: str
    filename: str | None = None


WRITERS = {
    "grid": Writer(write_grid, "image/png"),
    "zip": Writer(write_zip, "application/zip", "generated.zip"),
    "npz": Writer(write_npz, "application/octet-stream", "generated.npz"),
    "json": Writer(write_json, "application/json"),
}
