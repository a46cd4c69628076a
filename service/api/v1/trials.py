"""Versions on trial: the figures of canaries and shadows, and the inputs on which versions differ most."""

from typing import Annotated, Any, Literal

import fastapi
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.access.caller import may_administer
from service.api.v1.versions import Name
from service.errors import NotFound
from service.stack.problems import responses


class Latency(BaseModel):
    """Quantiles of queue and inference in milliseconds."""

    p50: float
    p95: float
    p99: float


class CanarySide(BaseModel):
    """The calls that a version has answered since the canary began."""

    version: str = Field(examples=["2"])
    role: Literal["default", "canary"]
    requests: int
    errors: int = Field(description="calls that the version failed; inputs that were refused do not count")
    error_share: float
    latency_ms: Latency
    labels: dict[str, float] = Field(examples=[{"cat": 0.4}], description="shares of the most likely labels")
    unfamiliar: float | None = Field(description="share of inputs unlike the training data; null without p-values")


class CanaryState(BaseModel):
    """A canary beside the default version."""

    share: float = Field(examples=[0.05], description="of the calls that name no version")
    versions: list[CanarySide]
    waits_for: str | None = Field(
        examples=["20 more calls of the canary"], description="why it is not the default yet, after its last step"
    )
    verdict: str | None = Field(description="why it is withdrawn")


class Interval(BaseModel):
    """A share with its 95 % interval (Wilson)."""

    value: float = Field(examples=[0.985])
    low: float
    high: float


class Difference(BaseModel):
    """How much answers differ, by the measure of the task."""

    mean: float
    p95: float
    max: float


class ClassAgreement(BaseModel):
    """Agreement on the inputs that the default version gives a label."""

    label: str
    compared: int
    agreement: float
    low: float
    high: float


class Period(BaseModel):
    """What was compared in a period."""

    time: float = Field(description="Unix time of its beginning")
    compared: int
    agreed: int


class ExampleState(BaseModel):
    """An input on which the versions differ."""

    id: str
    difference: float
    label: str | None
    media_type: str | None = Field(description="of `…/shadow/examples/{id}`; null if the input cannot be shown")
    answer: Any = Field(description="as the route of the task gives it")
    candidate: Any = Field(description="that of the candidate")


class ShadowState(BaseModel):
    """A shadow, and how well its answers agree with those that are given."""

    version: str = Field(examples=["2"])
    against: str = Field(examples=["1"])
    measure: str | None = Field(examples=["same label"], description="null if the versions cannot be compared")
    compared: int = 0
    dropped: int = Field(0, description="inputs for which there was no room or no time")
    failed: int = Field(0, description="inputs on which the candidate failed")
    agreement: Interval | None = None
    difference: Difference | None = None
    classes: list[ClassAgreement] = []
    over_time: list[Period] = []
    examples: list[ExampleState] = Field([], description="those that differ most, for those who may change policies")
    verdict: str | None = Field(None, description="what was decided, and why")


def trials_router() -> APIRouter:
    """The routes below /v1/models/{name} that show trials."""
    router = APIRouter(prefix="/v1/models/{name}", tags=["serving policy"], responses=responses(404, 422, 500))

    @router.get("/canary", summary="A canary and the default version side by side", response_model=CanaryState)
    async def get_canary(request: Request, name: Name) -> CanaryState:
        """Requests, errors, latency, labels and the share of unfamiliar inputs of both versions."""
        _check_model(request, name)
        state = await request.app.lifecycle.canaries.state(name)
        if state is None:
            raise NotFound(f"{name!r} has no canary.")
        return CanaryState(**state)

    @router.get("/shadow", summary="How well a shadow agrees", response_model=ShadowState)
    async def get_shadow(request: Request, name: Name) -> ShadowState:
        """Agreement in total, by class and over time, and the inputs on which the versions differ most."""
        _check_model(request, name)
        # Examples are inputs of other clients.
        state = await request.app.lifecycle.shadows.state(name, with_examples=may_administer(request.scope))
        if state is None:
            raise NotFound(f"{name!r} has no shadow.")
        return ShadowState(**state)

    @router.get(
        "/shadow/examples/{id}",
        summary="An input on which the versions differ",
        response_class=Response,
        responses={200: {"content": {"image/png": {}, "image/jpeg": {}, "application/json": {}, "text/plain": {}}}},
    )
    async def get_shadow_example(
        request: Request, name: Name, identity: Annotated[str, fastapi.Path(alias="id", max_length=64)]
    ) -> Response:
        """The input as a body for the model's route. Inputs of clients are shown to those who may change policies."""
        _check_model(request, name)
        sample = await request.app.lifecycle.shadows.sample(name, identity)
        if sample is None:
            raise NotFound(f"The shadow of {name!r} has no example of this id, or not any more.")
        return Response(sample.data, media_type=sample.media_type, headers={"cache-control": "no-store"})

    return router


def _check_model(request: Request, name: str) -> None:
    if name not in request.app.repository.served:
        raise request.app.repository.unknown(name)
