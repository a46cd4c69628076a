"""The client of Quartet's HTTP API: `Client` and `AsyncClient`, what they answer and what they raise."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quartet.api import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """A class of `quartet.api`, which is imported when it is first needed: the service needs the version alone."""
    if name[:1].isupper():
        api = importlib.import_module("quartet.api")
        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module 'quartet' has no attribute {name!r}")


def __dir__() -> list[str]:
    names: list[str] = importlib.import_module("quartet.api").__all__
    return ["__version__", *names]
