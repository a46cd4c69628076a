"""Who sends a request, as the layers inside the gate see it: the scope's `quartet.key`."""

import math
import time
from collections.abc import Collection, Hashable, MutableMapping
from typing import Any

from service.access.keys import Key
from service.access.local import why_not_local
from service.errors import RateLimited

_KEY = "quartet.key"
_Scope = MutableMapping[str, Any]


def admit(scope: _Scope, key: Key) -> None:
    """Notes the key of a request, for its log line too."""
    scope[_KEY] = key
    scope["quartet.facts"]["key"] = key.name


def key_of(scope: _Scope) -> Key | None:
    """The key of a request; None where none is needed."""
    return scope.get(_KEY)


def actor(scope: _Scope) -> str:
    """Who is named in an audit log."""
    key = key_of(scope)
    return "loopback" if key is None else key.name


def may_administer(scope: _Scope) -> bool:
    """Whether the sender of a request may change policies: by its key or, without keys, as this machine's user."""
    key = key_of(scope)
    return why_not_local(scope) is None if key is None else key.may("admin")


def owner_of(scope: _Scope) -> tuple[Hashable, float]:
    """Whose turn in the queue a request takes, and its weight: the key's, or that of the client's connection."""
    key = key_of(scope)
    return (scope.get("client"), 1.0) if key is None or not key.personal else (key.name, key.weight)


def visible(scope: _Scope, model: str) -> bool:
    """Whether the sender of a request may know of a model."""
    key = key_of(scope)
    return key is None or key.sees(model)


def models_of(scope: _Scope) -> Collection[str] | None:
    """The models that the sender may know of; None for all."""
    key = key_of(scope)
    return None if key is None else key.models


def charge(scope: _Scope, items: int) -> None:
    """Takes a request's items from what its key may send.

    Raises:
        RateLimited: they are too many for now.
    """
    key = key_of(scope)
    if key is None or key.items is None:
        return
    if wait := key.items.hit(items, time.monotonic()):
        raise rate_limited(key, "items", wait)


def rate_limited(key: Key, unit: str, wait: float) -> RateLimited:
    """The refusal of a request that exceeds a rate."""
    return RateLimited(f"The key {key.name!r} has sent its {unit}: try again in {math.ceil(wait)} s.", retry_after=wait)
