"""A model as it is served: its policy, applied to the versions that are loaded."""

import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from service.inference.leases import Version
from service.policy.policy import LATEST, Policy

# Where a call stands among all calls of a model, from 0 to 1; given the header that decides, if the policy names one,
# and the canary's label.
Position = Callable[[str | None, str], float]


def anywhere(*_: str | None) -> float:
    """A random position."""
    return random.random()  # noqa: S311 - no secret


class Route(NamedTuple):
    """Which version answers a call.

    Attributes:
        version: that answers.
        alias: through which the call came, or the first one of the version; None without one.
        watched: whether the call counts for a canary or a shadow.
        shadow: the version that gets a copy of the call; None for no copy.
    """

    version: Version
    alias: str | None
    watched: bool = False
    shadow: Version | None = None


class Served:
    """A model with one policy and one set of loaded versions.

    Args:
        name: of the model.
        policy: in force.
        loaded: versions by number.
        former: answered before a newer version did, and is kept for a rollback; left out unless it is loaded.

    Attributes:
        default: the version that answers unless a call asks for another; None if none can.
        canary: the version on trial; None without one, or if it is not loaded.
        shadow: the same of a shadow.
    """

    def __init__(self, name: str, policy: Policy, loaded: Mapping[str, Version], former: Version | None = None) -> None:
        self.name = name
        self.policy = policy
        self.loaded = loaded
        self.former = former if former is not None and loaded.get(former.version) is former else None
        self.default = self._find(policy.default_of(loaded))
        self.canary = self._find(policy.number(policy.canary.version) if policy.canary else None)
        self.shadow = self._find(policy.number(policy.shadow.version) if policy.shadow else None)
        for version in loaded.values():
            version.name_by(tuple(alias for alias, number in policy.aliases.items() if number == version.version))

    @property
    def asked(self) -> list[str]:
        """The loaded versions that the policy asks for, without the one that is only kept for a rollback."""
        kept = self.former.version if self.former and self.former.version not in self.policy.named else None
        return [number for number in self.loaded if number != kept]

    def _find(self, number: str | None) -> Version | None:
        return self.loaded.get(number) if number else None

    def route(self, wanted: str | None, position: Position) -> Route | None:
        """The version for a call; None if it is not loaded.

        Args:
            wanted: a version, an alias, `latest`, or None for the default.
            position: of the call, which decides whether a canary answers.
        """
        policy, version, alias = self.policy, self.default, None
        if wanted is None:
            canary, share = policy.canary, self._canary_share
            if share and canary and self.canary and position(canary.sticky, self.canary.label) < share:
                return self._routed(self.canary, canary.version)
            alias = policy.default
        elif wanted == LATEST:
            version = self._find(policy.latest(self.loaded))
        else:
            alias, number = wanted, policy.number(wanted)
            # What answers for the aliases of the default may be a version that takes the place of a broken one.
            if wanted not in policy.aliases or number != policy.number(policy.default):
                version = self._find(number)
        return None if version is None else self._routed(version, alias)

    def _routed(self, version: Version, asked: str | None) -> Route:
        alias = asked if asked in self.policy.aliases else next(iter(version.aliases), None)
        if self.canary is None and self.shadow is None:
            return Route(version, alias)
        shadow = self.shadow if version is self.default else None
        if shadow is not None and self.policy.shadow is not None and anywhere() >= self.policy.shadow.share:
            shadow = None
        watched = version is self.default or version is self.canary
        return Route(version, alias, watched, shadow)

    def share(self, version: Version) -> float:
        """The share of the calls without a version that this version answers now."""
        if version is self.canary:
            return self._canary_share
        return 1 - self._canary_share if version is self.default else 0.0

    @property
    def _canary_share(self) -> float:
        canary = self.policy.canary
        if canary is None or self.canary is None or self.default is None or self.canary.withdrawn == canary:
            return 0.0
        return canary.stage(time.time()).share
