"""The changes, one after another: swaps with rejected versions and rollbacks among them, two canaries, a shadow."""

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field

from benchmarks.lifecycle.candidates import fail_on_others
from benchmarks.lifecycle.operator import Operator, until
from benchmarks.lifecycle.traffic import Kind, Traffic
from benchmarks.torture.publishing import broken_graph, wrong_answers, wrong_digest

# Models whose newest version is the default, and how often one is published.
PUBLISHED = {"tabular": 9, "decoder": 8, "classifier": 7, "classifier-transfer": 6}
# Models of which two versions are loaded, and how often the other one is promoted. Every second promotion of each is
# rolled back.
PROMOTED = {"encoder": 10, "topics": 10}
DAMAGES = {"wrong digest": wrong_digest, "broken graph": broken_graph, "wrong answers": wrong_answers}
_HALF_COPIED = "half-copied folder"
_REJECTED = 5  # of each kind
_LOOK = 10  # changes, after which memory is looked at again
_SETTLE_SECONDS = 3.0
_SAMPLES = 5
_STEPS = [{"share": 0.2, "minutes": 0.05}, {"share": 0.6, "minutes": 0.05}, {"share": 1.0, "minutes": 0.05}]
_FAILING_SHARE = 0.3
_WITHDRAW = {"after": 30, "errors": 0.02}


@dataclass(slots=True)
class Happened:
    """What came of the changes.

    Attributes:
        counts: changes by kind.
        rollback_seconds: from each request until the first answer of the old version.
        began: time of the first change; `ended` of the last.
        resources: MB, open files and threads of the server, after every ten changes, before the trials.
        canary: calls that the failing canary's model got meanwhile, and those that failed.
        shadow: inputs on which the shadow failed, and those on which it did not.
        verdicts: what the server decided by itself.
    """

    counts: Counter[str] = field(default_factory=Counter)
    rollback_seconds: list[float] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    resources: list[tuple[float, int, int]] = field(default_factory=list)
    canary: tuple[int, int] = (0, 0)
    shadow: tuple[int, int] = (0, 0)
    verdicts: list[str] = field(default_factory=list)


def most_failures(calls: int) -> float:
    """How many of so many calls may meet a canary that always fails, by its share and three standard deviations."""
    return _FAILING_SHARE * calls + 3 * math.sqrt(_FAILING_SHARE * (1 - _FAILING_SHARE) * calls)


async def endure(operator: Operator, traffic: Traffic, kinds: list[Kind], scale: float = 1.0) -> Happened:
    """Makes all changes while clients send requests.

    Args:
        operator: of the server.
        traffic: the clients.
        kinds: of their requests.
        scale: of the numbers of swaps, rejected versions and rollbacks.

    Raises:
        Failed: the server did not make one of them.
    """
    happened = Happened(began=time.perf_counter())
    requests = {kind.model: kind.data for kind in reversed(kinds)}
    await operator.offer("detector", fail_on_others)
    await operator.change("PUT", "detector", "shadow", {"version": "2"})
    for name in PROMOTED:
        await operator.offer(name)
    changes = _changes(operator, happened, requests, scale)
    for number, (kind, change) in enumerate(changes, 1):
        await change
        happened.counts[kind] += 1
        if number % _LOOK == 0:
            happened.resources.append(await _resources(operator))
    await _promoted_canary(operator, happened)
    await _withdrawn_canary(operator, traffic, happened)
    shadow = await operator.get("/v1/models/detector/shadow")
    happened.shadow = shadow["failed"], shadow["compared"]
    await operator.change("DELETE", "detector", "shadow")
    happened.ended = time.perf_counter()
    return happened


def _changes(
    operator: Operator, happened: Happened, requests: dict[str, bytes], scale: float
) -> list[tuple[str, Awaitable[None]]]:
    """The swaps, with the rejected versions evenly among them."""

    async def roll_back(name: str, number: str) -> None:
        happened.rollback_seconds.append(await operator.rollback(name, number, requests[name]))
        happened.counts["rollbacks"] += 1

    async def promote(name: str, number: int) -> None:
        # 1, 2, back to 1, 2, 1, back to 2: each promotion is of the version that does not answer.
        answering, other = ("1", "2") if number % 4 in (0, 3) else ("2", "1")
        await operator.promote(name, other)
        if number % 2:
            await roll_back(name, answering)

    def spread(counts: dict[str, int]) -> list[tuple[float, str, int]]:
        totals = {name: max(1, round(scale * count)) for name, count in counts.items()}
        return [((index + 0.5) / total, name, index) for name, total in totals.items() for index in range(total)]

    planned: list[tuple[float, str, Awaitable[None]]] = []
    planned += [(at, "published", operator.publish(name)) for at, name, _ in spread(PUBLISHED)]
    planned += [(at, "promoted", promote(name, index)) for at, name, index in spread(PROMOTED)]
    damages = spread(dict.fromkeys([*DAMAGES, _HALF_COPIED], _REJECTED))
    for at, kind, index in damages:
        name = ("classifier", "classifier-transfer")[index % 2]
        change = operator.half_copy(name) if kind == _HALF_COPIED else operator.reject(name, DAMAGES[kind])
        planned.append((at, kind, change))
    planned.sort(key=lambda each: each[:2])
    return [(kind, change) for _, kind, change in planned]


async def _promoted_canary(operator: Operator, happened: Happened) -> None:
    name = "classifier-transfer"
    number = await operator.offer(name)
    operator.ledger.permit(name, number)
    await operator.change("PUT", name, "canary", {"version": number, "steps": _STEPS})
    await _decided(operator, name, f"promoted {number}")
    await operator.in_force(name, number)
    happened.verdicts.append((await operator.get(f"/v1/models/{name}/policy"))["verdict"])


async def _withdrawn_canary(operator: Operator, traffic: Traffic, happened: Happened) -> None:
    name = "classifier"
    number = await operator.offer(name, fail_on_others)
    state = await operator.get(f"/v1/models/{name}/policy")
    operator.ledger.permit(name, number)
    traffic.failing.add(name)
    before = _answered(traffic, name)
    await operator.change(
        "PUT", name, "canary", {"version": number, "share": _FAILING_SHARE, "withdraw": _WITHDRAW}
    )  # fmt: skip
    await _decided(operator, name, f"withdrew the canary {number}")
    await operator.in_force(name, state["default"])
    happened.canary = _answered(traffic, name) - before, traffic.met.excused[name]
    traffic.failing.discard(name)
    happened.verdicts.append((await operator.get(f"/v1/models/{name}/policy"))["verdict"])


def _answered(traffic: Traffic, name: str) -> int:
    return sum(count for (label, _), count in traffic.met.answers.items() if label.partition("/")[0] == name)


async def _decided(operator: Operator, name: str, verdict: str) -> None:
    """Waits until the server has decided on the canary of a model."""

    async def decided() -> bool:
        state = await operator.get(f"/v1/models/{name}/policy")
        return state is not None and (state["verdict"] or "").startswith(verdict)

    await until(decided, f"it is not decided: {verdict}")


async def _resources(operator: Operator) -> tuple[float, int, int]:
    await asyncio.sleep(_SETTLE_SECONDS)
    samples = []
    for _ in range(_SAMPLES):
        samples.append(operator.resident_mb())
        await asyncio.sleep(0.1)
    return statistics.median(samples), operator.open_files(), operator.threads()
