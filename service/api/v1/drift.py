"""Drift: how the inputs and answers of a version differ from those of its validation split."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.api.v1.versions import Name, Wanted
from service.errors import NotFound
from service.stack.problems import responses


class Feature(BaseModel):
    """A statistic of inputs or answers, in the window and on validation."""

    name: str = Field(examples=["brightness"])
    part: Literal["input", "answer"]
    kind: Literal["number", "category"]
    distance: float | None = Field(
        examples=[0.02],
        description="of numbers the Wasserstein distance in standard deviations of validation, of categories the "
        "Jensen-Shannon distance, from 0 to 1; null before the first item",
    )
    threshold: float = Field(
        examples=[0.1], description="0.1, or more where chance alone can give as much: a small validation split"
    )
    drifted: bool | None = Field(description="whether the distance has reached the threshold; null before `needed`")
    reference: list[float] = Field(description="shares of the validation items in each bin")
    window: list[float] = Field(description="shares of the window's items in each bin")
    edges: list[float] | None = Field(
        None, description="of the bins of numbers, which have one bin more, for items without a value"
    )
    categories: tuple[str, ...] | None = Field(None, description="of the bins of categories")
    mean: float | None = Field(None, description="of the numbers in the window")
    reference_mean: float | None = Field(None, description="of the numbers on validation")


class EstimatedAccuracy(BaseModel):
    """The accuracy that calibrated probabilities promise, without any label."""

    estimate: float = Field(examples=[0.91], description="the mean probability of the most likely labels")
    low: float = Field(description="of the 95 % interval")
    high: float
    test: float | None = Field(description="accuracy on the test split")
    reliable: bool = Field(description="whether nothing speaks against the calibration")
    warning: str | None = Field(description="why the estimate is not reliable")


class DriftState(BaseModel):
    """The window of a version beside its validation split."""

    version: str = Field(examples=["1"])
    items: int = Field(description="in the window, a sample of the last ones of all processes")
    needed: int = Field(examples=[1000], description="items from which on the window is judged")
    since: float | None = Field(description="Unix time of the window's first item; null without one")
    drifted: list[str] | None = Field(
        examples=[["brightness"]], description="the statistics that differ; null before `needed`"
    )
    features: list[Feature]
    accuracy: EstimatedAccuracy | None = Field(
        description="null before `needed`, and for models without calibrated probabilities"
    )


def drift_router() -> APIRouter:
    """The route /v1/models/{name}/drift."""
    router = APIRouter(prefix="/v1/models/{name}", tags=["models"], responses=responses(404, 422, 500))

    @router.get("/drift", summary="How inputs and answers differ from validation", response_model=DriftState)
    async def get_drift(request: Request, name: Name, version: Wanted = None) -> DriftState:
        """Statistics of the last inputs and answers of a version beside those of its validation split.

        Without `version`, of the default version.
        """
        app = request.app
        with app.repository.lease(name, version, lambda *_: 1.0) as lease:  # the default version, not its canary
            number = lease.version.version
        state = await app.lifecycle.drifts.state(name, number)
        if state is None:
            raise NotFound(
                f"{name}/{number} has no histograms of its validation split: `quartet drift {name} --data …` publishes "
                "a version with them."
            )
        return DriftState(version=number, **state)

    return router
