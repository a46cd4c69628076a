"""What the server says about the versions of a model, as text for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from quartet.offline.tables import format_table, to_cell

_LABELS = 3


def describe_state(state: Mapping[str, Any]) -> Iterator[str]:
    """A table of the versions, and what keeps the policy from being followed."""
    rows = [
        {
            "version": version["version"],
            "status": version["status"],
            "role": ", ".join(_roles(state, version["version"])),
            "aliases": ", ".join(version["aliases"]),
            "share": _percent(version["share"]) if version["share"] else "",
            "reason": version["reason"] or "",
        }
        for version in state["versions"]
    ]
    yield from format_table(rows) if rows else [f"{state['model']} has no versions"]
    if error := state["policy"]["error"]:
        yield f"the former policy is still in force: {error}"
    if state["verdict"]:
        yield f"the server's last decision: {state['verdict']}"


def describe_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What is different between two states, in a line."""
    changes = [
        f"{field} {before[field] or 'none'} -> {after[field] or 'none'}"
        for field in ("default", "previous")
        if before[field] != after[field]
    ]
    old, new = before["aliases"], after["aliases"]
    changes += [f"alias {alias} -> {new[alias]}" for alias in new if new[alias] != old.get(alias)]
    changes += [f"alias {alias} removed" for alias in old if alias not in new]
    for trial in ("canary", "shadow"):
        was, now = before[trial], after[trial]
        if now and (not was or _of_trial(was) != _of_trial(now)):
            changes.append(f"{trial} {_of_trial(now)}")
        elif was and not now:
            changes.append(f"{trial} {was['version']} ended")
    loaded, were = _loaded(after), _loaded(before)
    changes += [f"{version} loaded" for version in loaded if version not in were]
    changes += [f"{version} unloaded" for version in were if version not in loaded]
    # Some changes, such as that a version is closed, take effect after the answer.
    action = after["last"]["action"] if after["last"] != before["last"] else ""
    text = f"{action} ({', '.join(changes)})" if action and changes else action or ", ".join(changes)
    return f"{after['model']}: {text or 'nothing changed'}"


def describe_outcome(state: Mapping[str, Any], version: str, undecided: str | None = None) -> str:
    """What became of a promotion that depended on the agreement, and why.

    Args:
        state: after the decision.
        version: that was to be promoted.
        undecided: why there will be no decision; None if there was one.
    """
    if undecided:
        return f"{state['model']}/{version} stays a shadow: {undecided}"
    outcome = "is the default" if state["default"] == version else "was not promoted"
    last = state["last"]
    why = f": {last['action']}" + ("" if last["actor"] == "policy" else f", by {last['actor']}") if last else ""
    return f"{state['model']}/{version} {outcome}{why}"


def describe_shadow(shadow: Mapping[str, Any]) -> Iterator[str]:
    """How far a shadow agrees with the default version, in all and by class."""
    yield f"version {shadow['version']} as the shadow of {shadow['against']}: {describe_agreement(shadow)}"
    if shadow["dropped"] or shadow["failed"]:
        yield f"{shadow['dropped']:,} inputs dropped, {shadow['failed']:,} failed"
    if difference := shadow["difference"]:
        yield "difference: " + ", ".join(f"{name} {difference[name]:.4g}" for name in ("mean", "p95", "max"))
    yield from format_table(
        [
            {
                "class": each["label"],
                "compared": f"{each['compared']:,}",
                "agreement": f"{each['agreement']:.4f}",
                "95 % interval": f"{each['low']:.4f} to {each['high']:.4f}",
            }
            for each in shadow["classes"]
        ]
    )
    if shadow["verdict"]:
        yield shadow["verdict"]


def describe_agreement(shadow: Mapping[str, Any], after: int | None = None) -> str:
    """The agreement with its interval.

    Args:
        shadow: the figures.
        after: how many inputs are to be compared before a decision.
    """
    of = "" if after is None else f" of {after:,}"
    text = f"{shadow['compared']:,}{of} inputs compared"
    if agreement := shadow["agreement"]:
        value, low, high = (agreement[name] for name in ("value", "low", "high"))
        text += f", agreement ({shadow['measure']}) {value:.4f} ({low:.4f} to {high:.4f})"
    return text


def describe_canary(canary: Mapping[str, Any]) -> Iterator[str]:
    """The figures of a canary and of the default version, side by side."""
    rows = []
    for version in canary["versions"]:
        latency, labels = version["latency_ms"], version["labels"]
        often = sorted(labels, key=labels.__getitem__, reverse=True)[:_LABELS]
        unfamiliar = version["unfamiliar"]
        rows.append(
            {
                "version": version["version"],
                "role": version["role"],
                "calls": f"{version['requests']:,}",
                "failed": _percent(version["error_share"]),
                **{f"{name} ms": to_cell(name, latency[name]) for name in ("p50", "p95", "p99")},
                "unfamiliar": "" if unfamiliar is None else _percent(unfamiliar),
                "labels": ", ".join(f"{label} {_percent(labels[label])}" for label in often),
            }
        )
    yield f"the canary gets {_percent(canary['share'])} of the calls"
    yield from format_table(rows)
    if canary["verdict"]:
        yield canary["verdict"]


def describe_audit(audit: Mapping[str, Any]) -> Iterator[str]:
    """The changes of a policy, the newest first."""
    entries = [{name: entry[name] for name in ("time", "actor", "action")} for entry in audit["entries"]]
    yield from format_table(entries) if entries else ["no change is recorded"]


def _roles(state: Mapping[str, Any], version: str) -> Iterator[str]:
    for role in ("default", "previous"):
        if state[role] == version:
            yield role
    for role in ("canary", "shadow"):
        if state[role] and number_of(state, state[role]["version"]) == version:
            yield role


def number_of(state: Mapping[str, Any], reference: str) -> str:
    """The version that a number or an alias stands for."""
    number: str = state["aliases"].get(reference, reference)
    return number


def _of_trial(trial: Mapping[str, Any]) -> str:
    text = f"{trial['version']} at {_percent(trial['share'])}"
    if promote := trial.get("promote"):
        text += f" until {promote['after']:,} inputs are compared"
    return text


def _loaded(state: Mapping[str, Any]) -> list[str]:
    return [version["version"] for version in state["versions"] if version["status"] in ("serving", "loaded")]


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
