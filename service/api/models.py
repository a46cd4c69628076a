"""GET /v1/models: what is served, from which version, on which device, how good."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from service.api.problems import RESPONSES
from service.inference.manifest import Manifest
from service.inference.repository import Model

router = APIRouter(tags=["models"], responses=RESPONSES)


class ModelSummary(BaseModel):
    """A model in a line."""

    name: str = Field(examples=["classifier"])
    version: str = Field(examples=["1"])
    task: str = Field(examples=["image-classification"])
    description: str
    device: str = Field(examples=["cpu"])
    fallback: str | None = Field(description="why it does not run on CUDA, where `auto` had to fall back")
    labels: int = Field(examples=[10], description="how many labels it knows")
    metrics: dict[str, float] = Field(
        examples=[{"accuracy": 0.94}], description="how good it is on the test split of `data`"
    )
    data: str = Field(examples=["CIFAR-10 (JPEG q75)"])
    queue_depth: int = Field(examples=[0], description="items that wait now")
    max_batch: int = Field(examples=[64])


class ModelList(BaseModel):
    """Everything served, and every version that was refused with the reason."""

    models: list[ModelSummary]
    refused: dict[str, str] = Field(examples=[{"classifier/2": "model.onnx: sha256 is … not …"}])


class ModelDetail(ModelSummary):
    """A model with its whole manifest."""

    manifest: Manifest


@router.get("/v1/models", summary="List the models", response_model=ModelList)
async def list_models(request: Request) -> ModelList:
    """What is served, from which version, on which device and how good; and what was refused."""
    repository = request.app.state.repository
    models = [ModelSummary(**_summary(model)) for _, model in sorted(repository.models.items())]
    return ModelList(models=models, refused=repository.refused)


@router.get("/v1/models/{name}", summary="One model with its manifest", response_model=ModelDetail)
async def show_model(
    request: Request, name: Annotated[str, Path(description="as in `GET /v1/models`", examples=["classifier"])]
) -> ModelDetail:
    """The manifest: labels, input, test figures per class, calibration, conformal table or curves, training."""
    model = request.app.state.repository.get(name)
    return ModelDetail(**_summary(model), manifest=model.manifest)


def _summary(model: Model) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": model.name,
        "version": model.version,
        "task": manifest.task,
        "description": manifest.description,
        "device": model.device,
        "fallback": model.session.fallback,
        "labels": len(manifest.labels),
        "metrics": manifest.headline,
        "data": manifest.data.name,
        "queue_depth": model.batcher.depth,
        "max_batch": model.max_batch,
    }
