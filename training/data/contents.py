"""The content of image files: hashes that are cached, so that known files are not opened again, and fingerprints."""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from service.errors import QuartetError
from training.data import hub
from training.data.dataset import DataSet
from training.data.lazy import decode_all

_TABLE = "CREATE TABLE IF NOT EXISTS images (key BLOB PRIMARY KEY, digest BLOB, height INT, width INT) WITHOUT ROWID"
# The SHA-256 of a file, height, width, and pixels unless they come from the cache.
Content = tuple[Any, ...]


class ImageFiles(Protocol):
    """Encoded images, by index; a key changes whenever the file may have changed, and is None if that is unknown."""

    def read(self, index: int) -> bytes: ...
    def key(self, index: int) -> bytes | None: ...


def examine(
    files: ImageFiles,
    indices: npt.NDArray[np.int64],
    decode: Callable[[bytes], tuple[int, int, Any]],
    *,
    cached: bool,
) -> Iterator[Content | str]:
    """Decodes images in order; yields what is in each, or why it cannot be decoded.

    Several threads call `decode`, which returns the upright height and width of a file and its pixels. `cached` leaves
    out the pixels, and does not open files that were examined before.
    """

    def look(index: int) -> Content | str:
        try:
            data = files.read(index)
            return hashlib.sha256(data).digest(), *decode(data)
        except (QuartetError, OSError) as error:
            return error.detail if isinstance(error, QuartetError) else str(error)

    if not cached:
        yield from decode_all(look, indices)
        return
    with contextlib.closing(_open_cache()) as cache:
        for start in range(0, len(indices), 500):
            chunk = indices[start : start + 500]
            keys = [files.key(int(index)) for index in chunk]
            marks = ", ".join("?" * len(keys))
            rows = cache.execute(f"SELECT * FROM images WHERE key IN ({marks})", keys)  # noqa: S608
            known = {key: tuple(facts) for key, *facts in rows}
            missing = [row for row, key in enumerate(keys) if key not in known]
            found: dict[int, Content | str] = {}
            for row, content in zip(missing, decode_all(look, chunk[missing]), strict=True):
                found[row] = content if isinstance(content, str) else content[:-1]
            new = [(keys[row], *content) for row, content in found.items() if not isinstance(content, str)]
            with contextlib.suppress(sqlite3.Error), cache:
                cache.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", [row for row in new if row[0]])
            yield from (found[row] if row in found else known[key] for row, key in enumerate(keys))


def file_key(path: str) -> bytes | None:
    """Identifies the content of a file by path, size and modification time; None if there is no such file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    key = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}"
    return hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=16).digest()


def fingerprint(kind: str, parts: Iterable[bytes]) -> str:
    """Identifies a data set by labels and, as `kind` says, the hashes of its files or its pixels."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return f"{kind}:{digest.hexdigest()}"


def fingerprint_like(data: DataSet, recorded: str | None) -> str:
    """The fingerprint of the data to compare with a recorded one: of pixels, if that is, which decodes every image."""
    pixels = getattr(data, "pixel_fingerprint", None)
    if pixels and recorded and recorded.startswith("sha256:"):
        return str(pixels())
    added = getattr(data, "added", None)
    return added.base if added else data.fingerprint


def _open_cache() -> sqlite3.Connection:
    """The cache of what was examined; an empty one in memory if the file cannot be used."""
    path = hub.cache_folder() / "quartet" / "contents.sqlite"
    with contextlib.suppress(sqlite3.Error, OSError):
        path.parent.mkdir(exist_ok=True)
        cache = sqlite3.connect(path, timeout=60)
        cache.execute(_TABLE)
        return cache
    cache = sqlite3.connect(":memory:")
    cache.execute(_TABLE)
    return cache
