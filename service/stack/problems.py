"""The error format of /v1: `application/problem+json` (RFC 9457)."""

from typing import Any

import pydantic_core
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Scope

from service.catalogue import CATALOGUE, PAGES
from service.errors import QuartetError, truncate

MEDIA_TYPE = "application/problem+json"
# Clients of 0.1 know a problem by such a type alone, not by its code. To be removed in 0.3.
_FORMER_CLIENT, _FORMER_TYPE = b"quartet/0.1.", "urn:quartet:problem:"


class ProblemError(BaseModel):
    """One of the things that are wrong with a request; it has a parameter or a pointer."""

    detail: str = Field(examples=["top_k=0: Input should be greater than or equal to 1."])
    parameter: str | None = Field(None, examples=["top_k"], description="name of the parameter of the path or query")
    pointer: str | None = Field(
        None,
        examples=["#/rows/0/age"],
        description="a JSON pointer as a URI fragment (RFC 6901) to the value in the body; for CSV, to the value in "
        "the same rows as JSON",
    )


class Problem(BaseModel):
    """What is wrong and what to do about it (RFC 9457)."""

    type: str = Field(
        examples=["/problems/undecodable-image"],
        description="the page that explains the failure: a URI reference, relative to the server",
    )
    code: str = Field(examples=["undecodable-image"], description="the stable name of the failure, for programs")
    title: str = Field(examples=["Undecodable image"])
    status: int = Field(examples=[422])
    detail: str = Field(
        examples=["The image cannot be decoded (image file is truncated): it is damaged or truncated."],
        description="this occurrence, and what to do",
    )
    instance: str = Field(examples=["/v1/predict"], description="the path of the request")
    request_id: str = Field(examples=["5f3a9c-2b"], description="as in the header X-Request-ID and in the log")
    index: int | None = Field(None, examples=[0], description="index of the item of the request at fault")
    errors: list[ProblemError] | None = Field(
        None, description="all that is wrong with the parameters or the body, up to twenty entries; absent if unknown"
    )


_STRING, _SECONDS = {"type": "string"}, {"type": "integer", "minimum": 1}
_ID = {"description": "as sent, or made; the log line carries it", "required": True, "schema": _STRING}
REQUEST_ID = {"X-Request-ID": _ID}
_RETRY_AFTER = {"description": "seconds after which there may be room", "required": True, "schema": _SECONDS}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route that may fail with these statuses."""
    found = {status: [entry for entry in CATALOGUE.values() if entry.status == status] for status in statuses}
    return {
        status: {
            "description": "\n".join(f"- `{entry.code}`: {entry.meaning}" for entry in found[status]),
            "headers": REQUEST_ID | ({"Retry-After": _RETRY_AFTER} if status == 429 else {}),
            # Not as `model`, which would offer the same as application/json too.
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {
                        entry.code: {
                            "summary": entry.example.title(),
                            "value": _content(entry.example, "", entry.path, "5f3a9c-2b"),
                        }
                        for entry in found[status]
                    },
                }
            },
        }
        for status in statuses
    }


def problem_json(failure: QuartetError, scope: Scope) -> Response:
    """The document that `Problem` describes."""
    root: str = scope.get("root_path", "").rstrip("/")
    content = _content(failure, root, truncate(scope["path"]), scope.get("quartet.id", ""))
    if any(name == b"user-agent" and value.startswith(_FORMER_CLIENT) for name, value in scope.get("headers", ())):
        content["type"] = f"{_FORMER_TYPE}{failure.slug}"
    return Response(pydantic_core.to_json(content), failure.status, failure.headers, MEDIA_TYPE)


def _content(failure: QuartetError, root: str, instance: str, request_id: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        # RFC 9457 has `about:blank` for a problem that says no more than its status.
        "type": f"{root}{PAGES}/{failure.slug}" if failure.slug in CATALOGUE else "about:blank",
        "title": failure.title(),
        "status": failure.status,
        "code": failure.slug,
        "detail": failure.detail,
        "instance": instance,
        "request_id": request_id,
    }
    if failure.index is not None:
        content["index"] = failure.index
    if failure.faults:
        content["errors"] = [
            {name: value for name, value in fault._asdict().items() if value is not None} for fault in failure.faults
        ]
    return content
