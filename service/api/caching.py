"""Answers that a client may keep: each has an entity tag, and is not sent again to who has it (RFC 9110, 13.1.2)."""

import hashlib
from collections.abc import Mapping

from fastapi import Request, Response

# Kept, but asked about each time.
REVALIDATE = "no-cache"


def entity_tag(content: bytes) -> str:
    """A strong tag of what is sent."""
    return f'"{hashlib.sha256(content).hexdigest()[:20]}"'


def cacheable(
    request: Request, content: bytes, media_type: str, tag: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The content, or 304 where the client has it already.

    Args:
        request: may name what the client has.
        content: the body.
        media_type: of the body.
        tag: its entity tag.
        headers: further ones; `cache-control` among them, unless the client is to ask each time.
    """
    headers = {"cache-control": REVALIDATE, **(headers or {}), "etag": tag}
    held = request.headers.get("if-none-match", "")
    if tag in (each.strip().removeprefix("W/") for each in held.split(",")) or held.strip() == "*":
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
