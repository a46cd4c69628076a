"""The routes of the page: `/`, the page of a model card, those of the course, and their files.

They hold no data of a model. The page asks the API for everything that it shows, with the key that it was given, so
the API's access rules hold for the page too.
"""

import pydantic_core
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from service.api.headers import REVALIDATE, cacheable, security_headers
from service.web.bundle import Asset, Bundle

_FOREVER = "public, max-age=31536000, immutable"
_SECURITY_HEADERS = {
    **security_headers(
        {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            # Pictures that the user chose or drew, and pictures in answers.
            "img-src": "'self' blob: data:",
            "media-src": "'self' blob:",
            "connect-src": "'self'",
            "worker-src": "'self'",
        }
    ),
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


def install(app: FastAPI) -> None:
    """Adds the routes."""
    bundle = Bundle()
    home, card = bundle.index("./"), bundle.index("../../")
    contents, lesson = bundle.index("./", learn=True), bundle.index("../", learn=True)
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def root(request: Request) -> Response:
        if prefers_json(request.headers.get("accept", "")):
            links = {"docs": "/docs", "openapi": "/openapi.json", "models": "/v1/models", "ready": "/healthz/ready"}
            content = pydantic_core.to_json({"title": app.title, "version": app.version, **links})
            return Response(content, media_type="application/json", headers={"vary": "accept"})
        return _send(request, home, {**_SECURITY_HEADERS, "vary": "accept, accept-encoding"})

    @router.api_route("/models/{name}/{version}", methods=["GET", "HEAD"])
    async def model_card(request: Request, name: str, version: str) -> Response:  # noqa: ARG001
        return _send(request, card, _SECURITY_HEADERS)

    @router.api_route("/learn", methods=["GET", "HEAD"])
    async def learn(request: Request) -> Response:
        return _send(request, contents, _SECURITY_HEADERS)

    @router.api_route("/learn/{section}", methods=["GET", "HEAD"])
    async def learn_section(request: Request, section: str) -> Response:
        if section not in bundle.sections:
            raise HTTPException(404)
        return _send(request, lesson, _SECURITY_HEADERS)

    @router.api_route("/web/{digest}/{path:path}", methods=["GET", "HEAD"])
    async def static(request: Request, digest: str, path: str) -> Response:
        asset = bundle.assets.get(path)
        if asset is None:
            raise HTTPException(404)
        # A page that was opened before an upgrade gets the new files, but must not keep them under the old address.
        kept = _FOREVER if digest == bundle.digest else REVALIDATE
        # A worker obeys the policy of its own file.
        policy = {"content-security-policy": _SECURITY_HEADERS["content-security-policy"]}
        return _send(request, asset, {**policy, "cache-control": kept})

    app.include_router(router)


def prefers_json(accept: str) -> bool:
    """Whether an Accept header names JSON but not HTML, as programs do and browsers do not."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "text/html" not in named and any(part == "application/json" or part.endswith("+json") for part in named)


def _send(request: Request, asset: Asset, headers: dict[str, str]) -> Response:
    headers = {"vary": "accept-encoding", **headers}
    if asset.packed is not asset.content and "gzip" in request.headers.get("accept-encoding", ""):
        return cacheable(request, asset.packed, asset.media_type, {**headers, "content-encoding": "gzip"})
    return cacheable(request, asset.content, asset.media_type, headers)
