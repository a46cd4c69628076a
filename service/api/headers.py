"""Response headers: caching by entity tags, and content security policies."""

import hashlib
from collections.abc import Mapping

from fastapi import Request, Response

# The client keeps the response and asks each time whether it is still valid.
REVALIDATE = "no-cache"


def cacheable(request: Request, content: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> Response:
    """The content with a strong entity tag, or 304 if `If-None-Match` names it (RFC 9110, section 13.1.2).

    The headers may state another `cache-control` than `REVALIDATE`.
    """
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"cache-control": REVALIDATE, **(headers or {}), "etag": tag}
    held = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if tag in held or held == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def security_headers(policy: Mapping[str, str]) -> dict[str, str]:
    """Headers of a page with a content security policy, whose address no other site learns and no frame holds."""
    policy = {**policy, "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"}
    return {
        "content-security-policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
    }
