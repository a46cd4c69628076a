"""The parts of Quartet that a plain `pip install quartet` leaves out, and the line that installs each."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OWN = ("quartet", "service", "training")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Ends the program with one line where an import inside the block finds a library of an extra missing.

    Args:
        extra: as in `pip install 'quartet[extra]'`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OWN:
            raise
        sys.exit(
            f"error: {missing} is not installed here: pip install 'quartet[{extra}]', or in a clone "
            f"{sys.executable} -m pip install -c constraints.txt -e '.[{extra}]'."
        )
