"""The section of a model card that says how the version was made, rendered from the history in its manifest.

Every sentence follows from the record. Where the record has a gap, the section says so.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

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
from training.report.markdown import count, lasted, table, write_section

CARD = "report/README.md"
_HEADING = "## History"
# What weights hold on to, and what every training chooses anew for the answers that come of them.
_INHERITED = {WEIGHTS, EPOCH, INTERPOLATION, VOCABULARY}
_REFITTED = {LABEL_SETS: {LINEAR, TEMPERATURE, VARIANTS}, P_VALUES: set[str]()}
_ITEMS = {"text": "text", "tabular": "row"}


def write_history(card: Path, manifest: ManifestBase) -> None:
    """Writes the section into a model card, in place of an earlier one; other sections stay as they are."""
    write_section(card, history_section(manifest))


def history_section(manifest: ManifestBase) -> list[str]:
    """The section: the steps, what each split was used for, and what follows from that."""
    steps, noun = steps_of(manifest), _ITEMS.get(manifest.task, "image")
    sizes = {"train": manifest.data.train, "validation": manifest.data.validation, "test": manifest.data.test}
    uses = _numbered(steps)
    parts = [
        _HEADING,
        f"This version was made in {count(len(steps), 'step')}:",
        table(
            ("step", "command", "epochs", "duration", "date", "machine"),
            [(number, *_row(step)) for number, step in enumerate(steps, 1)],
        ),
        *_notes(steps),
    ]
    if uses:
        parts += [
            "What the items of each split were used for:",
            table(
                ("split", "part", f"{noun}s", "used for", "in step"),
                _used(uses, sizes),
            ),
        ]
    held_out = manifest.data.held_out
    if held_out:
        parts.append(f"The {_joined(held_out)} {noun}s were held out from the training split.")
    sentences = [
        *(
            _epoch(number, step, sizes["validation"], noun)
            for number, step in enumerate(steps, 1)
            if step.kind == TRAIN
        ),
        *(fitted(manifest, purpose) for purpose in (LABEL_SETS, P_VALUES)),
        _tested(steps, sizes["test"], noun),
    ]
    return [*parts, *filter(None, sentences)]


def _row(step: Step) -> tuple[str, ...]:
    command = f"`{step.command}`" if step.command else f"{step.kind} (command not recorded)"
    threads = count(step.threads, "thread") if step.threads else ""
    machine = ", ".join(filter(None, (step.machine, threads)))
    return (
        command.replace("|", "\\|"),
        f"{step.epochs}" if step.epochs else "" if step.kind != TRAIN else "unknown",
        lasted(step.seconds) if step.seconds is not None else "unknown",
        f"{step.date}" if step.date else "unknown",
        machine or "unknown",
    )


def _notes(steps: Sequence[Step]) -> list[str]:
    """A line for each step that started from something, was resumed, or has a note."""
    lines = []
    for number, step in enumerate(steps, 1):
        said = []
        if step.initial:
            said.append(f"started from {_origin(step.initial)}")
        if step.teacher:
            said.append(f"learned from the teacher {_origin(step.teacher)}")
        if step.resumed:
            said.append(f"was resumed after {_listed('epoch', step.resumed)}")
        if said:
            lines.append(f"- Step {number} {'; it '.join(said)}." + (f" {step.note}" if step.note else ""))
        elif step.note:
            lines.append(f"- Step {number}: {step.note}")
    return ["\n".join(lines)] if lines else []


def _origin(origin: Origin) -> str:
    known = f"sha256 `{origin.sha256}`" if origin.sha256 else "its sha256 was not recorded"
    return f"`{origin.name}` ({origin.file}, {known})"


def _used(uses: Iterable[tuple[int, Use]], sizes: dict[str, int]) -> list[tuple[str, ...]]:
    """A row for each purpose of each part of a split, in the order of the splits."""
    steps: dict[Use, list[int]] = {}
    for number, use in uses:
        steps.setdefault(use, []).append(number)
    divisions = list(dict.fromkeys(use.partition for use in steps if use.partition))
    splits = list(sizes)

    def place(use: Use) -> tuple[int, int, bool]:
        division = divisions.index(use.partition) if use.partition else -1
        return splits.index(use.split), division, use.part == CALIBRATION

    return [
        (
            use.split,
            _part(use, divisions),
            f"{use.items:,} of {sizes[use.split]:,}",
            use.purpose,
            ", ".join(map(str, steps[use])),
        )
        for use in sorted(steps, key=place)
    ]


def _part(use: Use, divisions: Sequence[str]) -> str:
    if use.part == "all" or len(divisions) < 2:
        return use.part
    return f"{use.part} (division {divisions.index(use.partition) + 1})"


def _epoch(number: int, step: Step, size: int, noun: str) -> str:
    """What chose the epoch of a training."""
    if step.uses is None:
        return f"Which items chose the epoch of step {number} was not recorded."
    chosen = [use for use in step.uses if use.purpose == EPOCH]
    if not chosen:
        return ""
    items = chosen[0].items
    of = f"all {size:,} validation {noun}s" if items == size else f"{items:,} of the {size:,} validation {noun}s"
    which = f"epoch {step.best_epoch}" if step.best_epoch else "an epoch that was not recorded"
    return f"Step {number} kept the weights of {which}, the best on {of}."


def fitted(manifest: ManifestBase, purpose: str) -> str:
    """Whether the items that label sets or p-values were last fitted on determined anything that these depend on.

    Args:
        manifest: of the version.
        purpose: which of the two.

    Returns:
        A few sentences; none if no step is recorded to have fitted them.
    """
    steps = steps_of(manifest)
    uses, unrecorded = _numbered(steps), _unrecorded(steps)
    trained = max((number for number, step in enumerate(steps, 1) if step.kind == TRAIN), default=0)
    last = max((number for number, use in uses if use.purpose == purpose), default=0)
    if not last:
        return ""
    own = [use for number, use in uses if number == last and use.purpose == purpose]
    others: dict[str, list[int]] = {}
    for number, use in uses:
        matters = use.purpose in _INHERITED or (use.purpose in _REFITTED[purpose] and number >= trained)
        if matters and any(use.overlaps(each) for each in own):
            others.setdefault(use.purpose, []).append(number)
    splits = _joined([*dict.fromkeys(use.split for use in own)])
    said = f"Step {last} fitted the {purpose} on {count(sum(use.items for use in own), f'{splits} item')}"
    if others:
        named = [f"{name} ({_listed('step', sorted({*numbers}))})" for name, numbers in others.items()]
        said += (
            f", some or all of which also determined: {_joined(named)}. The {purpose} may hold less well for new items."
        )
    elif unrecorded:
        said += "."
    else:
        said += f". No step used these items for anything that {purpose} depend on."
    if unrecorded:
        said += f" Whether {_listed('step', unrecorded)} used these items was not recorded."
    return said


def _tested(steps: Sequence[Step], size: int, noun: str) -> str:
    """How often the test split was evaluated, and what was determined afterwards."""
    numbers = [number for number, step in enumerate(steps, 1) if any(use.split == "test" for use in step.uses or ())]
    items, unrecorded = f"test split ({count(size, noun)})", _unrecorded(steps)
    if unrecorded:
        known = f"The {items} was evaluated in {_listed('step', numbers)}. " if numbers else ""
        return f"{known}Whether {_listed('step', unrecorded)} evaluated the {items} was not recorded."
    if not numbers:
        return f"No step evaluated the {items}."
    times = {1: "once", 2: "twice"}.get(len(numbers), f"{len(numbers)} times")
    said = f"The {items} was evaluated {times}: in {_listed('step', numbers)}."
    later: dict[str, list[int]] = {}
    for number, step in enumerate(steps[numbers[0] :], numbers[0] + 1):
        for use in step.uses or ():
            if use.split != "test" and number not in later.setdefault(use.purpose, []):
                later[use.purpose].append(number)
    if not later:
        return f"{said} Nothing was fitted or chosen after that."
    after = _joined([f"{purpose} ({_listed('step', found)})" for purpose, found in later.items()])
    return f"{said} Fitted or chosen when test figures were known already: {after}."


def _numbered(steps: Sequence[Step]) -> list[tuple[int, Use]]:
    return [(number, use) for number, step in enumerate(steps, 1) for use in step.uses or ()]


def _unrecorded(steps: Sequence[Step]) -> list[int]:
    return [number for number, step in enumerate(steps, 1) if step.uses is None]


def _listed(noun: str, numbers: Sequence[int]) -> str:
    """`step 1`, `steps 1 and 2`."""
    return f"{noun}{'' if len(numbers) == 1 else 's'} {_joined([str(number) for number in numbers])}"


def _joined(parts: Sequence[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
