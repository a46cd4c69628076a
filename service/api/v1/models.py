"""GET /v1/models: the served models, their versions, devices and test figures."""

from functools import partial, reduce
from operator import or_
from typing import Annotated, Any, get_type_hints

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, create_model

from service.access.caller import visible
from service.api.v1.versions import VERSION, Name, VersionCache, VersionNumber, Wanted
from service.inference.leases import Version
from service.inference.repository import Repository
from service.stack.problems import responses
from service.tasks.registry import Registry


class ModelSummary(BaseModel):
    """A model in a line."""

    name: str = Field(examples=["classifier"])
    version: str = Field(examples=["1"])
    aliases: list[str] = Field(examples=[["stable"]])
    default: bool = Field(description="whether it answers calls that name no version")
    share: float = Field(examples=[1.0], description="of the calls that name no version, which a canary takes part of")
    task: str = Field(examples=["classification"])
    description: str
    device: str = Field(examples=["cpu"])
    fallback: str | None = Field(description="why it does not run on CUDA, where `auto` had to fall back")
    variant: str = Field(
        examples=["int8"], description="which graph answers: `reference`, or a variant that is faster on this machine"
    )
    other_variants: dict[str, str] = Field(
        examples=[{"float16": "it is meant for cuda"}], description="why other variants of this version do not answer"
    )
    labels: int = Field(examples=[10], description="how many labels it knows")
    metrics: dict[str, float] = Field(
        examples=[{"accuracy": 0.94}], description="how good it is, with this variant, on the test split of `data`"
    )
    data: str | None = Field(
        examples=["CIFAR-10 (JPEG q75)"],
        description="that it was trained or measured on; null if unknown",
    )
    drift: bool = Field(description="whether inputs and answers are compared with its validation split")
    feedback: bool = Field(description="whether feedback on its answers is counted")
    queue_depth: int = Field(examples=[0], description="items that wait now")
    max_batch: int = Field(examples=[64])


class ModelList(BaseModel):
    """Everything served, and every version that was refused with the reason."""

    models: list[ModelSummary]
    refused: dict[str, str] = Field(
        examples=[{"classifier/2": "model.onnx: is not the file that the manifest was made with"}]
    )
    disagreeing: dict[str, list[str]] = Field(
        {}, description="models of which the processes of the server have different versions or policies, for a moment"
    )


def models_router(registry: Registry) -> APIRouter:
    """The routes that describe the models of the registered tasks."""
    router = APIRouter(tags=["models"], responses=responses(500))
    detail = _detail_model(registry)

    def explain(version: Version) -> BaseModel | None:
        details = registry.tasks[version.manifest.task].details
        return details(version.companion) if details else None

    details = VersionCache(explain)

    async def describe(request: Request, model: str, wanted: str | None = None) -> ModelSummary:
        repository = request.app.repository
        with repository.lease(model, wanted, lambda *_: 1.0) as lease:  # the default version, not its canary
            version = lease.version
            explained = await details.get(version, request.app.threads)
            return detail(**_summary(version, repository), manifest=version.manifest, details=explained)

    @router.get("/v1/models", summary="List the models", response_model=ModelList)
    async def list_models(request: Request) -> ModelList:
        """What is served, from which version, on which device and how good; and what was refused."""
        repository = request.app.repository
        known = partial(visible, request.scope)
        return ModelList(
            models=[ModelSummary(**_summary(each, repository)) for each in repository.versions if known(each.name)],
            refused={what: why for what, why in repository.refused.items() if known(what.partition("/")[0])},
            disagreeing={
                name: said for name, said in (await request.app.lifecycle.disagreeing()).items() if known(name)
            },
        )

    @router.get(
        "/v1/models/{name}",
        summary="One model with its manifest",
        response_model=detail,
        # Without a 422 here, FastAPI declares one in its own format.
        responses=responses(404, 422),
    )
    async def get_model(request: Request, name: Name, version: Wanted = None) -> ModelSummary:
        """The manifest: labels, input, test figures per class, calibration, conformal table or curves, training.

        Figures, calibration, thresholds and the golden file are those of the variant that answers.
        """
        return await describe(request, name, version)

    @router.get(
        f"/v1/models/{{name}}/{VERSION}",
        summary="One version with its manifest",
        response_model=detail,
        responses=responses(404, 422),
    )
    async def get_model_version(request: Request, name: Name, version: VersionNumber) -> ModelSummary:
        """As `GET /v1/models/{name}`, of a version that is loaded."""
        return await describe(request, name, version)

    return router


def _detail_model(registry: Registry) -> type[ModelSummary]:
    """A summary with the manifest and the details of any of the registered tasks."""
    tasks = registry.tasks.values()
    manifest: Any = reduce(or_, (task.manifest for task in tasks))
    if len(tasks) > 1:
        manifest = Annotated[manifest, Field(discriminator="task")]
    details = reduce(or_, (get_type_hints(task.details)["return"] for task in tasks if task.details), None)
    return create_model(
        "ModelDetail",
        __base__=ModelSummary,
        __doc__="A model with its whole manifest.",
        manifest=(manifest, ...),
        details=(details, Field(None, description="computed from the files beside the graph, for some tasks")),
    )


def _summary(version: Version, repository: Repository) -> dict[str, Any]:
    manifest = version.manifest
    served = repository.served[version.name]
    return {
        "name": version.name,
        "version": version.version,
        "aliases": version.aliases,
        "default": version is served.default,
        "share": served.share(version),
        "task": manifest.task,
        "description": manifest.description,
        "device": version.device,
        "fallback": version.fallback,
        "variant": version.variant,
        "other_variants": version.others,
        "labels": len(manifest.labels),
        "metrics": manifest.headline,
        "data": manifest.data.name if manifest.data else None,
        "drift": bool(getattr(manifest, "histograms", ())),
        "feedback": served.policy.feedback or served.policy.capture is not None,
        "queue_depth": version.batcher.depth,
        "max_batch": version.max_batch,
    }
