"""Calibrated probabilities: scaling of logits, also in graphs; calibration error, split conformal thresholds."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from scipy import special
from scipy.optimize import minimize
from scipy.stats import betabinom
from sklearn.model_selection import KFold

from training.export.layers import answer_with, producers_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Of the nodes of the scaling, before the last softmax of a graph.
PREFIX = "calibration_"
# The least and the greatest that are fitted.
_TEMPERATURES, _EXPONENTS = (0.05, 20.0), (0.25, 4.0)


@dataclass(frozen=True, slots=True)
class Scaling:
    """From a network's logits, shape (n, classes), to logits of calibrated probabilities of that shape.

    The probabilities are proportional to exp(-(-log p / temperature) ** exponent), p being the softmax of the logits.
    With the exponent 1 it is temperature scaling (Guo et al. 2017, arXiv:1706.04599). A temperature changes all
    confidences in the same direction; an exponent above 1 makes the high ones higher and those in the middle lower.
    Both keep the order of the classes, since they map each log-probability by the same increasing function (the
    diagonal intra order-preserving functions of Rahimi et al. 2020, arXiv:2003.06820).
    """

    temperature: float = 1.0
    exponent: float = 1.0

    @classmethod
    def of(cls, calibration: Any) -> Self:
        """That of a manifest's `service.tasks.cards.Calibration`."""
        return cls(calibration.temperature, calibration.exponent)

    def scale(self, logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The scaled logits, in the precision of the given ones."""
        if self.exponent == 1:
            return logits / self.temperature
        # Rounding may make the logarithm positive, and a power of that is not a number.
        scaled: npt.NDArray[Any] = (np.abs(special.log_softmax(logits, axis=1)) / self.temperature) ** self.exponent
        return -scaled

    def probabilities(self, logits: Floats) -> Floats:
        """Calibrated probabilities, shape (n, classes)."""
        return softmax(self.scale(np.asarray(logits, dtype=np.float32)))


def softmax(logits: Floats) -> Floats:
    """Probabilities, shape (n, classes), of logits of that shape."""
    probabilities: Floats = special.softmax(np.asarray(logits, dtype=np.float32), axis=1)
    return probabilities


def logits_of(probabilities: Floats) -> Floats:
    """Logits that give these probabilities: those of the network up to a constant for each item."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def fit_scaling(logits: Floats, labels: Ints) -> Scaling:
    """The scaling of least negative log-likelihood.

    It has an exponent if, in cross-validation, that lowers the negative log-likelihood of held-out items by more than
    one standard error of the difference. The items, of shapes (n, classes) and (n,), must not have trained the network.
    """

    def losses(scaling: Scaling, items: Ints) -> npt.NDArray[np.float64]:
        scaled = special.log_softmax(scaling.scale(logits[items].astype(np.float64)), axis=1)
        return -np.take_along_axis(scaled, labels[items][:, None], 1)[:, 0]

    if len(labels) >= 50:  # with fewer items cross-validation says nothing
        gains = np.concatenate([
            losses(Scaling(fit_temperature(logits[rest], labels[rest])), fold)
            - losses(_fit_both(logits[rest], labels[rest]), fold)
            for rest, fold in KFold(5, shuffle=True, random_state=0).split(labels)
        ])  # fmt: skip
        if gains.mean() > gains.std() / np.sqrt(len(gains)):
            return _fit_both(logits, labels)
    return Scaling(fit_temperature(logits, labels))


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

    Labels are smoothed as if there were one more example, equally of every class: without that, a split without a
    misclassification would lead to a temperature of 0.
    """
    (temperature,) = _fit(logits, labels, [1.0])
    return temperature


def _fit_both(logits: Floats, labels: Ints) -> Scaling:
    return Scaling(*_fit(logits, labels, [fit_temperature(logits, labels), 1.0]))


def _fit(logits: Floats, labels: Ints, start: list[float]) -> list[float]:
    """The temperature, and the exponent if `start` has one, of least smoothed cross-entropy."""
    # No probability is so close to 1 that its logarithm has no gradient.
    surprise = np.maximum(-special.log_softmax(logits.astype(np.float64), axis=1), 1e-12)
    count, classes = surprise.shape
    smoothing = 1 / (count + 1)
    target = np.full_like(surprise, smoothing / classes)
    target[np.arange(count), labels] += 1 - smoothing

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """The loss and its gradient by the logarithms of the parameters."""
        temperature, *exponents = np.exp(parameters)
        quotients, exponent = surprise / temperature, exponents[0] if exponents else 1.0
        scaled = quotients**exponent
        logs = special.log_softmax(-scaled, axis=1)
        by_scaled = (target - np.exp(logs)) / count
        # Both derivatives of `scaled` have this factor.
        factor = exponent * scaled * by_scaled
        gradient = [-factor.sum()] + [(factor * np.log(quotients)).sum()] * len(exponents)
        return float(-(target * logs).sum() / count), np.array(gradient)

    bounds = [tuple(np.log(limits)) for limits in (_TEMPERATURES, _EXPONENTS)[: len(start)]]
    found = minimize(loss, np.log(start), jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-8})
    return [float(value) for value in np.exp(found.x)]


@contextmanager
def logits_alone(path: Path) -> Iterator[Path]:
    """The graph at `path` with the network's logits, before any scaling, for its only output.

    Raises:
        ValueError: its first output is not that of a softmax.
    """
    model = onnx.load(path)
    answer_with(model, _remove_scaling(model).input[:1])
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / path.name
        onnx.save(model, target)
        yield target


def write_scaling(path: Path, scaling: Scaling) -> None:
    """Replaces the scaling of the graph at `path`.

    Raises:
        ValueError: its first output is not that of a softmax.
    """
    model = onnx.load(path)
    graph, softmax = model.graph, _remove_scaling(model)
    steps: list[tuple[str, float | None]] = [("Div", scaling.temperature)]
    if scaling.exponent != 1:
        steps = [("LogSoftmax", None), ("Abs", None), *steps, ("Pow", scaling.exponent), ("Neg", None)]
    for kind, constant in steps:
        name = f"{PREFIX}{kind.lower()}"
        inputs = [softmax.input[0]]
        if constant is not None:
            inputs.append(f"{name}_by")
            graph.initializer.append(numpy_helper.from_array(np.array(constant, np.float32), inputs[1]))
        node = helper.make_node(kind, inputs, [name], name=name)
        if kind == "LogSoftmax":
            node.attribute.append(helper.make_attribute("axis", 1))
        index = list(graph.node).index(softmax)
        graph.node.insert(index, node)
        softmax = graph.node[index + 1]
        softmax.input[0] = name
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _remove_scaling(model: onnx.ModelProto) -> onnx.NodeProto:
    # Returns the softmax of the probabilities, whose input is then the network's logits.
    graph, producers = model.graph, producers_of(model)
    output = graph.output[0].name
    softmax = producers[output]
    if softmax.op_type != "Softmax":
        raise ValueError(f"{output} is the output of a {softmax.op_type}, not of a softmax")
    while (before := producers.get(softmax.input[0])) is not None and before.name.startswith(PREFIX):
        softmax.input[0] = before.input[0]
    for field in (graph.node, graph.initializer, graph.value_info):
        kept = [item for item in field if not item.name.startswith(PREFIX)]
        del field[:]
        field.extend(kept)
    return next(node for node in graph.node if output in node.output)


def expected_calibration_error(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """The mean difference between confidence and accuracy over `bins` equal-width bins, weighted by their size."""
    points = reliability(probabilities, labels, bins)
    return float(sum(fraction * abs(confidence - accuracy) for fraction, confidence, accuracy in points))


def bin_of(confidence: Floats, bins: int = 15) -> Ints:
    """The index of the equal-width bin that each confidence lies in; the last bin holds 1.0 as well."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def reliability(probabilities: Floats, labels: Ints, bins: int = 15) -> list[tuple[float, float, float]]:
    """For each non-empty bin of confidence: its fraction of all items, mean confidence, accuracy."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    found = bin_of(confidence, bins)
    return [
        (float(inside.mean()), float(confidence[inside].mean()), float(correct[inside].mean()))
        for inside in (found == index for index in range(bins))
        if inside.any()
    ]


def conformal_threshold(probabilities: Floats, labels: Ints, coverage: float) -> float:
    """The lowest probability of a label in the prediction set, by split conformal prediction.

    The sets of labels with at least this probability are the smallest on average that contain the true label with
    probability `coverage` (Sadinle et al. 2019, arXiv:1609.00451). The items, of shapes (n, classes) and (n,), are
    those of the calibration half.
    """
    scores = np.sort(probabilities[np.arange(len(labels)), labels])
    rank = _rank(coverage, len(scores))
    return float(scores[rank - 1]) if rank >= 1 else 0.0


def expected_coverage(coverage: float, calibrated_on: int, tested_on: int) -> tuple[float, float]:
    """The 95 % range of the fraction of test items whose label has at least the threshold of `conformal_threshold`.

    It holds if calibration and test items are exchangeable and no two scores are equal: the fraction then has a
    beta-binomial distribution (Vovk 2012, arXiv:1209.2673).
    """
    rank = _rank(coverage, calibrated_on)
    if rank < 1:
        return 1.0, 1.0
    low, high = betabinom(tested_on, calibrated_on + 1 - rank, rank).interval(0.95)
    return float(low) / tested_on, float(high) / tested_on


def cross_fitting(count: int) -> list[tuple[Ints, Ints]]:
    """Divides so many items into at most ten random folds: for each, the indices of the other items and its own."""
    if count < 2:
        return []
    return list(KFold(min(10, count), shuffle=True, random_state=0).split(np.arange(count)))


def _rank(coverage: float, count: int) -> int:
    # The + 1 counts the new example (the finite-sample correction).
    return math.floor((count + 1) * (1 - coverage) + 1e-9)
