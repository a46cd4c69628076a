"""The error format of /v1: `application/problem+json` (RFC 9457)."""

from typing import Any

import pydantic_core
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Scope

from service.errors import QuartetError, truncate

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What is wrong and what to do about it (RFC 9457)."""

    type: str = Field(
        examples=["/problems/undecodable-image"],
        description="the page that explains the failure, relative to the server",
    )
    code: str = Field(examples=["undecodable-image"], description="stable name of the failure, for programs")
    title: str = Field(examples=["Undecodable image"])
    status: int = Field(examples=[422])
    detail: str = Field(
        examples=["The image cannot be decoded (image file is truncated): it is damaged or truncated."],
        description="this occurrence, and what to do",
    )
    instance: str = Field(examples=["/v1/predict"], description="the path of the request")
    request_id: str = Field(examples=["5f3a9c-2b"], description="as in the header X-Request-ID and in the log")
    index: int | None = Field(None, examples=[0], description="index of the item of the request at fault")


_STRING, _SECONDS = {"type": "string"}, {"type": "integer", "minimum": 1}
_ID = {"description": "as sent, or made; the log line carries it", "required": True, "schema": _STRING}
REQUEST_ID = {"X-Request-ID": _ID}
_RETRY_AFTER = {"description": "seconds after which there may be room", "required": True, "schema": _SECONDS}
_MEANINGS = {
    401: "There is no API key, or it is not valid",
    403: "The API key may not do this",
    404: "No such model is served",
    409: "The change is not possible now",
    413: "The body is too large, or holds too many items",
    414: "The path and the query string are too long",
    415: "The content type is not read here",
    422: "The input cannot be used, or the model is for another task; data that the schema allows may be refused too",
    429: "There is more work than fits the queue, the deadline or the rates of the API key",
    500: "The model failed on this input, or the server has a fault",
    503: "The server is shutting down, or a model is not responding",
    504: "The answer would have come too late",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route that may fail with these statuses."""
    return {
        status: {
            "description": _MEANINGS[status],
            "headers": REQUEST_ID | ({"Retry-After": _RETRY_AFTER} if status == 429 else {}),
            # Not as `model`, which would offer the same as application/json too.
            "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
        }
        for status in statuses
    }


def problem_json(failure: QuartetError, scope: Scope) -> Response:
    """The document that `Problem` describes."""
    content: dict[str, Any] = {
        "type": f"{scope.get('root_path', '').rstrip('/')}/problems/{failure.slug}",
        "code": failure.slug,
        "title": failure.title(),
        "status": failure.status,
        "detail": failure.detail,
        "instance": truncate(scope["path"]),
        "request_id": scope.get("quartet.id", ""),
    }
    if failure.index is not None:
        content["index"] = failure.index
    return Response(pydantic_core.to_json(content), failure.status, failure.headers, MEDIA_TYPE)
