"""GET /v1/models/{name}/{version}/…: the model card, the files beside it, and samples to try the version with."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Generic, TypeVar
from weakref import WeakKeyDictionary

import fastapi
from fastapi import APIRouter, Request, Response
from markdown_it import MarkdownIt
from pydantic import BaseModel, Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from service.api.headers import cacheable
from service.inference.golden import read_golden
from service.inference.leases import Version
from service.policy.policy import LATEST, RESERVED
from service.stack.problems import responses
from service.tasks.base import Sample
from service.tasks.registry import Registry
from service.tasks.threads import Threads

Name = Annotated[str, fastapi.Path(description="as in `GET /v1/models`", examples=["classifier"])]
VersionNumber = Annotated[
    str, fastapi.Path(description="number or alias, as in `GET /v1/models`", examples=["1"], max_length=64)
]
Wanted = Annotated[
    str | None, fastapi.Query(description="a number or an alias; without it the default", min_length=1, max_length=64)
]
Value = TypeVar("Value")

# A version in a path: none of the names that stand beside versions there.
VERSION = "{version:version}"
_REPORT = "report"
_CARD = "README.md"
# Other files of a report are not served: SVG can run scripts.
_MEDIA_TYPES = {
    ".md": "text/markdown; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
}
# A card from a hostile author must not run anything when it is opened by itself.
_SECURITY_HEADERS = {"content-security-policy": "default-src 'none'; img-src 'self'; frame-ancestors 'none'"}


class _VersionConvertor(StringConvertor):
    regex = rf"(?!(?:{'|'.join(sorted(RESERVED - {LATEST}))})(?:/|$))[^/]+"


register_url_convertor("version", _VersionConvertor())


class SampleList(BaseModel):
    """How many samples there are: `…/samples/0` is the first."""

    data: str | None = Field(
        examples=["CIFAR-10 (JPEG q75)"], description="where they come from; null if that is not known"
    )
    media_types: list[str] = Field(
        examples=[["image/png"]], description="of each sample, in order; empty where there are none"
    )
    labels: list[str] | None = Field(
        None, examples=[["cat"]], description="the true label of each sample; null if that is not known"
    )


class VersionCache(Generic[Value]):
    """A value per version, computed on a thread at its first use and kept as long as the version.

    Concurrent callers share one computation.
    """

    def __init__(self, compute: Callable[[Version], Value]) -> None:
        self._compute = compute
        self._values: WeakKeyDictionary[Version, asyncio.Future[Value]] = WeakKeyDictionary()

    async def get(self, version: Version, threads: Threads) -> Value:
        """The value of a version. The error of a failed computation is raised, and the next call tries again."""
        if version not in self._values:
            value = self._values[version] = asyncio.ensure_future(threads.run(self._compute, version))
            value.add_done_callback(partial(self._forget_failure, version))
        # A client that disconnects must not cancel the work for the others.
        return await asyncio.shield(self._values[version])

    def _forget_failure(self, version: Version, value: asyncio.Future[Value]) -> None:
        if value.cancelled() or value.exception() is not None:
            del self._values[version]


def versions_router(registry: Registry) -> APIRouter:
    """The routes of the reports and samples of the registered tasks' models."""
    router = APIRouter(prefix=f"/v1/models/{{name}}/{VERSION}", tags=["models"], responses=responses(404, 422, 500))
    files = VersionCache(_files)
    cards = VersionCache(_card)
    samples = VersionCache(partial(_samples, registry=registry))

    @router.get("/samples", summary="Inputs to try a version with", response_model=SampleList)
    async def list_samples(request: Request, name: Name, version: VersionNumber) -> SampleList:
        """How many samples the golden file of a version holds; each can be sent to the model's route as it is."""
        with request.app.repository.lease(f"{name}/{version}") as lease:
            found = await samples.get(lease.version, request.app.threads)
            manifest = lease.version.manifest
            labels = manifest.golden.labels
            return SampleList(
                data=manifest.data.name if manifest.data else None,
                media_types=[each.media_type for each in found],
                labels=None if labels is None else [labels[each.row] for each in found],
            )

    @router.get(
        "/samples/{index}",
        summary="One of them",
        response_class=Response,
        responses={200: {"content": {"image/png": {}, "application/json": {}, "text/plain": {}}}},
    )
    async def get_sample(
        request: Request,
        name: Name,
        version: VersionNumber,
        index: Annotated[int, fastapi.Path(ge=0, description="from 0", examples=[0])],
    ) -> Response:
        """The body of a request to the model's route."""
        with request.app.repository.lease(f"{name}/{version}") as lease:
            found = await samples.get(lease.version, request.app.threads)
        if index >= len(found):
            raise HTTPException(404)
        return cacheable(request, found[index].data, found[index].media_type)

    @router.get(
        "/report",
        summary="The model card",
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    async def get_model_card(request: Request, name: Name, version: VersionNumber) -> Response:
        """The card in HTML. Its pictures are at `…/report/FILE`; HTML in the card is shown as text."""
        with request.app.repository.lease(f"{name}/{version}") as lease:
            card = await cards.get(lease.version, request.app.threads)
        if card is None:
            raise HTTPException(404)
        return cacheable(request, card, "text/html; charset=utf-8", _SECURITY_HEADERS)

    @router.get(
        "/report/{file}",
        summary="A file of the report",
        response_class=Response,
        responses={200: {"content": {media_type.partition(";")[0]: {} for media_type in _MEDIA_TYPES.values()}}},
    )
    async def get_report_file(
        request: Request,
        name: Name,
        version: VersionNumber,
        file: Annotated[str, fastapi.Path(description="a name in the report's folder", examples=[_CARD])],
    ) -> Response:
        """The card's pictures, its text in Markdown, and the other files beside it."""
        with request.app.repository.lease(f"{name}/{version}") as lease:
            path = (await files.get(lease.version, request.app.threads)).get(file)
        if path is None:
            raise HTTPException(404)
        try:
            content = await request.app.threads.run(path.read_bytes)
        except OSError:  # deleted since the first request
            raise HTTPException(404) from None
        return cacheable(request, content, _MEDIA_TYPES[path.suffix])

    return router


def _samples(version: Version, registry: Registry) -> list[Sample]:
    make = registry.tasks[version.manifest.task].samples
    return make(read_golden(version.folder, version.manifest)[0], version.manifest, version.companion) if make else []


def _files(version: Version) -> dict[str, Path]:
    """The files of a report by name. A request cannot name others, and links that lead elsewhere are left out."""
    folder = (version.folder / _REPORT).resolve()
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
