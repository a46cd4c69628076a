"""Manifests, inputs and answers of the committed models, as `CallScope.infer` takes and returns them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from service.inference.golden import read_golden
from service.inference.session import Session
from service.inference.stacking import runner
from service.tasks.base import Row, Sample, Task
from service.tasks.registry import BUILT_IN
from tests.server import ROOT


@dataclass(frozen=True)
class Committed:
    """A committed model with the items and rows of its golden file."""

    task: Task
    manifest: Any
    companion: Any
    items: list[Any]
    rows: list[Row]

    def samples(self, index: int) -> list[Sample]:
        (spec,) = self.manifest.inputs
        assert self.task.samples is not None
        return self.task.samples({spec.name: self.items[index][None]}, self.manifest, self.companion)


def committed(name: str) -> Committed:
    folder = ROOT / "models" / name / "1"
    manifest = BUILT_IN.read_manifest(folder)
    task = BUILT_IN.tasks[manifest.task]
    inputs, answers = read_golden(folder, manifest)
    (items,) = inputs.values()
    if name == "topics":  # as the task makes them, without padding
        items = [row[row != 0] for row in items]
    companion = task.read_companion(folder) if task.read_companion else None
    return Committed(task, manifest, companion, list(items), list(zip(*answers.values(), strict=True)))


def rows_of_variant(name: str, variant: str, items: list[Any]) -> tuple[Any, list[Row]]:
    """The manifest that holds for a variant, and its answers on this machine."""
    folder = ROOT / "models" / name / "1"
    reference = BUILT_IN.read_manifest(folder)
    (card,) = (card for card in reference.variants if card.name == variant)
    manifest = reference.as_variant(card)
    session = Session(folder / card.file, "cpu", 1)
    session.check_tensors(manifest)
    return manifest, list(runner(session, manifest)(items))


def nan_like(row: Row) -> Row:
    """A row of the same shapes without a number in it."""
    return tuple(np.full_like(part, np.nan) if np.issubdtype(part.dtype, np.floating) else part for part in row)
