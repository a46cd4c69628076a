"""The serving policy of a model: which versions are loaded, the default, aliases, canary, shadow and captures."""

import datetime
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from service.policy.capture import Capture

LATEST = "latest"
# Aliases are parts of paths, beside which these names stand.
RESERVED = {
    *(LATEST, "aliases", "audit", "canary", "drift", "load", "pin", "policy", "promote", "quality", "rollback"),
    *("shadow", "unload"),
}
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,62}")
NUMBER = re.compile(r"[0-9]{1,18}")
# A policy must not make a server load, list or log without end.
_MOST_VERSIONS = 64
_MOST_STEPS = 100


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_number(value: str) -> str:
    if not NUMBER.fullmatch(value):
        raise ValueError(f"{value!r} is not the number of a version")
    return value


Number = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_number)]
# A version number or an alias.
Reference = Annotated[str, BeforeValidator(_as_text)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Minutes = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CanaryStep(_Table):
    """A stage of a canary.

    Attributes:
        share: of the calls.
        minutes: that it lasts; None: until somebody changes the policy.
    """

    share: Share
    minutes: Minutes | None = None


class Withdraw(_Table):
    """When a canary is withdrawn; latency and unfamiliar inputs are not looked at by default.

    Attributes:
        after: calls of the canary before it is judged.
        errors: share of failed calls above that of the default version; 1 is never exceeded.
        latency: 95th percentile as a multiple of the default's.
        unfamiliar: share of out-of-distribution inputs above the default's.
    """

    after: int = Field(100, ge=1)
    errors: Share = 0.02
    latency: float | None = Field(None, gt=1, allow_inf_nan=False)
    unfamiliar: Share | None = None


class Stage(NamedTuple):
    """Where a canary is.

    Attributes:
        step: index in `Canary.stages`.
        share: of the calls.
        until: Unix time of its end; None if it has none.
        done: whether all stages have ended, so that the canary becomes the default.
    """

    step: int
    share: float
    until: float | None
    done: bool


class Canary(_Table):
    """A version that answers a share of the calls for the default version.

    Attributes:
        version: that is tried.
        share: of the calls, unless there are `steps`.
        steps: shares one after another. The canary becomes the default when the last one has ended.
        sticky: request header whose hash decides; None: the header `Quartet-Route` of earlier responses.
        started: when the first step began; None: it begins now, so the canary stays on its first step.
        withdraw: when the trial ends by itself.
    """

    version: Reference
    share: Share | None = None
    steps: tuple[CanaryStep, ...] = Field((), max_length=_MOST_STEPS)
    sticky: str | None = Field(None, pattern=r"^[A-Za-z0-9-]{1,64}$")
    started: AwareDatetime | None = None
    withdraw: Withdraw = Withdraw()

    @model_validator(mode="after")
    def _check_steps(self) -> "Canary":
        if (self.share is None) == (not self.steps):
            raise ValueError("a canary has either a share or steps")
        if any(step.minutes is None for step in self.steps[:-1]):
            raise ValueError("every step but the last one needs minutes")
        return self

    @property
    def stages(self) -> tuple[CanaryStep, ...]:
        """The steps, or the one that `share` stands for."""
        return self.steps or (CanaryStep(share=self.share or 0),)

    def stage(self, now: float) -> Stage:
        """Where the canary is at a Unix time."""
        end = self.started.timestamp() if self.started else now
        for index, step in enumerate(self.stages):
            if step.minutes is None:
                # A last step of all calls without a duration needs no time to prove itself.
                return Stage(index, step.share, None, bool(self.steps) and step.share == 1)
            end += 60 * step.minutes
            if now < end:
                return Stage(index, step.share, end, done=False)
        return Stage(len(self.steps) - 1, self.steps[-1].share, None, done=True)


class Promotion(_Table):
    """The condition on which a shadow becomes the default.

    Attributes:
        agreement: share of the compared inputs on which both versions agree.
        after: inputs to compare before the decision.
    """

    agreement: Share
    after: int = Field(ge=1, le=10_000_000)


class Shadow(_Table):
    """A version that gets copies of calls, and whose answers are compared with those of the default version.

    Attributes:
        version: that is tried.
        share: of the calls that are copied.
        promote: when it becomes the default; None: never by itself.
    """

    version: Reference
    share: Share = 1.0
    promote: Promotion | None = None


class Policy(_Table):
    """What `serving.toml` says.

    Attributes:
        serve: whether the model is served at all.
        load: `latest`, the number of newest good versions to load, or a list of versions. Versions that other fields
            name are loaded too.
        default: a version, an alias, or `latest`: the newest one that `load` covers and that is not on trial.
        previous: the version that a rollback returns to.
        aliases: names of versions.
        canary: a version that answers a share of the calls.
        shadow: a version whose answers are only compared.
        capture: which inputs are kept with their answers; None for none.
        feedback: whether feedback on answers is counted; with `capture` it always is.
    """

    serve: Annotated[bool, Field(strict=True)] = True
    load: (
        Literal["latest"]
        | Annotated[int, Field(strict=True, ge=1, le=_MOST_VERSIONS)]
        | Annotated[tuple[Number, ...], Field(max_length=_MOST_VERSIONS)]
    ) = "latest"
    default: Reference = LATEST
    previous: Number | None = None
    aliases: Mapping[str, Number] = Field({}, max_length=_MOST_VERSIONS)
    canary: Canary | None = None
    shadow: Shadow | None = None
    capture: Capture | None = None
    feedback: Annotated[bool, Field(strict=True)] = False

    @field_validator("aliases")
    @classmethod
    def _check_aliases(cls, aliases: Mapping[str, str]) -> Mapping[str, str]:
        for alias in aliases:
            if not _ALIAS.fullmatch(alias) or alias in RESERVED:
                raise ValueError(
                    f"{alias!r} cannot be an alias: use a lower-case letter, then letters, digits, - and _, and none "
                    f"of {', '.join(sorted(RESERVED))}"
                )
        return aliases

    @field_validator("load")
    @classmethod
    def _check_load(cls, load: Any) -> Any:
        if load == ():
            raise ValueError("an empty list would load nothing")
        return load

    @model_validator(mode="after")
    def _check_references(self) -> "Policy":
        trials = {"canary": self.canary, "shadow": self.shadow}
        named = {"default": self.default} | {field: trial.version for field, trial in trials.items() if trial}
        for field, reference in named.items():
            if (field != "default" or reference != LATEST) and self.number(reference) is None:
                known = ", ".join(self.aliases) or "none"
                raise ValueError(f"{field}: {reference!r} is neither a version nor an alias; the aliases are {known}")
        default = self.number(self.default)
        for field, trial in trials.items():
            if trial and self.number(trial.version) == default:
                raise ValueError(f"{field}: version {default} is the default already")
        return self

    def number(self, reference: str) -> str | None:
        """The version that a number or an alias stands for; None for anything else, also for `latest`."""
        return reference if NUMBER.fullmatch(reference) else self.aliases.get(reference)

    @property
    def follows_newest(self) -> bool:
        """Whether new versions take the place of the default, without a version that a rollback returns to."""
        return self.load == self.default == LATEST and self.previous is None

    @property
    def on_trial(self) -> set[str]:
        """The versions of the canary and the shadow."""
        return {self.number(trial.version) or "" for trial in (self.canary, self.shadow) if trial}

    @property
    def named(self) -> list[str]:
        """The versions that the policy names, outside `load`."""
        references = [self.default, self.previous or LATEST, *self.aliases.values(), *self.on_trial]
        numbers = (self.number(reference) for reference in references)
        return list(dict.fromkeys(number for number in numbers if number))

    def needed_after(self, before: "Policy") -> set[str]:
        """The versions that must be loaded when this policy takes the place of another one: those with a new role.

        The others may be missing: an alias of a broken version must not keep anybody from a rollback.
        """
        return {number for _, number in self._roles - before._roles if number}

    @property
    def _roles(self) -> set[tuple[str, str | None]]:
        trials = {"canary": self.canary, "shadow": self.shadow}
        roles = {(field, self.number(trial.version)) for field, trial in trials.items() if trial}
        roles |= {("default", self.number(self.default)), ("previous", self.previous)}
        roles |= {(f"alias {alias}", number) for alias, number in self.aliases.items()}
        return roles | {("load", number) for number in (self.load if isinstance(self.load, tuple) else ())}

    def candidates(self, found: Sequence[str]) -> tuple[list[str], int]:
        """What `load` asks for: versions in the order in which they are tried, and how many good ones suffice.

        Args:
            found: the versions on disk.
        """
        if isinstance(self.load, tuple):
            return list(self.load), len(self.load)
        # The default must be among them.
        trials = self.on_trial if self.default == LATEST else ()
        count = self.load if isinstance(self.load, int) else 1
        return [version for version in newest_first(found) if version not in trials], count

    def default_of(self, loaded: Collection[str]) -> str | None:
        """The version that answers by default.

        If it is not loaded, because it is broken for example, the previous one takes its place, and then the newest
        one that is not on trial; None without any.

        Args:
            loaded: the loaded versions.
        """
        wanted = self.number(self.default)
        if wanted in loaded:
            return wanted
        if wanted is not None and self.previous in loaded:
            return self.previous
        return self.latest(loaded)

    def latest(self, loaded: Collection[str]) -> str | None:
        """The newest loaded version that `load` covers and that is not on trial."""
        candidates, _ = self.candidates(newest_first(loaded))
        return next(iter(newest_first(set(candidates) & set(loaded) - self.on_trial)), None)


def newest_first(versions: Collection[str]) -> list[str]:
    """Version numbers in descending order."""
    return sorted(versions, key=int, reverse=True)


def utc_now() -> datetime.datetime:
    """The time, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
