"""Content hashes of images, cached by path, size and modification time, so that only the first start decodes them."""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.errors import QuartetError
from training.data import hub
from training.data.dataset import DataSet
from training.data.lazy import Pixels, decode_all

_CONTENT = "files-sha256:"
# Of decoded pixels, as versions have it that are older than content hashes.
_PIXELS = "sha256:"
_CHUNK = 500
_TABLE = "CREATE TABLE IF NOT EXISTS contents (key BLOB PRIMARY KEY, digest BLOB, height INT, width INT) WITHOUT ROWID"


class ImageFiles(Protocol):
    """Encoded images, by index."""

    def read(self, index: int) -> bytes:
        """The file."""

    def where(self, index: int) -> str:
        """What to call it in messages."""

    def key(self, index: int) -> str | None:
        """Changes whenever the file may have changed; None if that is unknown."""


@dataclass(frozen=True, slots=True)
class Content:
    """An image that can be decoded.

    Attributes:
        digest: SHA-256 of the file.
        height: upright, in pixels.
        width: upright, in pixels.
        pixels: decoded; None if they were not asked for.
    """

    digest: bytes
    height: int
    width: int
    pixels: Pixels | None = None


def examine(
    images: ImageFiles,
    indices: npt.NDArray[np.int64],
    decode: Callable[[bytes], tuple[Pixels, tuple[int, int]]],
    *,
    pixels: bool,
) -> Iterator[Content | str]:
    """Checks that images can be decoded, in order; without `pixels`, those that are in the cache are not even opened.

    Args:
        images: the source.
        indices: which of its images.
        decode: returns the pixels and the upright height and width of a file; called by several threads at once.
        pixels: whether they are wanted.

    Yields:
        What is known of each image, or why it cannot be decoded.
    """

    def look(index: int) -> Content | str:
        try:
            data = images.read(index)
            decoded, (height, width) = decode(data)
        except (QuartetError, OSError) as error:
            return error.detail if isinstance(error, QuartetError) else str(error)
        return Content(hashlib.sha256(data).digest(), height, width, decoded if pixels else None)

    if pixels:
        yield from decode_all(look, indices)
        return
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK]
        keys = [_hashed(images.key(int(index))) for index in chunk]
        known = _find(keys)
        missing = [row for row, key in enumerate(keys) if key not in known]
        found = dict(zip(missing, decode_all(look, chunk[missing]), strict=True))
        _keep((keys[row], content) for row, content in found.items())
        yield from (found[row] if row in found else known[key] for row, key in enumerate(keys))


def file_key(path: str) -> str | None:
    """Identifies the content of a file without reading it; None if there is no such file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}"


def content_fingerprint(size: Sequence[int], parts: Iterable[bytes]) -> str:
    """Identifies a data set by the files and annotations of its splits, in order, and the size that images get."""
    digest = hashlib.sha256(repr(tuple(size)).encode())
    for part in parts:
        digest.update(part)
    return f"{_CONTENT}{digest.hexdigest()}"


def pixel_fingerprint(parts: Iterable[bytes]) -> str:
    """Identifies a data set by its decoded pixels and annotations, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return f"{_PIXELS}{digest.hexdigest()}"


def fingerprint_like(data: DataSet, recorded: str | None) -> str:
    """The fingerprint of the data to compare with a recorded one: of pixels, if that is, which decodes every image."""
    pixels = getattr(data, "pixel_fingerprint", None)
    return pixels() if pixels and recorded and recorded.startswith(_PIXELS) else data.fingerprint


def _hashed(key: str | None) -> bytes | None:
    return None if key is None else hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=16).digest()


@contextlib.contextmanager
def _cache() -> Iterator[sqlite3.Connection]:
    folder = hub.cache_folder() / "quartet"
    folder.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(folder / "contents.sqlite", timeout=60)) as connection, connection:
        connection.execute(_TABLE)
        yield connection


def _find(keys: Sequence[bytes | None]) -> dict[bytes | None, Content]:
    """What the cache knows: nothing if it cannot be read, which only costs time."""
    marks = ", ".join("?" * len(keys))
    with contextlib.suppress(sqlite3.Error, OSError), _cache() as cache:
        rows = cache.execute(f"SELECT * FROM contents WHERE key IN ({marks})", keys)  # noqa: S608 - question marks
        return {key: Content(digest, height, width) for key, digest, height, width in rows}
    return {}


def _keep(contents: Iterable[tuple[bytes | None, Content | str]]) -> None:
    rows = [(key, it.digest, it.height, it.width) for key, it in contents if key and isinstance(it, Content)]
    with contextlib.suppress(sqlite3.Error, OSError), _cache() as cache:
        cache.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", rows)
