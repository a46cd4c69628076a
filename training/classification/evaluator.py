"""How graphs of an image classifier are judged: See `Evaluator`."""

from pathlib import Path
from typing import Any

from service.inference.cards import Use
from training.data.images import ImageData
from training.data.lazy import Images
from training.export.calibrate import Floats
from training.export.evaluator import BATCH, Inputs, run_in_batches, sample
from training.export.figures import Evaluation, evaluate
from training.export.history import FIGURES, LABEL_SETS, TEMPERATURE, halves_used
from training.export.scaled_graph import logits_alone, write_scaling
from training.export.scaling import Scaling

INPUT = "images"


class ClassificationEvaluator:
    """See `Evaluator`.

    Args:
        data: the images.
        scaling: that the graphs have before `finish`; None for graphs that have just been exported.
    """

    figure = "accuracy"
    may_fall = 0.002
    compared = "probabilities"

    def __init__(self, data: ImageData, scaling: Scaling | None = None) -> None:
        self.data = data
        self._choice = data.validation.take(data.division[0])
        self._scaling = scaling or Scaling()

    def at(self, scaling: Scaling) -> "ClassificationEvaluator":
        """The same for graphs that scale their logits in this way already."""
        return ClassificationEvaluator(self.data, scaling)

    def calibration(self, count: int) -> list[Inputs]:
        """See `Evaluator`."""
        images = self.data.train.images[sample(count, len(self.data.train))]
        return [{INPUT: images[start : start + BATCH]} for start in range(0, len(images), BATCH)]

    def examples(self, count: int) -> Inputs:
        """See `Evaluator`."""
        return {INPUT: self._choice.images[:count]}

    def score(self, graph: Path) -> float:
        """See `Evaluator`; on the selection half."""
        return float((answers(graph, self._choice.images).argmax(1) == self._choice.labels).mean())

    def scored(self, *purposes: str) -> tuple[Use, ...]:
        """See `Evaluator`."""
        return halves_used(self.data.division, selection=purposes)

    def measured(self, *, fit: bool = True) -> tuple[Use, ...]:
        """See `Evaluator`."""
        return (
            *(self.scored(TEMPERATURE) if fit else ()),
            *halves_used(self.data.division, calibration=(LABEL_SETS,)),
            Use(split="test", purpose=FIGURES, items=len(self.data.test)),
        )

    def finish(self, graph: Path) -> dict[str, Any]:
        """See `Evaluator`."""
        return self.evaluate(graph).fields

    def evaluate(self, graph: Path, *, fit: bool = True) -> Evaluation:
        """Measures everything; first fits the scaling, unless the graph is to stay as it is."""
        data, temperature = self.data, self._scaling.temperature
        with logits_alone(graph, temperature) as bare:
            validation, test = (answers(bare, split.images) for split in (data.validation, data.test))
        labels = data.validation.labels, data.test.labels
        scaling = None if fit else self._scaling
        evaluation = evaluate(data.classes, validation, labels[0], test, labels[1], scaling)
        if fit:
            write_scaling(graph, evaluation.scaling, temperature)
        return evaluation


def answers(graph: Path, images: Images) -> Floats:
    """The first output of a graph, shape (n, classes)."""
    return run_in_batches(graph, INPUT, images)[0]
