"""What a model card says about how a version was made, from the history in its manifest.

Every sentence follows from the history. Where it has a gap, the card says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.inference.cards import ManifestBase, Origin, Step, Use
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

# What later weights depend on, and what every training fits anew for each of the two.
_INHERITED = {WEIGHTS, EPOCH, INTERPOLATION, VOCABULARY}
_REFITTED = {LABEL_SETS: {LINEAR, TEMPERATURE, VARIANTS}, P_VALUES: set[str]()}
_ITEMS = {"text": "text", "tabular": "row"}


def history_of(manifest: ManifestBase) -> dict[str, Any]:
    """The steps as table rows, notes on them, the uses of the splits as table rows, and what follows from these."""
    steps = steps_of(manifest)
    noun = _ITEMS.get(manifest.task, "image" if hasattr(manifest, "image") else "item")
    sizes = {"train": manifest.data.train, "validation": manifest.data.validation, "test": manifest.data.test}
    epochs = [_epoch(number, step, sizes["validation"], noun) for number, step in enumerate(steps, 1)]
    held_out = manifest.data.held_out
    return {
        "noun": noun,
        "steps": [_row(step) for step in steps],
        "notes": [note for number, step in enumerate(steps, 1) if (note := _note(number, step))],
        "uses": _rows_of_uses(_numbered(steps), sizes),
        "held_out": joined(held_out) if held_out else "",
        "findings": [
            *filter(None, epochs),
            *filter(None, (fitted(manifest, purpose) for purpose in (LABEL_SETS, P_VALUES))),
            _tested(steps, sizes["test"], noun),
        ],
    }


def fitted(manifest: ManifestBase, purpose: str) -> str:
    """Whether the items that label sets or p-values were last fitted on determined anything that these depend on.

    Args:
        manifest: of the version.
        purpose: which of the two.

    Returns:
        A few sentences; empty if no step is recorded to have fitted them.
    """
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
        text += f" Whether {_numbers('step', unrecorded)} used these items was not recorded."
    return text


def lasted(seconds: float) -> str:
    """A duration in words."""
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else count(round(seconds), "second")


def count(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def joined(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _row(step: Step) -> tuple[str, ...]:
    threads = count(step.threads, "thread") if step.threads else ""
    return (
        f"`{step.command}`" if step.command else f"{step.kind} (command not recorded)",
        str(step.epochs) if step.epochs else "unknown" if step.kind == TRAIN else "",
        lasted(step.seconds) if step.seconds is not None else "unknown",
        str(step.date) if step.date else "unknown",
        ", ".join(filter(None, (step.machine, threads))) or "unknown",
    )


def _note(number: int, step: Step) -> str:
    """A line on a step that started from something, was resumed, or has a note."""
    facts = []
    if step.initial:
        facts.append(f"started from {_origin(step.initial)}")
    if step.teacher:
        facts.append(f"learned from the teacher {_origin(step.teacher)}")
    if step.resumed:
        facts.append(f"was resumed after {_numbers('epoch', step.resumed)}")
    if facts:
        return f"Step {number} {'; it '.join(facts)}. {step.note}".rstrip()
    return f"Step {number}: {step.note}" if step.note else ""


def _origin(origin: Origin) -> str:
    known = f"sha256 `{origin.sha256}`" if origin.sha256 else "its sha256 was not recorded"
    return f"`{origin.name}` ({origin.file}, {known})"


def _rows_of_uses(uses: Iterable[tuple[int, Use]], sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """A row for each purpose of each part of a split, in the order of the splits."""
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
        (
            use.split,
            part(use),
            f"{use.items:,} of {sizes[use.split]:,}",
            use.purpose,
            ", ".join(map(str, steps[use])),
        )
        for use in sorted(steps, key=place)
    ]


def _epoch(number: int, step: Step, size: int, noun: str) -> str:
    """What chose the epoch of a training; empty for other steps."""
    if step.kind != TRAIN:
        return ""
    if step.uses is None:
        return f"Which items chose the epoch of step {number} was not recorded."
    chosen = next((use.items for use in step.uses if use.purpose == EPOCH), None)
    if chosen is None:
        return ""
    of = f"all {size:,} validation {noun}s" if chosen == size else f"{chosen:,} of the {size:,} validation {noun}s"
    which = f"epoch {step.best_epoch}" if step.best_epoch else "an epoch that was not recorded"
    return f"Step {number} kept the weights of {which}, the best on {of}."


def _tested(steps: Sequence[Step], size: int, noun: str) -> str:
    """How often the test split was evaluated, and what was determined afterwards."""
    uses, unrecorded = _numbered(steps), [number for number, step in enumerate(steps, 1) if step.uses is None]
    numbers = sorted({number for number, use in uses if use.split == "test"})
    items = f"test split ({count(size, noun)})"
    if unrecorded:
        known = f"The {items} was evaluated in {_numbers('step', numbers)}. " if numbers else ""
        return f"{known}Whether {_numbers('step', unrecorded)} evaluated the {items} was not recorded."
    if not numbers:
        return f"No step evaluated the {items}."
    times = {1: "once", 2: "twice"}.get(len(numbers), f"{len(numbers)} times")
    text = f"The {items} was evaluated {times}: in {_numbers('step', numbers)}."
    later = _by_purpose((number, use) for number, use in uses if number > numbers[0] and use.split != "test")
    if not later:
        return f"{text} Nothing was fitted or chosen after that."
    return f"{text} Fitted or chosen when test figures were known already: {later}."


def _numbered(steps: Sequence[Step]) -> list[tuple[int, Use]]:
    return [(number, use) for number, step in enumerate(steps, 1) for use in step.uses or ()]


def _by_purpose(uses: Iterable[tuple[int, Use]]) -> str:
    """`temperature (step 2) and label sets (steps 2 and 3)`; empty without uses."""
    steps: dict[str, dict[int, None]] = {}
    for number, use in uses:
        steps.setdefault(use.purpose, {})[number] = None
    named = [f"{purpose} ({_numbers('step', sorted(numbers))})" for purpose, numbers in steps.items()]
    return joined(named) if named else ""


def _numbers(noun: str, numbers: Sequence[int]) -> str:
    """`step 1`, `steps 1 and 2`."""
    return f"{noun}{'' if len(numbers) == 1 else 's'} {joined([str(number) for number in numbers])}"
