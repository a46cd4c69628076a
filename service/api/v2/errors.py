"""Failures as the Open Inference Protocol has them: `{"error": "…"}`."""

import pydantic_core
from starlette.responses import Response
from starlette.types import Scope

from service.errors import QuartetError

# What the protocol has no status for. Others keep the status that proxies and clients act upon.
_BAD_REQUEST = (409, 415, 422)


def v2_error(failure: QuartetError, scope: Scope) -> Response:
    """The document; the id of the request is in its header."""
    del scope
    status = 400 if failure.status in _BAD_REQUEST else failure.status
    return Response(
        pydantic_core.to_json({"error": failure.detail}), status, failure.headers, media_type="application/json"
    )
