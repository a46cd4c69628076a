"""GET /v1/models/{name}/{version}/samples: inputs to try a version with, from its golden file."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from service.api.caching import cacheable, entity_tag
from service.api.v1.versions import Name, VersionCache, VersionNumber
from service.inference.golden import read_golden
from service.inference.repository import Version
from service.stack.problems import responses
from service.tasks.base import Sample
from service.tasks.registry import Registry


class SampleList(BaseModel):
    """How many samples there are: `…/samples/0` is the first."""

    data: str = Field(examples=["CIFAR-10 (JPEG q75)"], description="where they come from")
    media_types: list[str] = Field(
        examples=[["image/png"]], description="of each sample, in order; empty where there are none"
    )


def samples_router(registry: Registry) -> APIRouter:
    """The routes of the samples of the registered tasks' models."""
    router = APIRouter(prefix="/v1/models/{name}/{version}", tags=["models"], responses=responses(404, 422, 500))
    samples = VersionCache(partial(_samples, registry=registry))

    @router.get("/samples", summary="Inputs to try a version with", response_model=SampleList)
    async def list_samples(request: Request, name: Name, version: VersionNumber) -> SampleList:
        """How many samples the golden file of a version holds; each can be sent to the model's route as it is."""
        with request.app.repository.lease(f"{name}/{version}") as lease:
            found = await samples.get(lease.version, request.app.threads)
            return SampleList(data=lease.version.manifest.data.name, media_types=[each.media_type for each in found])

    @router.get(
        "/samples/{index}",
        summary="One of them",
        response_class=Response,
        responses={
            200: {"content": {"image/png": {}, "image/jpeg": {}, "application/json": {}, "text/plain": {}}},
        },
    )
    async def show_sample(
        request: Request,
        name: Name,
        version: VersionNumber,
        index: Annotated[int, Path(ge=0, description="from 0", examples=[0])],
    ) -> Response:
        """The body of a request to the model's route."""
        with request.app.repository.lease(f"{name}/{version}") as lease:
            found = await samples.get(lease.version, request.app.threads)
        if index >= len(found):
            raise HTTPException(404)
        return cacheable(request, found[index].data, found[index].media_type, entity_tag(found[index].data))

    return router


def _samples(version: Version, registry: Registry) -> list[Sample]:
    make = registry.tasks[version.manifest.task].samples
    if make is None:
        return []
    return make(read_golden(version.folder, version.manifest)[0], version.manifest, version.companion)
