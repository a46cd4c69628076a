"""How failures are answered: each family of routes has its own error format."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope, Send

from service.access.caller import visible
from service.errors import Abandoned, InvalidRequest, MethodNotAllowed, NotFound, QuartetError, UnknownModel, truncate
from service.faults import Faults, add_fields, add_parameters

# Not from http.HTTPStatus, whose phrases differ between versions of Python.
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_SLUGS: dict[int, str] = {kind.status: kind.slug for kind in (NotFound, MethodNotAllowed)}
# A client that hung up gets no response; this one is for the log (nginx's convention).
_CLIENT_CLOSED_REQUEST = 499

# Seconds for which a refusal is held back at most, and for a client that ignored Retry-After.
_LONGEST_HOLD, _LONGEST_HOLD_IF_EARLY = 3.0, 5.0

INTERNAL = QuartetError("Something failed inside the server; its log has the details under this request's id.")

# Formats a failure for a request.
ErrorFormat = Callable[[QuartetError, Scope], Response]


def response_to(failure: QuartetError, scope: Scope) -> Response:
    """The response in the format of the request's family; for paths outside all families, in that of the first.

    The failure's slug becomes a fact of the request, for its log line and the metrics.
    """
    scope.setdefault("quartet.facts", {})["problem"] = failure.slug
    if isinstance(failure, UnknownModel):
        failure.show(partial(visible, scope))
    path: str = scope["path"]
    formats: Mapping[str, ErrorFormat] = scope["app"].error_formats
    matching = [prefix for prefix in formats if f"{path}/".startswith(f"{prefix}/")]
    return formats[matching[0] if matching else next(iter(formats))](failure, scope)


async def send_failure(error: QuartetError, scope: Scope, send: Send) -> None:
    """Sends the answer to an error, in the format of the request's family.

    A refusal is held back for a part of the wait that it asks for, so that clients which retry at once cost little.
    """
    if error.retry_after is not None:
        wait = error.retry_after
        held = min(_LONGEST_HOLD_IF_EARLY, wait) if error.early else min(_LONGEST_HOLD, wait / 4)
        held = min(held, error.longest_hold)
        await asyncio.sleep(held)
        error.retry_after -= held
    response = response_to(error, scope)
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})


class _HttpFailure(QuartetError):
    """An exception of FastAPI or Starlette."""

    def __init__(self, error: HTTPException, request: Request) -> None:
        self.status = error.status_code
        self.slug = _SLUGS.get(self.status, f"http-{self.status:d}")
        self._headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        if self.status == 405 and (allowed := _allowed(request)):
            self._headers["allow"] = allowed  # the exception names the methods of one route
        path = truncate(request.url.path)
        details = {
            404: f"There is nothing at {path}: /docs lists the routes.",
            405: f"{path} does not take {truncate(request.method)}, but {self._headers.get('allow', '')}.",
        }
        super().__init__(details.get(self.status, str(error.detail)))

    @property
    def headers(self) -> dict[str, str]:
        return self._headers


def _allowed(request: Request) -> str:
    """The methods of all routes of a path, as a header states them; empty for an endpoint, which states its own."""

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] == Match.FULL for route in request.app.routes)

    methods = [method for method in _METHODS if takes(method)]
    return ", ".join(methods) if len(methods) < len(_METHODS) else ""


def install(app: FastAPI) -> None:
    """Makes FastAPI's own routes answer failures in the same formats."""

    @app.exception_handler(QuartetError)
    async def _quartet(request: Request, error: QuartetError) -> Response:
        return response_to(error, request.scope)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # FastAPI's, for a body that it cannot parse
            return response_to(InvalidRequest("The body cannot be read: send JSON in UTF-8."), request.scope)
        return response_to(_HttpFailure(error, request), request.scope)

    @app.exception_handler(Abandoned)
    async def _abandoned(request: Request, _: Abandoned) -> Response:
        request.scope.setdefault("quartet.facts", {})["client"] = "gone"
        return Response(status_code=_CLIENT_CLOSED_REQUEST)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, _: Exception) -> Response:
        # Starlette sends this response and raises again; the outermost layer logs the traceback.
        return response_to(INTERNAL, request.scope)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        faults = Faults()
        try:
            for each in error.errors():
                place, *names = each["loc"]
                add = add_fields if place == "body" else add_parameters
                # The place in a text that is not JSON is no name.
                add(faults, [{**each, "loc": () if each["type"] == "json_invalid" else names}])
            refusal = faults.error()
        except InvalidRequest as too_many:
            refusal = too_many
        return response_to(refusal, request.scope)
