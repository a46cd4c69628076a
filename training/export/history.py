"""Records how a version was made: a step for each command, with what it used every split for.

Model cards render it (`training.report.history`).
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter

from service.inference.cards import ManifestBase, Origin, Step, Use
from service.inference.manifest import MANIFEST, MODEL, sha256
from training.data.splits import division_digest
from training.engine.weights import CHECKPOINT, weights_file
from training.export.speed import machine
from training.options import short_name
from training.registry import read_manifest

HISTORY = "history.json"
TRAIN = "train"

# Purposes. Those of the validation split that need items which chose nothing:
LABEL_SETS, P_VALUES = "label sets", "p-values"
# Others:
WEIGHTS, EPOCH, INTERPOLATION = "network weights", "choice of the epoch", "interpolation of the weights"
VOCABULARY, LINEAR = "choice of the vocabulary", "weight of the linear classifier"
TEMPERATURE, SUPPRESSION, THRESHOLDS = "temperature", "suppression of boxes", "thresholds"
DISTANCES, RANGES, VARIANTS = "distances for p-values", "activation ranges", "choice of variants"
COMPARISON, DENSITY, JUDGE = "cross-validated comparison", "density of the latents", "epoch of the judge"
# Of the test split:
FIGURES = "figures"

SELECTION, CALIBRATION = "selection", "calibration"

Indices = npt.NDArray[np.int64]
ManifestT = TypeVar("ManifestT", bound=ManifestBase)


def halves_used(
    division: tuple[Indices, Indices],
    selection: Sequence[str] = (),
    calibration: Sequence[str] = (),
    most: int | None = None,
) -> tuple[Use, ...]:
    """What the two halves of a validation split were used for.

    Args:
        division: the indices of the selection half and of the calibration half.
        selection: the purposes of the first half.
        calibration: the purposes of the second half.
        most: how many items of a half were used, at most; None for all.
    """
    digest = division_digest(division[1])
    return tuple(
        Use(
            split="validation",
            purpose=purpose,
            items=min(len(indices), most or len(indices)),
            part=part,
            partition=digest,
        )
        for part, indices, purposes in zip((SELECTION, CALIBRATION), division, (selection, calibration), strict=True)
        for purpose in purposes
    )


def begun(kind: str, command: str | None, data: str, device: str = "cpu") -> Step:
    """A step that has used nothing yet.

    Args:
        kind: what the command is called.
        command: the command line.
        data: the fingerprint.
        device: `cpu` or `cuda`.
    """
    return Step(
        kind=kind,
        command=public(command or None),
        machine=machine("cuda" if device == "cuda" else "cpu"),
        threads=torch.get_num_threads(),
        data=data,
        uses=(),
    )


def ended(step: Step, seconds: float) -> Step:
    """The step with today's date (UTC) and its duration."""
    return step.model_copy(update={"date": datetime.now(UTC).date(), "seconds": round(seconds, 1)})


def with_end(manifest: ManifestT, seconds: float) -> ManifestT:
    """The manifest whose last step ends now, after so many seconds."""
    *before, last = manifest.history
    return manifest.model_copy(update={"history": (*before, ended(last, seconds))})


def public(command: str | None) -> str | None:
    """A command line without the folders of this machine: absolute paths are shortened to their last parts."""
    if command is None:
        return None
    return shlex.join(
        re.sub(r"^([a-z]+:)?(/(?!/).*)", lambda found: f"{found[1] or ''}{short_name(Path(found[2]))}", word)
        for word in shlex.split(command)
    )


def steps_of(manifest: ManifestBase) -> tuple[Step, ...]:
    """The history of a version; of one without a history, its training as far as the manifest tells."""
    if manifest.history:
        return manifest.history
    training = manifest.training
    return (
        Step(
            kind=TRAIN,
            settings=training.settings,
            epochs=training.epochs_run,
            best_epoch=training.best_epoch,
            seconds=training.seconds,
            data=manifest.data.fingerprint,
            note=f"{training.chosen_on:,} validation items chose its epoch." if training.chosen_on else "",
        ),
    )


def chosen_by(manifest: ManifestBase) -> str | None:
    """The division whose selection half chose the epoch in the last training; None if none is recorded."""
    last = next((step for step in reversed(steps_of(manifest)) if step.kind == TRAIN), None)
    uses = (use for use in (last and last.uses) or () if (use.purpose, use.part) == (EPOCH, SELECTION))
    return next((use.partition for use in uses), None)


def with_step(manifest: ManifestT, step: Step) -> ManifestT:
    """The manifest with one more step in its history."""
    return manifest.model_copy(update={"history": (*steps_of(manifest), step)})


def with_uses(manifest: ManifestT, *uses: Use) -> ManifestT:
    """The manifest with further uses of the splits by its last step; without a history it has no such step."""
    *before, last = manifest.history or (None,)
    if last is None or last.uses is None:
        return manifest
    together = tuple(dict.fromkeys((*last.uses, *uses)))
    return manifest.model_copy(update={"history": (*before, last.model_copy(update={"uses": together}))})


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a training started from.

    Attributes:
        before: the steps that made the weights that it started from.
        initial: the file of these weights.
        teacher: the graph that it learned from.
    """

    before: tuple[Step, ...] = ()
    initial: Origin | None = None
    teacher: Origin | None = None

    @classmethod
    def of(cls, folder: Path, start: Path | None, teacher: Path | None, *, resume: bool) -> "Lineage":
        """What a training starts from.

        Args:
            folder: of the run, whose own steps come first if it is finished and resumed.
            start: the run or version whose weights it starts from.
            teacher: the version that it learns from.
            resume: whether the run is resumed.

        Raises:
            ValueError: there are no weights to start from.
        """
        return cls(
            (resume and recorded(folder)) or _steps_of_start(start),
            _origin(start, weights_file(start)) if start else None,
            _origin(teacher, MODEL) if teacher and (teacher / MODEL).is_file() else None,
        )


def _steps_of_start(start: Path | None) -> tuple[Step, ...]:
    if start is None:
        return ()
    return recorded(start) or (Step(kind=TRAIN, note=f"The run {short_name(start)} left no record."),)


def _origin(folder: Path, file: str) -> Origin:
    return Origin(name=short_name(folder) or "", file=file, sha256=sha256(folder / file))


_Steps = TypeAdapter(tuple[Step, ...])


def save(folder: Path, steps: tuple[Step, ...]) -> None:
    """Writes the history of a finished run into its folder, for runs that start from it or resume it."""
    if not steps or not (folder / CHECKPOINT).is_file():
        return
    content = {"weights": sha256(folder / weights_file(folder)), "steps": _Steps.dump_python(steps, mode="json")}
    (folder / HISTORY).write_text(json.dumps(content, indent=1) + "\n")


def recorded(folder: Path) -> tuple[Step, ...] | None:
    """The history of a published version or of a finished run; None if there is none that fits its weights."""
    if (folder / MANIFEST).is_file():
        return steps_of(read_manifest(folder))
    if not (folder / HISTORY).is_file():
        return None
    content = json.loads((folder / HISTORY).read_text())
    if content["weights"] != sha256(folder / weights_file(folder)):  # the run has gone on since
        return None
    return _Steps.validate_python(content["steps"])
