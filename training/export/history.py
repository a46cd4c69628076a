"""Records how a version was made: a step for each command, with what it used every split for."""

import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from service.inference.cards import ManifestBase, Step, Use
from training.data.splits import division_digest
from training.export.variants import machine
from training.options import short_name
from training.registry import data_of

TRAIN = "train"

# Purposes. Those of the validation split that need items which chose nothing:
LABEL_SETS, P_VALUES = "label sets", "p-values"
# Others:
WEIGHTS, EPOCH, INTERPOLATION = "network weights", "choice of the epoch", "interpolation of the weights"
VOCABULARY, LINEAR = "choice of the vocabulary", "weight of the linear classifier"
TEMPERATURE, SUPPRESSION, THRESHOLDS = "temperature", "suppression of boxes", "thresholds"
DISTANCES, RANGES, VARIANTS = "distances for p-values", "activation ranges", "choice of variants"
COMPARISON, DENSITY, JUDGE = "cross-validated comparison", "density of the latents", "epoch of the judge"
HISTOGRAMS = "histograms for drift"
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
    """What the two halves of a validation split were used for, by purposes: at most `most` items of each half."""
    digest = division_digest(division[1])

    def uses(part: str, indices: Indices, purposes: Sequence[str]) -> Iterator[Use]:
        items = min(len(indices), most or len(indices))
        for purpose in purposes:
            yield Use(split="validation", purpose=purpose, items=items, part=part, partition=digest)

    return (*uses(SELECTION, division[0], selection), *uses(CALIBRATION, division[1], calibration))


def begun(kind: str, command: str | None, data: str, threads: int, device: str = "cpu") -> Step:
    """A step of a command that has used nothing yet.

    Args:
        kind: `train`, or the name of a command for published versions.
        command: its command line.
        data: the fingerprint.
        threads: that compute.
        device: `cpu` or `cuda`.
    """
    return Step(
        kind=kind,
        command=public(command or None),
        machine=machine("cuda" if device == "cuda" else "cpu"),
        threads=threads,
        data=data,
        uses=(),
    )


def ended(step: Step, seconds: float) -> Step:
    """The step with today's date (UTC) and its duration."""
    return step.model_copy(update={"date": datetime.now(UTC).date(), "seconds": round(seconds, 1)})


def public(command: str | None) -> str | None:
    """A command line without the folders of this machine: absolute paths are shortened to their last parts."""
    if command is None:
        return None
    return shlex.join(
        re.sub(r"^([a-z]+:)?(/(?!/).*)", lambda found: f"{found[1] or ''}{short_name(Path(found[2]))}", word)
        for word in shlex.split(command)
    )


def steps_of(manifest: ManifestBase) -> tuple[Step, ...]:
    """The history of a version; of one without a history, its training, as far as the manifest tells."""
    if manifest.history:
        return manifest.history
    if manifest.training is None:
        return ()
    training = manifest.training
    step = Step(
        kind=TRAIN,
        settings=training.settings,
        epochs=training.epochs_run,
        best_epoch=training.best_epoch,
        seconds=training.seconds,
        data=data_of(manifest).fingerprint,
        note=f"{training.chosen_on:,} validation items chose its epoch." if training.chosen_on else "",
    )
    return (step,)


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
