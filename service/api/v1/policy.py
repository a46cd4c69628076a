"""The serving policy of a model: what answers now, and the changes that operators make."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import fastapi
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from service.access.caller import actor
from service.api.small import SmallBody
from service.api.v1.versions import Name
from service.errors import Conflict, InvalidRequest
from service.inference.repository import Unservable
from service.inference.routing import Served
from service.policy import changes
from service.policy.policy import (
    Canary,
    CanaryStep,
    Policy,
    Promotion,
    Shadow,
    Share,
    Withdraw,
    newest_first,
    utc_now,
)
from service.stack.problems import responses

_LAST = 20
_CHANGE = responses(409, 413)
Alias = Annotated[str, fastapi.Path(pattern=r"^[a-z][a-z0-9_-]{0,62}$", examples=["stable"])]
Wanted = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$", description="a number or an alias")]
# The newest versions that are not loaded are listed, up to this number.
_MOST_UNUSED = 100
# Further versions that a rollback tries, below one that is bad.
_MOST_TRIED = 10


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Which(_Body):
    """A version."""

    version: Wanted = Field(examples=["2"])


class Pin(_Body):
    """A version to stay with."""

    version: Wanted | None = Field(
        None, examples=["2"], description="a number or an alias; without it the version that answers now"
    )


class Promote(_Body):
    """The version that becomes the default, and on which condition."""

    version: Wanted | None = Field(
        None,
        examples=["candidate"],
        description="a number or an alias; without it the one on trial",
    )
    if_agreement: Share | None = Field(
        None,
        examples=[0.98],
        description="promote if the share of equal answers is at least this, withdraw otherwise",
    )
    after: int = Field(1000, ge=1, le=10_000_000, description="compared inputs before that decision")


class NewCanary(_Body):
    """A version that answers a share of the calls."""

    version: Wanted = Field(examples=["candidate"])
    share: Share | None = Field(None, examples=[0.05])
    steps: tuple[CanaryStep, ...] = Field((), max_length=100)
    sticky: str | None = Field(None, pattern=r"^[A-Za-z0-9-]{1,64}$", examples=["X-User"])
    withdraw: Withdraw = Withdraw()


class NewShadow(_Body):
    """A version that gets copies of the calls."""

    version: Wanted = Field(examples=["candidate"])
    share: Share = 1.0


class VersionState(BaseModel):
    """A version on disk or in memory."""

    version: str = Field(examples=["1"])
    status: Literal["serving", "loaded", "refused", "available"] = Field(
        description="serving: it answers a share of the calls that name no version; available: on disk, not loaded"
    )
    aliases: list[str] = Field(examples=[["stable"]])
    share: float = Field(examples=[0.95], description="of the calls that name no version")
    variant: str | None = Field(examples=["int8"])
    device: str | None = Field(examples=["cpu"])
    reason: str | None = Field(description="why it is refused")


class CanaryNow(BaseModel):
    """A canary, and where it is."""

    version: str = Field(examples=["2"])
    share: float = Field(examples=[0.05])
    step: int = Field(examples=[0])
    steps: list[CanaryStep]
    started: float | None = Field(description="Unix time")
    next_step: float | None = Field(description="Unix time of the end of the step")


class ShadowNow(BaseModel):
    """A shadow."""

    version: str = Field(examples=["2"])
    share: float = Field(examples=[1.0])
    promote: Promotion | None


class PolicyFile(BaseModel):
    """Where the policy comes from."""

    file: str = Field(examples=["models/classifier/serving.toml"])
    exists: bool
    writable: bool = Field(description="whether the routes here can change it")
    error: str | None = Field(description="what is wrong with it; the previous policy is in force then")


class Change(BaseModel):
    """An entry of the audit log."""

    time: str = Field(examples=["2026-11-30T10:00:00+00:00"])
    actor: str = Field(examples=["alice"], description="the name of an API key; `policy` for what the server decided")
    action: str = Field(examples=["promote 2"])
    before: dict[str, Any]
    after: dict[str, Any]


class ServingState(BaseModel):
    """What answers for a model."""

    model: str = Field(examples=["classifier"])
    default: str | None = Field(examples=["1"], description="the version that answers; null if none can")
    previous: str | None = Field(description="the version that a rollback returns to")
    aliases: dict[str, str] = Field(examples=[{"stable": "1", "candidate": "2"}])
    versions: list[VersionState]
    canary: CanaryNow | None
    shadow: ShadowNow | None
    policy: PolicyFile
    last: Change | None = Field(description="the last change")
    verdict: str | None = Field(description="the last thing that the server decided by itself")


class AuditLog(BaseModel):
    """Changes, the newest first."""

    entries: list[Change]


def policy_router() -> APIRouter:
    """The routes below /v1/models/{name} that show and change its policy."""
    router = APIRouter(
        prefix="/v1/models/{name}",
        tags=["serving policy"],
        responses=responses(404, 422, 500),
        route_class=SmallBody,
    )

    async def change(
        request: Request, name: str, action: str, propose: Callable[[Policy, Served], Policy]
    ) -> ServingState:
        administration = request.app.lifecycle.administration
        await administration.change(name, propose, actor=actor(request.scope), action=action)
        return await _state(request, name)

    @router.get("/policy", summary="What answers for a model", response_model=ServingState)
    async def get_policy(request: Request, name: Name) -> ServingState:
        """Versions, aliases, shares of the calls, trials, and the file that says so."""
        return await _state(request, name)

    @router.get("/audit", summary="Who changed the policy", response_model=AuditLog)
    async def get_audit_log(request: Request, name: Name) -> AuditLog:
        """The last hundred changes, the newest first."""
        _served(request, name)
        return AuditLog(entries=[Change(**entry) for entry in await request.app.lifecycle.administration.audit(name)])

    @router.post("/load", summary="Load a version", response_model=ServingState, responses=_CHANGE)
    async def load_version(request: Request, name: Name, body: Which) -> ServingState:
        """Loads a version beside the others. `load` in the policy becomes a list; a default of `latest` is fixed."""
        return await change(
            request, name, f"load {body.version}",
            lambda policy, served: changes.load(policy, body.version, served.asked, _default(policy, served)),
        )  # fmt: skip

    @router.post("/unload", summary="Unload a version", response_model=ServingState, responses=_CHANGE)
    async def unload_version(request: Request, name: Name, body: Which) -> ServingState:
        """Unloads a version that neither answers by default nor has an alias or a trial; `load` becomes a list."""
        return await change(
            request, name, f"unload {body.version}",
            lambda policy, served: changes.unload(policy, body.version, served.loaded, _default(policy, served)),
        )  # fmt: skip

    @router.post("/pin", summary="Stay with a version", response_model=ServingState, responses=_CHANGE)
    async def pin_version(request: Request, name: Name, body: Pin) -> ServingState:
        """Makes a version the default by its number: newer versions are loaded, but do not answer."""
        return await change(
            request, name, f"pin {body.version or 'the default'}",
            lambda policy, served: changes.pin(policy, body.version, _default(policy, served)),
        )  # fmt: skip

    @router.post("/promote", summary="Make a version the default", response_model=ServingState, responses=_CHANGE)
    async def promote_version(request: Request, name: Name, body: Promote) -> ServingState:
        """At once, or with `if_agreement` when `after` inputs have been compared: then it is promoted or withdrawn."""
        version = body.version or _on_trial(_served(request, name))
        if body.if_agreement is None:
            return await change(
                request, name, f"promote {version}",
                lambda policy, served: changes.promote(policy, version, _default(policy, served)),
            )  # fmt: skip
        condition = Promotion(agreement=body.if_agreement, after=body.after)
        return await change(
            request, name, f"promote {version} at an agreement of {body.if_agreement:g} after {body.after}",
            lambda policy, served: changes.promote_if(policy, version, condition, _default(policy, served)),
        )  # fmt: skip

    @router.post("/rollback", summary="Return to the previous default", response_model=ServingState, responses=_CHANGE)
    async def roll_back(request: Request, name: Name) -> ServingState:
        """Makes the previous default answer again, and ends a canary."""
        found = await asyncio.to_thread(request.app.repository.on_disk, name)

        def propose(policy: Policy, served: Served) -> Policy:
            return changes.rollback(
                policy, _default(policy, served), served.former.version if served.former else None, found
            )

        while True:
            try:
                return await change(request, name, "rollback", propose)
            except Conflict as error:
                bad = error.__cause__.number if isinstance(error.__cause__, Unservable) else None
                below = [number for number in found if bad is not None and int(number) < int(bad)]
                if bad not in found or not below:
                    raise
                found = below[:_MOST_TRIED]

    @router.put("/canary", summary="Start a canary", response_model=ServingState, responses=_CHANGE)
    async def start_canary(request: Request, name: Name, body: NewCanary) -> ServingState:
        """A version answers a share of the calls, or one share after another; then it becomes the default."""
        try:
            canary = Canary(**body.model_dump(), started=utc_now())
        except ValueError:
            raise InvalidRequest(
                "A canary has either a share or steps, and every step but the last one has minutes."
            ) from None
        return await change(
            request, name, f"canary {body.version}",
            lambda policy, served: changes.set_canary(policy, canary, _default(policy, served)),
        )  # fmt: skip

    @router.delete("/canary", summary="End the canary", response_model=ServingState, responses=_CHANGE)
    async def end_canary(request: Request, name: Name) -> ServingState:
        """The default version answers every call again."""
        return await change(request, name, "end the canary", lambda policy, _: changes.set_canary(policy, None, None))

    @router.put("/shadow", summary="Start a shadow", response_model=ServingState, responses=_CHANGE)
    async def start_shadow(request: Request, name: Name, body: NewShadow) -> ServingState:
        """A version gets copies of the calls, and its answers are compared with those that are given."""
        shadow = Shadow(**body.model_dump())
        return await change(
            request, name, f"shadow {body.version}",
            lambda policy, served: changes.set_shadow(policy, shadow, _default(policy, served)),
        )  # fmt: skip

    @router.delete("/shadow", summary="End the shadow", response_model=ServingState, responses=_CHANGE)
    async def end_shadow(request: Request, name: Name) -> ServingState:
        """No more calls are copied."""
        return await change(request, name, "end the shadow", lambda policy, _: changes.set_shadow(policy, None, None))

    @router.put("/aliases/{alias}", summary="Set an alias", response_model=ServingState, responses=_CHANGE)
    async def set_alias(request: Request, name: Name, alias: Alias, body: Which) -> ServingState:
        """Lets an alias stand for a version."""
        return await change(
            request, name, f"alias {alias} for {body.version}",
            lambda policy, _: changes.set_alias(policy, alias, body.version),
        )  # fmt: skip

    @router.delete("/aliases/{alias}", summary="Remove an alias", response_model=ServingState, responses=_CHANGE)
    async def remove_alias(request: Request, name: Name, alias: Alias) -> ServingState:
        """Removes an alias that nothing uses."""
        return await change(
            request, name, f"remove the alias {alias}", lambda policy, _: changes.clear_alias(policy, alias)
        )

    return router


def _served(request: Request, name: str) -> Served:
    repository = request.app.repository
    served: Served | None = repository.served.get(name)
    if served is None:
        raise repository.unknown(name)
    return served


def _default(policy: Policy, served: Served) -> str | None:
    """The version that answers by default. Another process may have changed the policy since this one looked."""
    return policy.default_of(served.loaded)


def _on_trial(served: Served) -> str:
    trial = served.policy.shadow or served.policy.canary
    if trial is None:
        raise Conflict("There is neither a shadow nor a canary: name the version.")
    return trial.version


async def _state(request: Request, name: str) -> ServingState:
    repository, administration = request.app.repository, request.app.lifecycle.administration
    served = _served(request, name)
    found = await asyncio.to_thread(repository.on_disk, name)
    entries = [Change(**entry) for entry in await administration.audit(name, _LAST)]
    unused = [number for number in found if number not in served.loaded][:_MOST_UNUSED]
    policy, canary = served.policy, served.policy.canary
    now = None
    if canary is not None:
        stage = canary.stage(time.time())
        now = CanaryNow(
            version=policy.number(canary.version) or "",
            share=served.share(served.canary) if served.canary else 0.0,
            step=stage.step,
            steps=list(canary.stages),
            started=canary.started.timestamp() if canary.started else None,
            next_step=stage.until,
        )
    shadow = policy.shadow
    return ServingState(
        model=name,
        default=served.default.version if served.default else None,
        previous=policy.previous,
        aliases=dict(policy.aliases),
        versions=[_version(repository, served, number) for number in newest_first({*unused, *served.loaded})],
        canary=now,
        shadow=ShadowNow(version=policy.number(shadow.version) or "", share=shadow.share, promote=shadow.promote)
        if shadow
        else None,
        policy=PolicyFile(**await asyncio.to_thread(administration.describe, name)),
        last=entries[0] if entries else None,
        verdict=next((entry.action for entry in entries if entry.actor == "policy"), None),
    )


def _version(repository: Any, served: Served, number: str) -> VersionState:
    version = served.loaded.get(number)
    reason = repository.refused.get(f"{served.name}/{number}")
    share = served.share(version) if version else 0.0
    loaded: Literal["serving", "loaded"] = "serving" if share else "loaded"
    return VersionState(
        version=number,
        status=loaded if version else "refused" if reason else "available",
        aliases=[alias for alias, target in served.policy.aliases.items() if target == number],
        share=share,
        variant=version.variant if version else None,
        device=version.device if version else None,
        reason=reason,
    )
