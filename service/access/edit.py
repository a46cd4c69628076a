"""Changes to a key file: one at a time, atomic, and without losing its comments."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tomlkit
from tomlkit.exceptions import ParseError

from service.access.keys import InvalidKeys, parse_keys
from service.files import replace_file


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
        replace_file(path, after.encode(), 0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for others that change the same file. The lock is on a file beside it, since the file is replaced."""
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
