"""What a model card says about how a version was made, from the history in its manifest.

Every sentence follows from the history. Where it has a gap, the card says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.inference.cards import ManifestBase, Step, Use
from training.export.history import (
    CALIBRATION,
    EPOCH,
    INTERPOLATION,
    LABEL_SETS,
    LINEAR,
    P_VALUES,
    TEMPERATURE,
    TRAIN,
    VARIANTS,
    VOCABULARY,
    WEIGHTS,
    steps_of,
)
from training.registry import data_of

# What later weights depend on, and what every training fits anew for each of the two.
_INHERITED = {WEIGHTS, EPOCH, INTERPOLATION, VOCABULARY}
_REFITTED = {LABEL_SETS: {LINEAR, TEMPERATURE, VARIANTS}, P_VALUES: set[str]()}
_ITEMS = {"text": "text", "tabular": "row"}


def history_of(manifest: ManifestBase) -> dict[str, Any]:
    """The steps, the uses of the splits as table rows, and what follows from these, for the template."""
    steps = steps_of(manifest)
    noun = _ITEMS.get(manifest.task, "image" if hasattr(manifest, "image") else "item")
    data = data_of(manifest)
    sizes = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "noun": noun,
        "steps": steps,
        "uses": _rows_of_uses(_numbered(steps), sizes),
        "held_out": joined(data.held_out or ()),
        "fitted": [text for purpose in (LABEL_SETS, P_VALUES) if (text := fitted(manifest, purpose))],
        "tested": _tested(steps, count(sizes["test"], noun)),
    }


def fitted(manifest: ManifestBase, purpose: str) -> str:
    """Whether the items that `purpose` (label sets or p-values) was last fitted on determined what it depends on."""
    steps = steps_of(manifest)
    uses, unrecorded = _numbered(steps), [number for number, step in enumerate(steps, 1) if step.uses is None]
    trained = max((number for number, step in enumerate(steps, 1) if step.kind == TRAIN), default=0)
    last = max((number for number, use in uses if use.purpose == purpose), default=0)
    if not last:
        return ""
    own = [use for number, use in uses if number == last and use.purpose == purpose]
    others = _by_purpose(
        (number, use)
        for number, use in uses
        if (use.purpose in _INHERITED or (use.purpose in _REFITTED[purpose] and number >= trained))
        and any(use.overlaps(each) for each in own)
    )
    splits = joined([*dict.fromkeys(use.split for use in own)])
    text = f"Step {last} fitted the {purpose} on {count(sum(use.items for use in own), f'{splits} item')}"
    if others:
        text += f", some or all of which also determined: {others}. The {purpose} may hold less well for new items."
    elif unrecorded:
        text += "."
    else:
        text += f". No step used these items for anything that {purpose} depend on."
    if unrecorded:
        text += f" Whether {numbered(unrecorded, 'step')} used these items was not recorded."
    return text


def lasted(seconds: float) -> str:
    """A duration in words."""
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else count(round(seconds), "second")


def count(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def joined(parts: Sequence[object]) -> str:
    """`a, b and c`."""
    *most, last = map(str, parts or [""])
    return f"{', '.join(most)} and {last}" if most else last


def numbered(numbers: Sequence[int], noun: str) -> str:
    """`step 1`, `steps 1 and 2`."""
    return f"{noun}{'' if len(numbers) == 1 else 's'} {joined(numbers)}"


def _rows_of_uses(uses: Iterable[tuple[int, Use]], sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    steps: dict[Use, list[int]] = {}
    for number, use in uses:
        steps.setdefault(use, []).append(number)
    divisions = [*dict.fromkeys(use.partition for use in steps if use.partition)]

    def place(use: Use) -> tuple[int, int, bool]:
        division = divisions.index(use.partition) if use.partition else -1
        return [*sizes].index(use.split), division, use.part == CALIBRATION

    def part(use: Use) -> str:
        several = use.part != "all" and len(divisions) > 1
        return f"{use.part} (division {divisions.index(use.partition) + 1})" if several else use.part

    return [
        (use.split, part(use), f"{use.items:,} of {sizes[use.split]:,}", use.purpose, ", ".join(map(str, steps[use])))
        for use in sorted(steps, key=place)
    ]


def _tested(steps: Sequence[Step], items: str) -> str:
    uses, unrecorded = _numbered(steps), [number for number, step in enumerate(steps, 1) if step.uses is None]
    numbers = sorted({number for number, use in uses if use.split == "test"})
    items = f"test split ({items})"
    if unrecorded:
        known = f"The {items} was evaluated in {numbered(numbers, 'step')}. " if numbers else ""
        return f"{known}Whether {numbered(unrecorded, 'step')} evaluated the {items} was not recorded."
    if not numbers:
        return f"No step evaluated the {items}."
    times = {1: "once", 2: "twice"}.get(len(numbers), f"{len(numbers)} times")
    text = f"The {items} was evaluated {times}: in {numbered(numbers, 'step')}."
    later = _by_purpose((number, use) for number, use in uses if number > numbers[0] and use.split != "test")
    if not later:
        return f"{text} Nothing was fitted or chosen after that."
    return f"{text} Fitted or chosen when test figures were known already: {later}."


def _numbered(steps: Sequence[Step]) -> list[tuple[int, Use]]:
    return [(number, use) for number, step in enumerate(steps, 1) for use in step.uses or ()]


def _by_purpose(uses: Iterable[tuple[int, Use]]) -> str:
    steps: dict[str, dict[int, None]] = {}
    for number, use in uses:
        steps.setdefault(use.purpose, {})[number] = None
    return joined([f"{purpose} ({numbered(sorted(numbers), 'step')})" for purpose, numbers in steps.items()])
