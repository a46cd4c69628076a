"""What a training started from: the recorded history of another run or version, and the files that were read."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from service.inference.cards import Origin, Step
from service.inference.manifest import MANIFEST, MODEL, sha256
from training.engine.weights import CHECKPOINT, weights_file
from training.export.history import TRAIN, steps_of
from training.options import short_name
from training.registry import read_manifest

_FILE, _STEPS = "history.json", TypeAdapter(tuple[Step, ...])


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a training started from: the steps that made its first weights, their file, and its teacher's graph."""

    before: tuple[Step, ...] = ()
    initial: Origin | None = None
    teacher: Origin | None = None

    @classmethod
    def of(cls, folder: Path, start: Path | None, teacher: Path | None, *, resume: bool) -> "Lineage":
        """The lineage of a training from the weights of the run or version `start`; ValueError if there are none.

        The steps of the run in `folder` itself come first if it is finished and resumed.
        """
        before = recorded(folder) if resume else None
        if start and not before:
            before = recorded(start) or (Step(kind=TRAIN, note=f"The run {short_name(start)} left no record."),)
        return cls(
            before or (),
            _origin(start, weights_file(start)) if start else None,
            _origin(teacher, MODEL) if teacher and (teacher / MODEL).is_file() else None,
        )


def _origin(folder: Path, file: str) -> Origin:
    return Origin(name=short_name(folder) or "", file=file, sha256=sha256(folder / file))


def save(folder: Path, steps: tuple[Step, ...]) -> None:
    """Writes the history of a finished run into its folder, for runs that start from it or resume it."""
    if not steps or not (folder / CHECKPOINT).is_file():
        return
    content = {"weights": sha256(folder / weights_file(folder)), "steps": _STEPS.dump_python(steps, mode="json")}
    (folder / _FILE).write_text(json.dumps(content, indent=1) + "\n")


def recorded(folder: Path) -> tuple[Step, ...] | None:
    """The history of a published version or of a finished run; None if there is none that fits its weights."""
    if (folder / MANIFEST).is_file():
        return steps_of(read_manifest(folder))
    if not (folder / _FILE).is_file():
        return None
    content = json.loads((folder / _FILE).read_text())
    is_complete = content["weights"] == sha256(folder / weights_file(folder))  # the run has not gone on since
    return _STEPS.validate_python(content["steps"]) if is_complete else None
