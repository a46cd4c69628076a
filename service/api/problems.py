"""Failures as `application/problem+json` (RFC 9457), on the thin path and on FastAPI's own."""

from http import HTTPStatus
from typing import Any

import pydantic_core
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from service.errors import BodyTooLarge, QuartetError

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What is wrong and what to do about it (RFC 9457)."""

    type: str = Field(examples=["urn:quartet:problem:undecodable-image"], description="stable name of the failure")
    title: str = Field(examples=["Undecodable image"])
    status: int = Field(examples=[422])
    detail: str = Field(
        examples=["The image cannot be decoded (image file is truncated): it is damaged or truncated."],
        description="this occurrence, and what to do",
    )
    instance: str = Field(examples=["/v1/predict"], description="the path of the request")
    request_id: str = Field(examples=["5f3a9c-2b"], description="as in the header X-Request-ID and in the log")
    index: int | None = Field(None, examples=[0], description="the item of the request at fault, from 0")


REQUEST_ID = {
    "X-Request-ID": {"description": "as sent, or made; the log line carries it", "schema": {"type": "string"}}
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What is wrong and what to do about it",
        "headers": REQUEST_ID
        | {
            "Retry-After": {
                "description": "seconds after which there may be room, where the server has too much to do",
                "schema": {"type": "integer"},
            }
        },
        # Not as `model`, which would offer the same as application/json too.
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
}


def problem(error: QuartetError, scope: Scope) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that answer `error`."""
    content = _content(error.slug, error.title(), error.status, error.detail, scope)
    if error.index is not None:
        content["index"] = error.index
    headers = {"content-type": MEDIA_TYPE}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if isinstance(error, BodyTooLarge):
        headers["connection"] = "close"  # nobody will read the rest
    return error.status, headers, pydantic_core.to_json(content)


async def send_problem(error: QuartetError, scope: Scope, send: Send) -> None:
    """Sends the answer to `error`."""
    status, headers, body = problem(error, scope)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def install(app: FastAPI) -> None:
    """Makes FastAPI's own routes answer failures the same way."""

    @app.exception_handler(QuartetError)
    async def _quartet(request: Request, error: QuartetError) -> Response:
        status, headers, body = problem(error, request.scope)
        return Response(body, status, headers)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        details = {
            404: f"There is nothing at {request.url.path}: /docs lists the routes.",
            405: f"{request.url.path} does not take {request.method}, but {(error.headers or {}).get('Allow', '')}.",
        }
        slug = status.phrase.lower().replace(" ", "-")
        detail = details.get(status, str(error.detail))
        body = pydantic_core.to_json(_content(slug, status.phrase, status, detail, request.scope))
        return Response(body, status, {**(error.headers or {}), "content-type": MEDIA_TYPE})

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, _error: Exception) -> Response:
        # Starlette sends this answer, then raises on; `Front` logs the traceback.
        failure = QuartetError("Something failed inside the server; its log has the details under this request's id.")
        status, headers, body = problem(failure, request.scope)
        return Response(body, status, headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        detail = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}."
        content = _content("invalid-request", "Invalid request", HTTPStatus.UNPROCESSABLE_ENTITY, detail, request.scope)
        return Response(pydantic_core.to_json(content), 422, {"content-type": MEDIA_TYPE})


def _content(slug: str, title: str, status: HTTPStatus, detail: str, scope: Scope) -> dict[str, Any]:
    """The document; its slug goes into the request's log line and counts too."""
    scope.setdefault("quartet.facts", {})["problem"] = slug
    return {
        "type": f"urn:quartet:problem:{slug}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "instance": scope["path"],
        "request_id": scope.get("quartet.id", ""),
    }
