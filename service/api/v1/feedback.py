"""What people say of answers, and how good the answers of each version were."""

import asyncio
import time
from typing import Annotated, Any, Literal

import fastapi
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from service.access.caller import key_of, may_administer, visible
from service.api.small import SmallBody
from service.api.v1.versions import Name
from service.capture.database import FILE, Unusable
from service.capture.feedback import Said
from service.capture.quality import by_version
from service.capture.store import Store
from service.errors import Conflict
from service.stack.problems import responses

_MOST_ENTRIES = 1000
_MOST_WINDOWS = 400
_HOUR = 3600


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


# A field that is left out is None; null is refused, since it would say nothing.
def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class _FeedbackBody(SmallBody):
    most_bytes = 1 << 18


class FeedbackEntry(BaseModel):
    """What is known of an item now: either whether its answer was right, or the truth."""

    model_config = ConfigDict(extra="forbid")

    request: str = Field(
        strict=True,
        pattern=r"^[A-Za-z0-9._:-]{1,64}$",
        examples=["5f3a9c-2b"],
        description="ID of the request, as its answer has it in X-Request-ID",
    )
    index: int = Field(0, strict=True, ge=0, le=9999, description="of the item in the request")
    right: Annotated[bool, Strict()] = Field(  # type: ignore[assignment]  # a default is not validated
        None, examples=[True], description="whether the answer was right", json_schema_extra=_without_default
    )
    truth: str | _Number | list[dict[str, Any]] = Field(  # type: ignore[assignment]
        None,
        examples=["cat"],
        json_schema_extra=_without_default,
        description="the right label; or the number, where a number is predicted; or for a detector the boxes, each "
        "with `label`, `x_min`, `y_min`, `x_max` and `y_max` in pixels of the image as it was sent",
    )

    @model_validator(mode="after")
    def _has_one(self) -> "FeedbackEntry":
        if (self.right is None) == (self.truth is None):
            raise ValueError("send either right or truth")
        return self


class NewFeedback(BaseModel):
    """Feedback on one or many answers."""

    model_config = ConfigDict(extra="forbid")

    feedback: list[FeedbackEntry] = Field(min_length=1, max_length=_MOST_ENTRIES)


class EntryOutcome(BaseModel):
    """What became of an entry."""

    state: Literal["counted", "waiting", "unknown", "invalid"] = Field(
        description="waiting: it counts if another process of the service knows the answer; unknown: no answer of this "
        "request is known any more, or another key has got it"
    )
    problem: str | None = Field(None, description="of an invalid entry")


class FeedbackAnswer(BaseModel):
    """What became of the entries, in the order sent."""

    counted: int
    results: list[EntryOutcome]


class Quality(BaseModel):
    """A figure of answers with feedback, and its 95 % interval."""

    figure: str = Field(
        examples=["accuracy"],
        description="accuracy, mean absolute error, F1 at an IoU of 0.5, or right (the share of answers called right)",
    )
    count: int = Field(description="answers with feedback")
    value: float = Field(examples=[0.93])
    low: float | None = Field(examples=[0.87], description="null with a single answer of which no share is known")
    high: float | None = Field(examples=[0.96])


class QualityWindow(Quality):
    """The same in a window of time."""

    time: float = Field(description="Unix time of its beginning")


class VersionQuality(Quality):
    """A figure of a version."""

    version: str = Field(examples=["1"])
    windows: list[QualityWindow] = Field(description="those with feedback, the oldest first")


class ModelQuality(BaseModel):
    """How good the answers of a model were, by the feedback on them."""

    model: str = Field(examples=["classifier"])
    since: float = Field(description="Unix time of the first window")
    window: float = Field(examples=[86400.0], description="seconds of a window")
    versions: list[VersionQuality]


def feedback_router() -> APIRouter:
    """POST /v1/feedback and GET /v1/models/{name}/quality."""
    router = APIRouter(prefix="/v1", tags=["feedback"], responses=responses(422, 500), route_class=_FeedbackBody)

    @router.post(
        "/feedback", summary="Say whether answers were right", responses=responses(409, 413, 429),
        response_model=FeedbackAnswer, response_model_exclude_none=True,
    )  # fmt: skip
    async def post_feedback(request: Request, body: NewFeedback) -> dict[str, Any]:
        """Counts feedback on answers of models whose policy has `feedback = true` or `[capture]`.

        Feedback counts for the key that got the answer, or any key with the scope `admin`. Repeated feedback on an
        answer takes the place of the former.
        """
        key = key_of(request.scope)
        outcomes = await request.app.captures.feedbacks.take(
            [Said(each.request, each.index, each.right, each.truth) for each in body.feedback],
            key.name if key else "",
            lambda model: visible(request.scope, model),
            key is not None and may_administer(request.scope),
        )
        return {
            "counted": sum(outcome.state == "counted" for outcome in outcomes),
            "results": [outcome._asdict() for outcome in outcomes],
        }

    @router.get(
        "/models/{name}/quality", summary="How good a model's answers were", responses=responses(404, 409),
        response_model=ModelQuality,
    )  # fmt: skip
    async def get_quality(
        request: Request,
        name: Name,
        window: Annotated[float, fastapi.Query(ge=0.01, le=24 * 366, description="hours of a window")] = 24,
        windows: Annotated[int, fastapi.Query(ge=1, le=_MOST_WINDOWS, description="number of windows")] = 30,
    ) -> dict[str, Any]:
        """The task's own figure for each version, by the feedback on its answers, in total and over time."""
        if name not in request.app.repository.served:
            raise request.app.repository.unknown(name)
        seconds = window * _HOUR
        # Windows begin at whole multiples, so that a later request has the same.
        since = (time.time() // seconds - windows + 1) * seconds
        folder = request.app.settings.captures

        def read() -> list[Any]:
            if not (folder / FILE).exists():
                return []
            with Store(folder) as store:
                return store.sums(name, since, seconds)

        try:
            sums = await asyncio.to_thread(read)
        except Unusable as error:
            raise Conflict(f"Feedback cannot be read: {error}.") from None
        return {"model": name, "since": since, "window": seconds, "versions": by_version(sums, since, seconds)}

    return router
