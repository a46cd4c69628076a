"""The parts of a task of `quartet adopt`: its options, and what it makes of a graph."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from quartet.adopt.graph import Loaded
from quartet.adopt.samples import Samples
from service.inference.cards import ListCard, ManifestBase


def _write_nothing(folder: Path, manifest: ManifestBase) -> None:
    """Plain tensors need nothing beside the graph."""


@dataclass(frozen=True)
class Proposal:
    """A graph as a task is going to serve it.

    Attributes:
        loaded: the graph, composed for the task, with one line for each thing that was changed.
        samples: inputs for it, of which the golden file is made.
        make_manifest: the manifest, given the fields that all tasks share (`name`, `description`, `inputs`, `outputs`,
            `max_batch`, `batched`, `golden`, `adopted`, `files`). A task may replace a field, such as `golden`, or the
            `description`.
        trials: inputs with which batches are compared; None for the samples, which may be too much alike.
        alone: why items run one at a time, whatever rows and batches answer; None if that decides.
        rows: whether the first axis of every tensor is the item; see `batching.decide`.
        lists: how answers are compared where the outputs are lists, such as detections; None if element by element.
        sections: of the model card, in Markdown, beside those that every card has.
        write: writes what belongs to the version beside graph, golden file and manifest into its folder: the
            manifest's companions, and a `report/` with a model card of its own in place of the usual one.
        call: a command for a shell that asks a served model; None for one that asks /v2 with a golden item.
    """

    loaded: Loaded
    samples: Samples
    make_manifest: Callable[[Mapping[str, Any]], ManifestBase]
    trials: Samples | None = None
    alone: str | None = None
    rows: bool = False
    lists: ListCard | None = None
    sections: tuple[str, ...] = ()
    write: Callable[[Path, ManifestBase], None] = field(default=_write_nothing)
    call: str | None = None


class AdoptTask(NamedTuple):
    """A task that `quartet adopt --task NAME` offers, registered in `command_line.TASKS`.

    Attributes:
        summary: what the graph is, in a few words.
        add_options: adds the task's options to a parser that has those of every task.
        propose: makes a graph that the task serves from a loaded one; raises CannotAdopt, with what to do.
    """

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    propose: Callable[[Loaded, argparse.Namespace], Proposal]
