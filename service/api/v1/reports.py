"""GET /v1/models/{name}/{version}/report: the model card, and the files beside it."""

from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from markdown_it import MarkdownIt
from starlette.exceptions import HTTPException

from service.api.caching import cacheable, entity_tag
from service.api.v1.versions import Name, VersionCache, VersionNumber
from service.inference.repository import Version
from service.stack.problems import responses

_FOLDER = "report"
_CARD = "README.md"
# What a report may hold; SVG, which can run scripts, is not among it.
_MEDIA_TYPES = {
    ".md": "text/markdown; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
}
# Opened by itself, the card must not run anything either, whoever wrote it.
_SECURITY_HEADERS = {"content-security-policy": "default-src 'none'; img-src 'self'; frame-ancestors 'none'"}


def reports_router() -> APIRouter:
    """The routes of the model cards."""
    router = APIRouter(prefix="/v1/models/{name}/{version}", tags=["models"], responses=responses(404, 422, 500))
    files = VersionCache(_files)
    cards = VersionCache(_card)

    @router.get(
        "/report",
        summary="The model card",
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    async def show_card(request: Request, name: Name, version: VersionNumber) -> Response:
        """The card in HTML, whose pictures are at `…/report/FILE`; HTML that the card itself holds is shown as text."""
        with request.app.repository.lease(f"{name}/{version}") as lease:
            card = await cards.get(lease.version, request.app.threads)
        if card is None:
            raise HTTPException(404)
        return cacheable(request, card, "text/html; charset=utf-8", entity_tag(card), _SECURITY_HEADERS)

    @router.get(
        "/report/{file}",
        summary="A file of the report",
        response_class=Response,
        responses={200: {"content": {media_type.partition(";")[0]: {} for media_type in _MEDIA_TYPES.values()}}},
    )
    async def show_file(
        request: Request,
        name: Name,
        version: VersionNumber,
        file: Annotated[str, Path(description="a name in the report's folder", examples=[_CARD])],
    ) -> Response:
        """The card's pictures, its text in Markdown, and whatever else lies beside it."""
        with request.app.repository.lease(f"{name}/{version}") as lease:
            path = (await files.get(lease.version, request.app.threads)).get(file)
        if path is None:
            raise HTTPException(404)
        try:
            content = await request.app.threads.run(path.read_bytes)
        except OSError:  # it was there when the version was first asked about
            raise HTTPException(404) from None
        return cacheable(request, content, _MEDIA_TYPES[path.suffix], entity_tag(content))

    return router


def _files(version: Version) -> dict[str, FilePath]:
    """The files of a report by name; a request can name no other, wherever a link leads."""
    folder = (version.folder / _FOLDER).resolve()
    if not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in folder.iterdir()
        if path.suffix in _MEDIA_TYPES and path.is_file() and path.resolve().parent == folder
    }


def _card(version: Version) -> bytes | None:
    path = _files(version).get(_CARD)
    if path is None:
        return None
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    rendered: str = markdown.render(path.read_text(encoding="utf-8", errors="replace"))
    return rendered.encode()
