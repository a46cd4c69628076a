"""What the protocol's requests about models are answered with, over REST and gRPC alike."""

import math
from collections.abc import Sequence
from typing import Any

from service.access.caller import actor, visible
from service.api.v2.descriptions import describe_configuration, describe_model
from service.api.v2.inference import Inference
from service.api.v2.statistics import Statistics
from service.errors import InferenceFailed, InvalidRequest, truncate
from service.inference.leases import Lease, Version
from service.inference.scope import CallScope
from service.stack.application import Application

# Of a request that came through the gate: the key, the client, the headers.
_Scope = Any
_Document = dict[str, Any]
# Characters of what the runtime says.
_MOST_REASON = 400


def is_live(app: Application) -> bool:
    """Whether every model responds."""
    return app.trouble() is None


def is_ready(app: Application) -> bool:
    """Whether every model is loaded and can answer."""
    return app.ready and app.others_ready() and is_live(app) and not app.repository.unready


def model_metadata(app: Application, scope: _Scope, name: str, version: str | None) -> _Document:
    """A model's inputs and outputs; raises UnknownModel."""
    with _lease(app, scope, name, version) as lease:
        numbers = [each.version for each in app.repository.versions if each.name == name]
        return describe_model(lease.version, numbers if version is None else [lease.version.version])


def model_configuration(app: Application, scope: _Scope, name: str, version: str | None) -> _Document:
    """How a model is served; raises UnknownModel."""
    with _lease(app, scope, name, version) as lease:
        return describe_configuration(lease.version)


def model_ready(app: Application, scope: _Scope, name: str, version: str | None) -> bool:
    """Whether a model responds; raises UnknownModel."""
    with _lease(app, scope, name, version) as lease:
        return lease.version.batcher.trouble(app.settings.timeout) is None


def model_statistics(
    app: Application, scope: _Scope, statistics: Statistics, name: str | None, version: str | None
) -> _Document:
    """The counts of a version, of all versions of a model, or of all models; raises UnknownModel."""
    if name is not None:
        with _lease(app, scope, name, version) as lease:
            version = None if version is None else lease.version.version
    loaded = app.repository.versions
    chosen = [
        each
        for each in loaded
        if visible(scope, each.name) and name in (None, each.name) and version in (None, each.version)
    ]
    return statistics.describe(chosen, loaded)


def repository_index(app: Application, scope: _Scope, *, ready: bool = False) -> list[dict[str, str]]:
    """The versions that are served and, unless only ready ones are asked for, those that were refused."""
    repository = app.repository
    found = [
        {"name": each.name, "version": each.version, "state": "READY", "reason": ""}
        for each in repository.versions
        if visible(scope, each.name)
    ]
    for what, why in () if ready else repository.refused.items():
        name, _, version = what.partition("/")
        if visible(scope, name):
            found.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": why})
    return found


async def change_model(app: Application, scope: _Scope, name: str, parameters: Any, *, load: bool) -> None:
    """Loads or unloads a model.

    Raises:
        InvalidRequest: the parameters would load it otherwise than it is in the models folder.
        UnknownModel: the folder does not have it.
        Conflict: it cannot be served, or its policy cannot be written.
    """
    known = () if load else ("unload_dependents",)
    for parameter in parameters:
        if parameter not in known:
            raise InvalidRequest(
                f"parameter {truncate(str(parameter))!r}: models are loaded as they are in the models folder."
            )
    await app.lifecycle.administration.serve(name, load, actor=actor(scope))


async def run(call: CallScope, version: Version, asked: Inference) -> list[Any]:
    """The results of an inference, for each item a row of every output; see `CallScope.infer`.

    Raises:
        InvalidRequest: an adopted graph cannot run these values, though it is in order.
    """
    if asked.timeout is not None:
        call.expire_after(asked.timeout)
    if asked.background:
        call.run_in_background()
    try:
        return await call.infer(version, asked.items)
    except InferenceFailed as error:
        # Nothing tells which values a graph takes that was trained elsewhere.
        if version.manifest.adopted is None or version.batcher.trouble(math.inf):
            raise
        raise InvalidRequest(truncate(error.detail, _MOST_REASON)) from None


def size_of(rows: Sequence[Any]) -> int:
    """The bytes of results."""
    return len(rows) * sum(int(array.nbytes) for array in rows[0])


def _lease(app: Application, scope: _Scope, name: str, version: str | None) -> Lease:
    """A lease on the default version, not its canary; or on the version that is asked for."""
    if not visible(scope, name):
        raise app.repository.unknown(name)
    return app.repository.lease(name, version, lambda *_: 1.0)
