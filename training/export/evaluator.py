"""How the graphs of a published model are judged on its data: what recipes, quantisation and evaluation share."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from service.inference.cards import Use
from service.inference.session import Session
from training.data.lazy import LazyImages
from training.export.calibration import Floats, Ints, Scaling, fit_scaling, logits_alone, softmax, write_scaling
from training.export.figures import Evaluation, evaluate
from training.export.history import FIGURES, LABEL_SETS, TEMPERATURE, halves_used
from training.export.layers import Inputs

Array = npt.NDArray[Any]
BATCH = 64


class Evaluator(ABC):
    """A task's data, and what is measured of graphs on it. Only `finish` and `renew` use the test split.

    Attributes:
        figure: what `score` returns.
        max_drop: by how much less of it a variant may have than its reference.
        compared: the output whose tolerance limits how far a variant may be from its golden file.
    """

    data: Any
    figure: ClassVar[str]
    max_drop: ClassVar[float]
    compared: ClassVar[str]

    @abstractmethod
    def calibration(self, count: int) -> list[Inputs]:
        """Batches of `count` training inputs, or of fewer if they are large; always the same."""

    @abstractmethod
    def examples(self, count: int) -> Inputs:
        """The first inputs of the selection half of validation: `count` of them, or fewer if they are large."""

    @abstractmethod
    def score(self, graph: Path) -> float:
        """How good a graph is on the selection half of validation; more is better."""

    def scored(self, *purposes: str) -> tuple[Use, ...]:
        """The record of choices by `score`."""
        return halves_used(self.data.division, selection=purposes)

    @abstractmethod
    def measured(self, *, fit: bool = True) -> tuple[Use, ...]:
        """The record of what `finish` fits and measures; without `fit`, of what it measures."""

    @abstractmethod
    def finish(self, graph: Path) -> dict[str, Any]:
        """Fits the calibration of a graph anew, changing its file; returns fields of a manifest from the test split."""

    def renew(self, folder: Path, manifest: Any, *, fit: bool) -> Any:  # noqa: ARG002
        """Measures the version in `folder` anew, writes its report, and returns the manifest with the new figures.

        With `fit`, its calibration is fitted anew first. Raises ValueError if models of the task have none, or are
        measured by their recipe alone.
        """
        raise ValueError(f"{manifest.name}: models of the task {manifest.task} are measured by their recipe alone")


class LabelEvaluator(Evaluator):
    """Evaluates classifiers whose first output is the softmax of scaled logits.

    Args:
        data: of labelled items.
        splits: the inputs of the training, validation and test split.
        selected: those of the selection half of validation.
    """

    figure = "accuracy"
    max_drop = 0.002
    compared = "probabilities"

    def __init__(self, data: Any, splits: tuple[Any, Any, Any], selected: Any) -> None:
        self.data = data
        self.train, self.validation, self.test = splits
        self.selected = selected
        self.labels: Ints = data.validation.labels[data.division[0]]

    @abstractmethod
    def answers(self, graph: Path, items: Any) -> Floats:
        """The first output of a graph, shape (n, classes)."""

    def score(self, graph: Path) -> float:
        return float((self.answers(graph, self.selected).argmax(1) == self.labels).mean())

    def measured(self, *, fit: bool = True) -> tuple[Use, ...]:
        return (
            *(self.scored(TEMPERATURE) if fit else ()),
            *halves_used(self.data.division, calibration=(LABEL_SETS,)),
            Use(split="test", purpose=FIGURES, items=len(self.data.test)),
        )

    def fit(self, graph: Path) -> Scaling:
        """Fits the scaling of a graph anew, changing its file."""
        with logits_alone(graph) as bare:
            scaling = fit_scaling(self.answers(bare, self.selected), self.labels)
        write_scaling(graph, scaling)
        return scaling

    def as_trained(self, graph: Path) -> dict[str, float]:
        """The figures of a graph without its scaling on the selection half, as a training measures them."""
        with logits_alone(graph) as bare:
            logits = self.answers(bare, self.selected)
        chances = softmax(logits)[np.arange(len(self.labels)), self.labels]
        return {
            "loss": float(-np.log(np.maximum(chances, 1e-30)).mean()),
            "accuracy": float((logits.argmax(1) == self.labels).mean()),
        }

    def finish(self, graph: Path) -> dict[str, Any]:
        return self.evaluate(graph, self.fit(graph)).fields

    def evaluate(self, graph: Path, scaling: Scaling) -> Evaluation:
        """Measures everything of a graph with this scaling."""
        data = self.data
        with logits_alone(graph) as bare:
            validation, test = self.answers(bare, self.validation), self.answers(bare, self.test)
        return evaluate(data.classes, validation, data.validation.labels, test, data.test.labels, scaling)


def run_in_batches(graph: Path, name: str, items: Array | LazyImages, batch: int = BATCH) -> list[Array]:
    """A graph's outputs for all items of one input, in their order."""
    session = Session(graph, "cpu")
    parts = [session.run({name: items[start : start + batch]}) for start in range(0, len(items), batch)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def sample(count: int, of: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """The indices of `count` of so many items, at random but always the same."""
    return np.random.default_rng(seed).permutation(of)[:count]
