"""How the graphs of a published model are judged on its data: what recipes, quantisation and evaluation share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from service.inference.cards import Use
from service.inference.session import Session
from training.data.lazy import LazyImages

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
BATCH = 64


class Evaluator(Protocol):
    """A task's data, and what is measured of graphs on it. The test split is touched by `finish` alone.

    Attributes:
        figure: what `score` gives.
        may_fall: by how much less of it a variant may have than its reference.
        compared: the output that tells how far a variant is from its reference.
    """

    figure: str
    may_fall: float
    compared: str

    def calibration(self, count: int) -> list[Inputs]:
        """Batches of `count` training inputs, or of fewer if they are large; always the same."""

    def examples(self, count: int) -> Inputs:
        """The first inputs of the selection half of validation: `count` of them, or fewer if they are large."""

    def score(self, graph: Path) -> float:
        """How good a graph is on the selection half of validation; more is better."""

    def scored(self, *purposes: str) -> tuple[Use, ...]:
        """The record of choices by what `score` measures, for these purposes."""

    def measured(self, *, fit: bool = True) -> tuple[Use, ...]:
        """The record of what `finish` fits and measures; without `fit`, of that with the calibration as it is."""

    def finish(self, graph: Path) -> dict[str, Any]:
        """Fits anew what is part of the graph, changing its file, and measures it on the test split.

        Returns:
            What a manifest says of it, by the name of the field.
        """


def run_in_batches(graph: Path, name: str, items: Array | LazyImages, batch: int = BATCH) -> list[Array]:
    """What a graph answers to all items of one input, in its order: an array for each output."""
    session = Session(graph, "cpu")
    parts = [session.run({name: items[start : start + batch]}) for start in range(0, len(items), batch)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def sample(count: int, of: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """The indices of `count` of so many items, at random but always the same."""
    return np.random.default_rng(seed).permutation(of)[:count]
