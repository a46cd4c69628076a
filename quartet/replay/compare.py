"""Captured items through several versions of a model: agreement by class, and quality where the truth is known."""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from quartet.captured.items import Captured, captured
from quartet.offline.scoring.engine import Engine, Job
from quartet.offline.scoring.sources import Item
from quartet.offline.tables import format_table
from quartet.replay.examples import Example, Examples
from service.capture.database import Selection
from service.capture.feedback_table import Sums
from service.capture.quality import estimate
from service.capture.store import Store
from service.lifecycle.statistics import wilson
from service.settings import Settings
from service.tasks.base import Truth
from service.tasks.registry import BUILT_IN

# Labels of an answer: all of them, for the difference of probabilities.
_ALL_LABELS = ("top_k", "1000")


class NothingToReplay(Exception):
    """There is no item to replay; the message says why."""


def begin(store: Store, where: Selection, folder: Path) -> tuple[Captured, Iterator[Captured]]:
    """The first of the selected items, and the others.

    Args:
        store: of the captures.
        where: the items.
        folder: of the captures, for the error.

    Raises:
        NothingToReplay: there are no such items.
    """
    items = captured(store, where)
    first = next(items, None)
    if first is None:
        raise NothingToReplay(f"{folder} holds no such items of {where.model}")
    return first, items


class Difference(NamedTuple):
    """How far the answers of two versions to an item are apart.

    Attributes:
        agrees: whether they count as the same.
        size: 0 if they are the same.
    """

    agrees: bool
    size: float


@dataclass(slots=True)
class Count:
    """Items that were compared."""

    compared: int = 0
    agreed: int = 0


class Figures:
    """What is counted of a version.

    Attributes:
        label: `NAME/VERSION`.
        failed: items that it could not answer.
        classes: by the class that the first version gives.
        scored: points and weights of items whose truth is known.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.failed = 0
        self.classes: dict[str, Count] = defaultdict(Count)
        self.scored: list[tuple[float, float]] = []

    def add(self, name: str, difference: Difference) -> None:
        """Counts a comparison with the first version."""
        count = self.classes[name]
        count.compared += 1
        count.agreed += difference.agrees

    def sums(self, figure: str) -> Sums:
        """The scores as feedback is summed up."""
        p, w = zip(*self.scored, strict=True)
        pairs = list(zip(p, w, strict=True))
        return Sums(
            self.label, figure, 0, len(pairs), sum(p), sum(w), sum(a * a for a in p), sum(a * b for a, b in pairs),
            sum(b * b for b in w),
        )  # fmt: skip


async def compare(options: argparse.Namespace, where: Selection, settings: Settings) -> int:
    """Prints how versions answer captured items.

    Args:
        options: `folder`, `versions` and `examples`.
        where: the items.
        settings: of the service, for the models.

    Raises:
        NothingToReplay: there are no such items.
    """
    engines: list[Engine] = []
    figures = [Figures(version) for version in options.versions]
    examples = Examples()
    try:
        with Store(options.folder) as store:
            first, items = begin(store, where, options.folder)
            operation = first.item.operation
            for version in options.versions:
                given = (_ALL_LABELS,) if "labels" in first.item.answer else ()
                engines.append(await Engine.open(Job(version, operation, given), settings, BUILT_IN))
            truth = _truth_of(engines[0])
            measure = _measure(engines[0], truth)
            async for each, answers in _answers(engines, _with(first, items, operation)):
                _count(each, answers, figures, truth, measure, examples)
    finally:
        for engine in engines:
            await engine.close()
    print("\n".join(_report(figures, truth)))
    if options.examples is not None:
        examples.write(options.examples, options.versions)
    return 0


def _with(first: Captured, rest: Iterator[Captured], operation: str) -> Iterator[Captured]:
    """The items of one operation; a model of another task may have had the same name before."""
    yield first
    yield from (each for each in rest if each.item.operation == operation)


async def _answers(
    engines: Sequence[Engine], items: Iterator[Captured]
) -> AsyncGenerator[tuple[Captured, list[dict[str, Any]]], None]:
    """Each item with the answers of all versions."""
    while group := list(islice(items, min(engine.chunk for engine in engines))):
        columns: list[list[dict[str, Any]]] = []
        for engine in engines:
            records = [Item(number, record_of(each)) for number, each in enumerate(group)]
            engine.choose_columns(list(records[0].record))
            columns.append(await engine.score(records, Path()))
        for each, *answers in zip(group, *columns, strict=True):
            yield each, answers


def record_of(each: Captured) -> Mapping[str, Any]:
    """What the model reads, as a row of a table."""
    if each.item.media_type.startswith("image/"):
        return {"image": {"bytes": each.item.content, "path": each.item.request}}
    record: Mapping[str, Any] = json.loads(each.item.content)
    return record


def _count(
    each: Captured,
    answers: Sequence[dict[str, Any]],
    figures: Sequence[Figures],
    truth: Truth | None,
    measure: Callable[[dict[str, Any], dict[str, Any]], Difference],
    examples: Examples,
) -> None:
    first = answers[0]
    for answer, of in zip(answers, figures, strict=True):
        of.failed += "error" in answer
        # The truth is in pixels of the image as it was sent, which may have been larger.
        if truth is not None and each.truth is not None and "error" not in answer:
            of.scored.append(truth.score(truth.gist(_as_sent(answer, each)), each.truth))
    for answer, of in zip(answers[1:], figures[1:], strict=True):
        if "error" in first or "error" in answer:
            continue
        difference = measure(first, answer)
        of.add(_class_of(first), difference)
        if difference.size > 0:
            examples.add(Example(difference.size, each, list(answers)))


def _as_sent(answer: dict[str, Any], each: Captured) -> dict[str, Any]:
    if "boxes" not in answer or answer["width"] == each.item.answer["width"]:
        return answer
    scale = each.item.answer["width"] / answer["width"]
    corners = ("x_min", "y_min", "x_max", "y_max")
    return {**answer, "boxes": [{**box, **{name: scale * box[name] for name in corners}} for box in answer["boxes"]]}


def _class_of(answer: Mapping[str, Any]) -> str:
    """The class of an item by the first version: the likeliest label, or that of most boxes."""
    if labels := answer.get("labels"):
        return str(labels[0]["label"])
    counts: Mapping[str, int] = answer.get("counts") or {}
    return max(counts, key=counts.__getitem__) if counts else ""


def _truth_of(engine: Engine) -> Truth | None:
    make = BUILT_IN.tasks[engine.manifest.task].truth
    return make(engine.manifest) if make else None


def _measure(engine: Engine, truth: Truth | None) -> Callable[[dict[str, Any], dict[str, Any]], Difference]:
    """How two answers are compared.

    Raises:
        NothingToReplay: answers of this kind cannot be compared.
    """
    if truth is None:
        raise NothingToReplay(f"answers of {engine.operation.name} have no labels, boxes or numbers to compare")
    metrics = getattr(engine.manifest, "metrics", None)
    tolerance = getattr(metrics, "rmse", None) or 0.0

    def measure(ours: dict[str, Any], theirs: dict[str, Any]) -> Difference:
        if "labels" in ours:
            mine, yours = (_probabilities(answer) for answer in (ours, theirs))
            size = max((abs(mine.get(name, 0) - yours.get(name, 0)) for name in mine | yours), default=0.0)
            return Difference(truth.gist(ours) == truth.gist(theirs), size)
        if "boxes" in ours:
            points, weight = truth.score(truth.gist(theirs), truth.confirmed(truth.gist(ours)))
            return Difference(points == weight, 1 - points / weight)
        size = abs(ours["value"] - theirs["value"])
        return Difference(size <= tolerance, size if math.isfinite(size) else 0.0)

    return measure


def _probabilities(answer: Mapping[str, Any]) -> dict[str, float]:
    return {each["label"]: each["probability"] for each in answer["labels"]}


def _report(figures: Sequence[Figures], truth: Truth | None) -> Iterator[str]:
    first, *others = figures
    for each in others:
        total = Count(
            sum(count.compared for count in each.classes.values()), sum(count.agreed for count in each.classes.values())
        )
        yield f"{each.label} agrees with {first.label} on {_share(total)} of {total.compared} items."
        if len(each.classes) > 1:
            ordered = sorted(each.classes.items(), key=lambda item: item[1].agreed / item[1].compared)
            rows = [
                {f"class by {first.label}": name or "(none)", "items": str(count.compared), "agreement": _share(count)}
                for name, count in ordered
            ]
            yield from format_table(rows)
        yield ""
    if truth is not None and all(each.scored for each in figures):
        rows = []
        for each in figures:
            found = estimate([each.sums(truth.figure)])
            interval = f"{found['low']:.3f} to {found['high']:.3f}" if found["low"] is not None else ""
            row = {"version": each.label, "items with a truth": str(found["count"])}
            rows.append({**row, truth.figure: f"{found['value']:.3f}", "95 % interval": interval})
        yield from format_table(rows)
    else:
        yield "No item has feedback that says what is true, so nothing is known of quality."
    for each in figures:
        if each.failed:
            yield f"{each.label} could not answer {each.failed} items."


def _share(count: Count) -> str:
    low, high = wilson(count.agreed, count.compared)
    return f"{100 * count.agreed / max(1, count.compared):.1f} % ({100 * low:.1f} to {100 * high:.1f})"
