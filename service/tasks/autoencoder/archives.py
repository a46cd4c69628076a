"""Streaming zip files: only bytes that have not been sent are in memory."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import numpy.typing as npt

# A fixed date makes the bytes depend on the contents alone.
_DATE = (1980, 1, 1, 0, 0, 0)


class _Sink:
    """An unseekable file that keeps bytes until they are taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Does nothing; `zipfile` calls it."""

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class Archive:
    """A zip file; `take` returns the bytes written since the last call."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED)  # type: ignore[call-overload]

    def take(self) -> bytes:
        """The bytes written since the last call."""
        return self._sink.take()

    def add(self, name: str, data: bytes) -> None:
        """Adds a whole member."""
        self._zip.writestr(zipfile.ZipInfo(name, _DATE), data)

    @contextmanager
    def member(self, name: str, compress: bool = False) -> Iterator[IO[bytes]]:
        """A member that is written in parts."""
        info = zipfile.ZipInfo(name, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        with self._zip.open(info, "w", force_zip64=True) as file:
            yield file

    def close(self) -> bytes:
        """Ends the file; its last bytes."""
        self._zip.close()
        return self.take()


def npy_header(shape: tuple[int, ...], dtype: npt.DTypeLike) -> bytes:
    """The header of a .npy file, or of a member of an .npz; the array's bytes follow in C order."""
    buffer = _Sink()
    kind = np.dtype(dtype)
    description = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.take()
