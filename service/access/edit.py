"""Changes to a key file: one at a time, atomic, and without losing its comments."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import tomlkit
from tomlkit.exceptions import ParseError

from service.access.keys import InvalidKeys, parse_keys


def edit_keys(path: Path, change: Callable[[tomlkit.TOMLDocument], None]) -> None:
    """Applies a change to a key file, which is made if it is not there.

    Args:
        path: of the file; a link is followed.
        change: to the document.

    Raises:
        InvalidKeys: the file is invalid, or would become so; it stays as it was.
        OSError: it cannot be read or written.
    """
    path = path.resolve()
    with _locked(path):
        try:
            before = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            before = ""
        except UnicodeDecodeError:
            raise InvalidKeys(f"{path} is not UTF-8") from None
        try:
            document = tomlkit.parse(before)
        except ParseError as error:
            raise InvalidKeys(f"{path}: {error}") from None
        change(document)
        after = tomlkit.dumps(document)
        parse_keys(after)
        _replace(path, after)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for others that change the same file. The lock is on a file beside it, since the file is replaced."""
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, in one step; it belongs to the owner of the old one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
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
