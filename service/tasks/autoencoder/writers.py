"""Streaming writers for generated images: a PNG sheet, a zip, numpy arrays, JSON.

Only bytes that have not been sent are in memory.
"""

import asyncio
import base64
import csv
import io
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pydantic_core

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


class Sink:
    """An unseekable file for `zipfile` that keeps bytes until they are taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Appends bytes."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Does nothing; `zipfile` calls it."""

    def take(self) -> bytes:
        """The bytes written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


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
    sink = Sink()
    archive = zipfile.ZipFile(sink, "w")  # type: ignore[call-overload]
    digits = len(str(job.count - 1))

    def add(part: Part) -> bytes:
        for offset, (image, label) in enumerate(zip(part.images, part.labels.tolist(), strict=True)):
            name = _file_name(part.first + offset, digits, job.manifest.labels[label])
            archive.writestr(zipfile.ZipInfo(name), to_png(image))
        return sink.take()

    async for part in parts:
        yield await job.in_background(add, part)
    info = zipfile.ZipInfo("latents.csv")  # without a date: equal seeds give equal bytes
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=True) as file:
        file.write(_csv_lines([["file", "label", *(f"z{number}" for number in range(job.manifest.latent))]]))
        for first, latents, labels in _draw_again(job):
            names = [job.manifest.labels[label] for label in labels.tolist()]
            files = [_file_name(first + offset, digits, name) for offset, name in enumerate(names)]
            file.write(_csv_lines(zip(files, names, *latents.T, strict=True)))
            yield sink.take()
            await asyncio.sleep(0)
    await job.in_background(archive.close)  # writes the directory of all members
    yield sink.take()


async def write_npz(job: Job, parts: Parts) -> Chunks:
    """Numpy arrays `images`, `labels` (indices among the model's labels) and `latents`."""
    sink, card = Sink(), job.manifest.image
    archive = zipfile.ZipFile(sink, "w")  # type: ignore[call-overload]
    with archive.open(zipfile.ZipInfo("images.npy"), "w", force_zip64=True) as file:
        _write_npy_header(file, (job.count, card.height, card.width, card.channels), np.uint8)
        async for part in parts:
            file.write(np.stack(part.images).tobytes())
            yield sink.take()
    for name, dtype, tail in (("labels", np.int64, ()), ("latents", np.float32, (job.manifest.latent,))):
        with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
            _write_npy_header(file, (job.count, *tail), dtype)
            for _, latents, labels in _draw_again(job):
                file.write((labels if name == "labels" else latents).tobytes())
                yield sink.take()
                await asyncio.sleep(0)
    archive.close()
    yield sink.take()


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


def _draw_again(job: Job) -> Iterator[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """The index of the first item, latents and labels of each batch; keeping them would take memory."""
    draws = job.draws()
    for first in range(0, job.count, job.batch):
        yield first, *draws.take(min(job.batch, job.count - first))


def _write_npy_header(file: IO[bytes], shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Begins a .npy file; the array's bytes follow in C order."""
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": shape})


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
