"""The commands need more than the client does: one line says what is missing, and how to install it."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

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
        service = importlib.util.find_spec("service")
        if service is None:  # with the client alone no extra helps
            raise ModuleNotFoundError(str(error), name="service") from None
        sys.exit(f"error: {missing} is not installed. {_advice(service, extra)}")


def _advice(service: ModuleSpec, extra: str) -> str:
    """How to install an extra here.

    Args:
        service: the package, which is beside pyproject.toml in a clone, and without it in the image.
        extra: the extra.
    """
    if not (Path(str(service.origin)).parents[1] / "pyproject.toml").is_file():
        return f"The image lacks the extra `{extra}`: build it with --build-arg EXTRAS=grpc,traces,{extra}"
    # The other extras add to a server, which may have either build of the runtime.
    extras = extra if extra == "server" or importlib.util.find_spec("onnxruntime") else f"server,{extra}"
    # Not from the package index: `quartet` is another project there.
    return f"In the clone of Quartet, run: {sys.executable} -m pip install -c constraints.txt -e '.[{extras}]'"
