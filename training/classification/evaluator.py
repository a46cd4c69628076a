"""How graphs of an image classifier are judged: see `training.evaluator`."""

from pathlib import Path
from typing import Any

import numpy as np

from training.calibrate import Floats, logits_of
from training.data import halves
from training.evaluation import Evaluation, evaluate
from training.evaluator import BATCH, Inputs, run_in_batches, sample
from training.images import ImageData
from training.lazy import Images
from training.temperature import calibrate

INPUT = "images"


class ClassificationEvaluator:
    """See `training.evaluator.Evaluator`.

    Args:
        data: the images.
        temperature: that the graphs divide their logits by before `finish`.
    """

    figure = "accuracy"
    may_fall = 0.002
    compared = "probabilities"

    def __init__(self, data: ImageData, temperature: float = 1.0) -> None:
        self.data = data
        self._choosing = data.validation.take(halves(data.validation.labels)[0])
        self._temperature = temperature

    def calibration(self, count: int) -> list[Inputs]:
        """See `training.evaluator.Evaluator`."""
        images = self.data.train.images[sample(count, len(self.data.train))]
        return [{INPUT: images[start : start + BATCH]} for start in range(0, len(images), BATCH)]

    def examples(self, count: int) -> Inputs:
        """See `training.evaluator.Evaluator`."""
        return {INPUT: self.data.validation.images[:count]}

    def score(self, graph: Path) -> float:
        """See `training.evaluator.Evaluator`; the half of validation that chooses tells."""
        return float((answers(graph, self._choosing.images).argmax(1) == self._choosing.labels).mean())

    def finish(self, graph: Path) -> dict[str, Any]:
        """See `training.evaluator.Evaluator`."""
        return self.evaluate(graph).fields

    def evaluate(self, graph: Path, *, fit: bool = True) -> Evaluation:
        """Measures everything; first fits the temperature, unless the graph is to stay as it is."""
        data, choosing = self.data, self._choosing
        temperature = self._temperature
        if fit:
            temperature *= calibrate(graph, lambda path: answers(path, choosing.images), choosing.labels)
        validation, test = (
            logits_of(answers(graph, split.images)) * np.float32(temperature) for split in (data.validation, data.test)
        )
        return evaluate(data.classes, validation, data.validation.labels, test, data.test.labels, temperature)


def answers(graph: Path, images: Images) -> Floats:
    """The probabilities that a graph gives, shape (n, classes)."""
    return run_in_batches(graph, INPUT, images)[0]
