"""The client of Quartet's HTTP API: `Client` and `AsyncClient`, their answers and their errors."""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quartet.api import *  # noqa: F403

__version__ = "0.2.0.dev0"

# Accepted for one version, each with `Error` at its end.
_RENAMED = (
    "BodyTooLarge", "DeadlineExceeded", "Forbidden", "ImageTooLarge", "InferenceFailed", "InvalidItem",
    "InvalidRequest", "ModelBroken", "NotReady", "Overloaded", "Problem", "RateLimited", "Unauthorized",
    "UndecodableImage", "UnknownModel", "Unreachable", "UnsupportedMediaType", "WrongTask",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """A class of `quartet.api`, which is imported on first use: the service needs the version alone."""
    if name in _RENAMED:
        warnings.warn(f"quartet.{name} is now quartet.{name}Error", DeprecationWarning, stacklevel=2)
        name = f"{name}Error"
    if name[:1].isupper():
        api = importlib.import_module("quartet.api")
        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module 'quartet' has no attribute {name!r}")


def __dir__() -> list[str]:
    names: list[str] = importlib.import_module("quartet.api").__all__
    return ["__version__", *names]
