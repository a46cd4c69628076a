"""The commands need more than the client does: one line says what is missing, and how to install it."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OWN = ("quartet", "service", "training")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Ends the program with one line on Windows, or if an import inside the block fails.

    Args:
        extra: the extra in pyproject.toml that the imports belong to.
    """
    if sys.platform == "win32":
        sys.exit("error: only the client runs on Windows. The service and the training need Linux, macOS or WSL.")
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OWN:
            raise
        if importlib.util.find_spec("service") is None:  # with the client alone no extra helps
            raise ModuleNotFoundError(str(error), name="service") from None
        # Not from the package index: `quartet` is another project there.
        sys.exit(
            f"error: {missing} is not installed. In the clone of Quartet, run: "
            f"{sys.executable} -m pip install -c constraints.txt -e '.[{extra}]'"
        )
