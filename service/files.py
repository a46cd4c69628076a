"""Files that are replaced while others read them."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def stamp_of(path: Path) -> tuple[int, ...]:
    """Changes when a file is replaced or written.

    Raises:
        OSError: there is none, or it cannot be reached.
    """
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Writes a file atomically, and so that it outlives a crash; it belongs to the owner of the old one.

    Args:
        path: of the file.
        content: of the file.
        mode: its permissions; only its owner may read it before it is complete.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        with suppress(OSError):  # there is no old one, or it is another user's
            old = path.stat()
            os.chown(name, old.st_uid, old.st_gid)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
