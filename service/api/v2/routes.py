"""The routes of the Open Inference Protocol below /v2."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from service.access.caller import actor, visible
from service.api.v2.bodies import header_length, read_body
from service.api.v2.descriptions import describe_configuration, describe_model, describe_server
from service.api.v2.inference import read_request, write_response
from service.api.v2.statistics import Statistics
from service.errors import InvalidRequest, QuartetError
from service.inference.leases import Lease
from service.stack.endpoint import Endpoint
from service.stack.exchange import Answer, Exchange

_MODEL = "/v2/models/{name}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_NOT_OFFERED = (
    "/v2/systemsharedmemory/{rest:path}",
    "/v2/cudasharedmemory/{rest:path}",
    "/v2/trace/setting",
    "/v2/models/{name}/trace/setting",
    "/v2/logging",
)
# Smaller requests are read, and smaller responses written, on the event loop.
_INLINE_BYTES = 16_384
_BINARY = b"application/octet-stream"

Name = Annotated[str, Path()]


class NotOffered(QuartetError):
    """A part of the protocol that the server does not offer."""

    status = 501
    slug = "not-offered"


class _Query(BaseModel):
    """Clients may add parameters of their own to the query."""


def v2_endpoints() -> tuple[Endpoint, ...]:
    """The routes that run a model."""
    return tuple(Endpoint(f"{path}/infer", _Query, _infer) for path in (_MODEL, _VERSION))


def v2_router(statistics: Statistics) -> APIRouter:
    """The other routes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/v2")
    async def server() -> JSONResponse:
        return JSONResponse(describe_server())

    @router.get("/v2/health/live")
    async def live(request: Request) -> JSONResponse:
        alive = request.app.trouble() is None
        return JSONResponse({"live": alive}, 200 if alive else 503)

    @router.get("/v2/health/ready")
    async def ready(request: Request) -> JSONResponse:
        app = request.app
        fit = app.ready and app.others_ready() and app.trouble() is None and not app.repository.unready
        return JSONResponse({"ready": fit}, 200 if fit else 503)

    @router.get("/v2/models/stats")
    async def every_statistic(request: Request) -> JSONResponse:
        return JSONResponse(_statistics(request))

    def add(path: str, answer: Any) -> None:
        async def of_default(request: Request, name: Name) -> JSONResponse:
            return JSONResponse(answer(request, name, None))

        async def of_version(request: Request, name: Name, version: Name) -> JSONResponse:
            return JSONResponse(answer(request, name, version))

        router.add_api_route(f"{_MODEL}{path}", of_default, methods=["GET"])
        router.add_api_route(f"{_VERSION}{path}", of_version, methods=["GET"])

    def metadata(request: Request, name: str, version: str | None) -> dict[str, Any]:
        with _lease(request, name, version) as lease:
            numbers = [each.version for each in request.app.repository.versions if each.name == name]
            return describe_model(lease.version, numbers if version is None else [lease.version.version])

    def configuration(request: Request, name: str, version: str | None) -> dict[str, Any]:
        with _lease(request, name, version) as lease:
            return describe_configuration(lease.version)

    def readiness(request: Request, name: str, version: str | None) -> dict[str, Any]:
        with _lease(request, name, version) as lease:
            return {"name": name, "ready": lease.version.batcher.trouble(request.app.settings.timeout) is None}

    def counts(request: Request, name: str, version: str | None) -> dict[str, Any]:
        with _lease(request, name, version) as lease:
            return _statistics(request, name, None if version is None else lease.version.version)

    def _statistics(request: Request, name: str | None = None, number: str | None = None) -> dict[str, Any]:
        loaded = request.app.repository.versions
        chosen = [
            each
            for each in loaded
            if visible(request.scope, each.name) and name in (None, each.name) and number in (None, each.version)
        ]
        return statistics.describe(chosen, loaded)

    add("", metadata)
    add("/config", configuration)
    add("/ready", readiness)
    add("/stats", counts)

    @router.post("/v2/repository/index")
    async def index(request: Request) -> JSONResponse:
        return JSONResponse(_index(request))

    @router.post("/v2/repository/models/{name}/load")
    async def load(request: Request, name: Name) -> Response:
        await _check_parameters(request, ())
        await request.app.lifecycle.administration.serve(name, True, actor=actor(request.scope))
        return Response()

    @router.post("/v2/repository/models/{name}/unload")
    async def unload(request: Request, name: Name) -> Response:
        await _check_parameters(request, ("unload_dependents",))
        await request.app.lifecycle.administration.serve(name, False, actor=actor(request.scope))
        return Response()

    for path in _NOT_OFFERED:
        router.add_api_route(path, _not_offered, methods=["GET", "POST"])

    return router


async def _not_offered() -> None:
    raise NotOffered("The server has neither shared memory nor settings of traces and logs.")


async def _infer(exchange: Exchange, _query: Any) -> Answer:
    call, app = exchange.call, exchange.app
    version = exchange.lease(exchange.path_params["name"], exchange.path_params.get("version"))
    version.batcher.admission.expect(call, at_once=exchange.small)
    length = header_length(exchange)
    body = await read_body(exchange)
    call.progressed()  # the time in which the body arrived was the client's
    read = partial(read_request, body, length, version.manifest, app.settings.max_items)
    asked = read() if len(body) <= _INLINE_BYTES else await app.threads.run(read)
    if asked.timeout is not None:
        call.expire_after(asked.timeout)
    if asked.background:
        call.run_in_background()
    items = asked.items
    exchange.facts["items"] = len(items)
    exchange.charge(len(items))
    rows = await call.infer(version, items)
    write = partial(write_response, asked, version.manifest, version.version, rows)
    size = len(rows) * sum(array.nbytes for array in rows[0])
    content, head = write() if size <= _INLINE_BYTES else await app.threads.run(write)
    if head is None:
        return Answer(content)
    exchange.answer_headers.append((b"inference-header-content-length", b"%d" % head))
    return Answer(content, _BINARY)


def _lease(request: Request, name: str, version: str | None) -> Lease:
    """A lease on a version for a description; raises UnknownModel."""
    repository = request.app.repository
    if not visible(request.scope, name):
        raise repository.unknown(name)
    lease: Lease = repository.lease(name, version, lambda *_: 1.0)
    return lease


def _index(request: Request) -> list[dict[str, str]]:
    repository = request.app.repository
    found = [
        {"name": each.name, "version": each.version, "state": "READY", "reason": ""}
        for each in repository.versions
        if visible(request.scope, each.name)
    ]
    for what, why in repository.refused.items():
        name, _, version = what.partition("/")
        if visible(request.scope, name):
            found.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": why})
    return found


async def _check_parameters(request: Request, known: tuple[str, ...]) -> None:
    """Raises InvalidRequest if a request to load or unload has parameters that have no meaning here."""
    body = await request.body()
    try:
        document = await request.json() if body else {}
    except ValueError:
        raise InvalidRequest("The body is not valid JSON.") from None
    parameters = document.get("parameters") if isinstance(document, dict) else None
    for name in parameters if isinstance(parameters, dict) else ():
        if name not in known:
            raise InvalidRequest(f"parameter {name[:80]!r}: models are loaded as they are in the models folder.")
