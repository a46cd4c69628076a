"""The changes of a policy that operators ask for, each as a function of the policy in force."""

from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from service.policy.policy import LATEST, Canary, Policy, Promotion, Shadow, newest_first


class Unchangeable(Exception):
    """The policy does not permit a change; the message says why and what to do."""


def promote(policy: Policy, version: str, default: str | None) -> Policy:
    """Makes a version the default; an alias that stood for the default moves along, and trials of the version end.

    Args:
        policy: in force.
        version: a number or an alias.
        default: the version that answers now; a rollback returns to it.
    """
    number = number_of(policy, version)
    changes: dict[str, Any] = {"canary": policy.canary, "shadow": policy.shadow}
    if default is not None and default != number:
        changes["previous"] = default
    if policy.default in policy.aliases:
        changes["aliases"] = {**policy.aliases, policy.default: number}
    else:
        changes["default"] = number
    for field in ("canary", "shadow"):
        trial = changes[field]
        # An alias that moved must not become the default on trial.
        if trial and number in (policy.number(trial.version), changes.get("aliases", {}).get(trial.version)):
            changes[field] = None
    return _changed(policy, **changes)


def pin(policy: Policy, version: str | None, default: str | None) -> Policy:
    """Makes a version the default by its number, so that neither new versions nor aliases change what answers.

    Args:
        policy: in force.
        version: a number or an alias; None for the version that answers now.
        default: the version that answers now.
    """
    number = default if version is None else number_of(policy, version)
    if number is None:
        raise Unchangeable("No version answers now: name the one to pin.")
    fixed = promote(policy, number, default)
    return _changed(fixed, aliases=policy.aliases, default=number)


def rollback(policy: Policy, default: str | None, former: str | None, found: Collection[str]) -> Policy:
    """Returns to the previous default, and ends a canary.

    Args:
        policy: in force.
        default: the version that answers now.
        former: answered before a newer version took its place; taken if the policy names no previous one.
        found: the versions on disk, of which the highest below the default is taken otherwise.
    """
    # If that cannot answer, another version does already, which may be the one to return to.
    current = policy.number(policy.default) or default
    target = policy.previous or former
    if target is None and current is not None:
        target = next((number for number in newest_first(found) if int(number) < int(current)), None)
    if target is None or target == current:
        raise Unchangeable("There is no previous version to return to.")
    return promote(_changed(policy, canary=None, previous=None), target, default)


def load(policy: Policy, version: str, loaded: Collection[str], default: str | None) -> Policy:
    """Loads a version beside those that are loaded. `load` becomes a list, and the default is fixed."""
    number = number_of(policy, version)
    # One that was just unloaded may still be loaded.
    wanted = {*policy.load, *policy.named} if isinstance(policy.load, tuple) else set(loaded)
    if number in wanted:
        return policy
    return _changed(policy, load=tuple(newest_first({*wanted, number})), **_fixed(policy, default))


def unload(policy: Policy, version: str, loaded: Collection[str], default: str | None) -> Policy:
    """Unloads a version that nothing names. `load` becomes a list, so new versions are not loaded by themselves."""
    number = number_of(policy, version)
    listed = policy.load if isinstance(policy.load, tuple) else ()
    if number not in {*loaded, *listed, policy.previous}:
        raise Unchangeable(f"Version {number} is not loaded.")
    if number == default:
        raise Unchangeable(f"Version {number} answers by default: promote another one first.")
    uses = [f"the alias {alias}" for alias, target in policy.aliases.items() if target == number]
    uses += [field for field, trial in trials(policy).items() if policy.number(trial.version) == number]
    if uses:
        raise Unchangeable(f"Version {number} is used by {', '.join(uses)}: remove that first.")
    rest = newest_first(set(loaded) - {number})
    previous = None if policy.previous == number else policy.previous
    return _changed(policy, load=tuple(rest), previous=previous)


def set_alias(policy: Policy, alias: str, version: str) -> Policy:
    """Lets an alias stand for a version."""
    return _changed(policy, aliases={**policy.aliases, alias: number_of(policy, version)})


def clear_alias(policy: Policy, alias: str) -> Policy:
    """Removes an alias."""
    if alias not in policy.aliases:
        raise Unchangeable(f"There is no alias {alias!r}; there are {', '.join(policy.aliases) or 'none'}.")
    return _changed(policy, aliases={name: number for name, number in policy.aliases.items() if name != alias})


def set_canary(policy: Policy, canary: Canary | None, default: str | None) -> Policy:
    """Starts a canary, or ends it. The default is fixed for as long as it lasts."""
    return _on_trial(policy, default, canary=canary)


def set_shadow(policy: Policy, shadow: Shadow | None, default: str | None) -> Policy:
    """Starts a shadow, or ends it. The default is fixed for as long as it lasts."""
    return _on_trial(policy, default, shadow=shadow)


def promote_if(policy: Policy, version: str, promotion: Promotion, default: str | None) -> Policy:
    """Promotes the shadow when it agrees; starts the shadow if there is none of this version."""
    number = number_of(policy, version)
    shadow = policy.shadow
    if shadow is None or policy.number(shadow.version) != number:
        shadow = Shadow(version=version)
    return set_shadow(policy, shadow.model_copy(update={"promote": promotion}), default)


def trials(policy: Policy) -> dict[str, Canary | Shadow]:
    """The canary and the shadow, if there are any."""
    return {field: trial for field in ("canary", "shadow") if (trial := getattr(policy, field)) is not None}


def number_of(policy: Policy, version: str) -> str:
    """The version that a number or an alias stands for.

    Raises:
        Unchangeable: it is neither.
    """
    number = policy.number(version)
    if number is None:
        raise Unchangeable(
            f"{version!r} is neither a version nor an alias; the aliases are {', '.join(policy.aliases) or 'none'}."
        )
    return number


def _on_trial(policy: Policy, default: str | None, **trial: Any) -> Policy:
    (tried,) = trial.values()
    if tried is not None:
        number_of(policy, tried.version)
    if tried is not None:
        # A version on trial is not covered by `load`, so the newest of the others would answer from now on.
        trial |= _fixed(policy, default)
    return _changed(policy, **trial)


def _fixed(policy: Policy, default: str | None) -> dict[str, Any]:
    """The change that keeps the version that answers now the default, if that is `latest`."""
    return {"default": default} if policy.default == LATEST and default is not None else {}


def _changed(policy: Policy, **fields: Any) -> Policy:
    try:
        return Policy.model_validate({**policy.model_dump(), **{name: _plain(value) for name, value in fields.items()}})
    except ValidationError as error:
        raise Unchangeable(f"{error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Canary | Shadow) else value
