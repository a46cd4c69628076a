"""The routes of the Open Inference Protocol below /v2."""

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from service.api.small import small_body
from service.api.v2 import answers
from service.api.v2.bodies import header_length, read_body
from service.api.v2.descriptions import describe_server
from service.api.v2.inference import read_request, write_response
from service.api.v2.statistics import Statistics
from service.errors import InvalidRequest, NotOffered
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
_BINARY = b"application/octet-stream"

Name = Annotated[str, Path()]


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
        alive = answers.is_live(request.app)
        return JSONResponse({"live": alive}, 200 if alive else 503)

    @router.get("/v2/health/ready")
    async def ready(request: Request) -> JSONResponse:
        fit = answers.is_ready(request.app)
        return JSONResponse({"ready": fit}, 200 if fit else 503)

    @router.get("/v2/models/stats")
    async def every_statistic(request: Request) -> JSONResponse:
        return JSONResponse(answers.model_statistics(request.app, request.scope, statistics, None, None))

    def add(path: str, answer: Callable[[Any, Any, str, str | None], JSONResponse]) -> None:
        async def of_default(request: Request, name: Name) -> JSONResponse:
            return answer(request.app, request.scope, name, None)

        async def of_version(request: Request, name: Name, version: Name) -> JSONResponse:
            return answer(request.app, request.scope, name, version)

        router.add_api_route(f"{_MODEL}{path}", of_default, methods=["GET"])
        router.add_api_route(f"{_VERSION}{path}", of_version, methods=["GET"])

    def readiness(app: Any, scope: Any, name: str, version: str | None) -> JSONResponse:
        fit = answers.model_ready(app, scope, name, version)
        return JSONResponse({"name": name, "ready": fit}, 200 if fit else 503)

    add("", lambda *request: JSONResponse(answers.model_metadata(*request)))
    add("/config", lambda *request: JSONResponse(answers.model_configuration(*request)))
    add("/ready", readiness)
    add(
        "/stats",
        lambda app, scope, *which: JSONResponse(answers.model_statistics(app, scope, statistics, *which)),
    )

    @router.post("/v2/repository/index")
    async def index(request: Request) -> JSONResponse:
        only_ready = (await _document(request)).get("ready") is True
        return JSONResponse(answers.repository_index(request.app, request.scope, ready=only_ready))

    def change(action: str) -> None:
        @router.post(f"/v2/repository/models/{{name}}/{action}")
        async def changed(request: Request, name: Name) -> Response:
            parameters = (await _document(request)).get("parameters") or ()
            await answers.change_model(request.app, request.scope, name, parameters, load=action == "load")
            return Response()

    change("load")
    change("unload")
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
    body, uncounted = await read_body(exchange)
    call.progressed()  # the time in which the body arrived was the client's
    with app.budget.hold(uncounted):
        asked = await app.threads.run_sized(
            len(body), read_request, body, length, version.manifest, app.settings.max_items
        )
        # A number takes two bytes of JSON, and up to eight in memory. Binary tensors are views of the body.
        with app.budget.hold(max(0, asked.size - len(body))):
            exchange.facts["items"] = asked.count
            exchange.charge(asked.count)
            rows = await answers.run(call, version, asked)
    content, head = await app.threads.run_sized(
        answers.size_of(rows), write_response, asked, version.manifest, version.version, rows
    )
    if head is None:
        return Answer(content)
    exchange.answer_headers.append((b"inference-header-content-length", b"%d" % head))
    return Answer(content, _BINARY)


async def _document(request: Request) -> dict[str, Any]:
    """The JSON object in a small body; empty without a body."""
    try:
        document = json.loads(await small_body(request) or b"{}")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return document
