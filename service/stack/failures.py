"""How failures are answered: each family of routes has a format of its own for all of them."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from service.errors import Abandoned, BodyTooLarge, InvalidRequest, QuartetError, shown

# The stable names of failures that Starlette raises; the phrases of http.HTTPStatus differ between versions of Python.
_SLUGS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: BodyTooLarge.slug,
    422: InvalidRequest.slug,
}
# A client that hung up gets no response; this one is for the log (nginx's convention).
_CLIENT_CLOSED_REQUEST = 499

# The longest time for which a refusal is held back, in seconds; that of a client which ignores Retry-After.
_LONGEST_HOLD, _LONGEST_HOLD_IF_EARLY = 3.0, 5.0

# The response to an internal error.
INTERNAL = QuartetError("Something failed inside the server; its log has the details under this request's id.")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a client is to be told, before it has a format.

    Attributes:
        status: of HTTP.
        slug: a stable name.
        title: the name in words.
        detail: this occurrence, and what to do.
        index: of the item at fault.
        headers: in lower case.
    """

    status: int
    slug: str
    title: str
    detail: str
    index: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: QuartetError) -> "Failure":
        """What an error of the service says."""
        headers = {}
        if error.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        if error.hang_up or isinstance(error, BodyTooLarge):
            headers["connection"] = "close"
        return cls(error.status, error.slug, error.title(), error.detail, error.index, headers)


class Formatted(NamedTuple):
    """A body and its media type."""

    media_type: str
    body: bytes


# Writes a failure for a request.
ErrorFormat = Callable[[Failure, Scope], Formatted]


class ErrorFormats:
    """The error formats of an application.

    Args:
        default: for paths of no family.
        families: by the prefix of the family's paths, such as `/v1`.
    """

    def __init__(self, default: ErrorFormat, families: Mapping[str, ErrorFormat]) -> None:
        self._default = default
        self._families = families

    def write(self, failure: Failure, scope: Scope) -> tuple[dict[str, str], bytes]:
        """Headers and body of the answer; the failure's name goes into the request's log line and counts too."""
        scope.setdefault("quartet.facts", {})["problem"] = failure.slug
        path: str = scope["path"]
        family = next((name for name in self._families if path == name or path.startswith(f"{name}/")), None)
        formatted = (self._families[family] if family else self._default)(failure, scope)
        return {"content-type": formatted.media_type, **failure.headers}, formatted.body


async def send_failure(error: QuartetError, scope: Scope, send: Send) -> None:
    """Sends the answer to an error, in the format of the request's family.

    A refusal is held back for a part of the wait that it asks for, so that clients which retry at once cost little.
    """
    if error.retry_after is not None:
        wait = error.retry_after
        held = min(_LONGEST_HOLD_IF_EARLY, wait) if error.early else min(_LONGEST_HOLD, wait / 4)
        await asyncio.sleep(held)
        error.retry_after -= held
    failure = Failure.of(error)
    headers, body = scope["app"].errors.write(failure, scope)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": failure.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def install(app: FastAPI) -> None:
    """Makes FastAPI's own routes answer failures in the same formats."""

    def answer(request: Request, failure: Failure) -> Response:
        headers, body = request.app.errors.write(failure, request.scope)
        return Response(body, failure.status, headers)

    @app.exception_handler(QuartetError)
    async def _quartet(request: Request, error: QuartetError) -> Response:
        return answer(request, Failure.of(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        path = shown(request.url.path)
        details = {
            404: f"There is nothing at {path}: /docs lists the routes.",
            405: f"{path} does not take {shown(request.method)}, but {headers.get('allow', '')}.",
        }
        slug = _SLUGS.get(status, f"http-{status:d}")
        title = slug.replace("-", " ").capitalize()
        detail = details.get(status, str(error.detail))
        return answer(request, Failure(status, slug, title, detail, headers=headers))

    @app.exception_handler(Abandoned)
    async def _abandoned(request: Request, _: Abandoned) -> Response:
        request.scope.setdefault("quartet.facts", {})["client"] = "gone"
        return Response(status_code=_CLIENT_CLOSED_REQUEST)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, _: Exception) -> Response:
        # Starlette sends this response and raises again; the outermost layer logs the traceback.
        return answer(request, Failure.of(INTERNAL))

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        detail = f"{shown('.'.join(str(part) for part in first['loc']))}: {first['msg']}."
        return answer(request, Failure(422, "invalid-request", "Invalid request", detail))
