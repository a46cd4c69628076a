"""The out-of-distribution score inside an exported graph: a distance of features from training items, and its p-value.

The features are the outputs of layers of the network. The p-value is conformal: the fraction of calibration items that
are at least as far, the item itself included (Vovk et al. 2005; Bates et al. 2023, arXiv:2104.08279). If an item is
exchangeable with the calibration items, its p-value is at most alpha with a probability of at most alpha, as a mean
over calibration sets. It says nothing about items from another distribution, and with n calibration items no p-value is
below 1 / (n + 1).

No other node depends on these nodes, whose names begin with `familiarity_`.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.covariance import ShrunkCovariance

from service.tasks.familiarity import UNFAMILIAR
from training.export.calibration import Floats, Ints, cross_fitting
from training.export.layers import Find, answer_with, shapes

PREFIX = "familiarity_"
# With more calibration items a p-value gains nothing, and a request is compared with each of them.
MOST_HELD_OUT = 2000
_TINY = 1e-12


class Writer:
    """Appends nodes and constants to a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._shapes = shapes(model)
        self._input = model.graph.input[0].name

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Appends a node; returns the name of its output."""
        output = UNFAMILIAR if name == UNFAMILIAR else f"{PREFIX}{name}"
        self._graph.node.append(helper.make_node(kind, [*inputs], [output], name=f"{PREFIX}{name}", **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Appends a constant, unless it is there; returns its name."""
        name = f"{PREFIX}{name}"
        if all(tensor.name != name for tensor in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def features(self, layers: Sequence[str], name: str) -> str:
        """Appends the concatenation of layers, float32, shape (batch, features); of a map, the mean over positions."""
        parts = []
        for index, layer in enumerate(layers):
            # A graph may compute in half precision.
            part = self.add("Cast", (layer,), f"{name}_wide_{index}", to=TensorProto.FLOAT)
            shape = self._shapes.get(layer, ())
            if shape[:1] != self._shapes[self._input][:1]:
                # The mirror images, if the network computes them too, follow the images.
                count = self.add("Shape", (self._input,), f"{name}_count_{index}", start=0, end=1)
                first = self.constant("first", np.array([0], np.int64))
                part = self.add("Slice", (part, first, count), f"{name}_own_{index}")
            if len(shape) == 4:
                positions = self.constant("positions", np.array([2, 3], np.int64))
                part = self.add("ReduceMean", (part, positions), f"{name}_mean_{index}", keepdims=0)
            elif len(shape) != 2:
                part = self.add("Flatten", (part,), f"{name}_flat_{index}")
            parts.append(part)
        return self.add("Concat", parts, name, axis=1) if len(parts) > 1 else parts[0]

    def row(self) -> str:
        """The axis of an item's features."""
        return self.constant("row", np.array([1], np.int64))


@dataclass(frozen=True, slots=True)
class Distance:
    """A squared distance of features from those of training items: a linear map of them, then a reduction to a number.

    Attributes:
        layers: tensors of the graph that are concatenated to features.
        weights: shape (features, k); `offset` has the shape (k,).
        nearest: whether the features are divided by their Euclidean length and the least of the k values is the
            distance; otherwise it is the sum of their squares.
    """

    layers: tuple[str, ...]
    weights: Floats
    offset: Floats
    nearest: bool

    @classmethod
    def to_class_means(cls, layers: tuple[str, ...], features: Floats, labels: Ints) -> Self:
        """To the nearest mean of a class, both of unit length, less 1; of features of shape (n, features)."""
        unit = _unit(features.astype(np.float64))
        means = np.stack([unit[labels == label].mean(0) for label in np.unique(labels)]).astype(np.float32)
        # |x - m|² = 1 - 2 x·m + |m|²; the 1 is the same for all.
        return cls(layers, -2 * means.T, np.square(means).sum(1), nearest=True)

    @classmethod
    def mahalanobis(cls, layers: tuple[str, ...], features: Floats, labels: Ints) -> Self:  # noqa: ARG003
        """The Mahalanobis distance to the mean of all items, with a shrunk covariance; labels do not matter."""
        fitted = ShrunkCovariance(store_precision=False, shrinkage=0.01).fit(features.astype(np.float64))
        covariance = fitted.covariance_ + _TINY * np.eye(features.shape[1])
        whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        offset = -(fitted.location_ @ whitening)
        return cls(layers, whitening.astype(np.float32), offset.astype(np.float32), nearest=False)

    def scaled(self, factor: float) -> Self:
        """The distance times a factor."""
        by = np.float32(factor if self.nearest else np.sqrt(factor))
        return replace(self, weights=self.weights * by, offset=self.offset * by)

    def measure(self, features: Floats) -> Floats:
        """The distances, shape (n,), of features of shape (n, features)."""
        values = (_unit(features) if self.nearest else features) @ self.weights + self.offset
        distances: Floats = values.min(1) if self.nearest else np.square(values).sum(1)
        return distances

    def write(self, writer: Writer, features: str, name: str) -> str:
        """Appends `measure`; returns the name of the distances, shape (batch, 1)."""
        if self.nearest:
            length = writer.add("ReduceL2", (features, writer.row()), f"{name}_length", keepdims=1)
            length = writer.add("Max", (length, writer.constant("tiny", np.float32(_TINY))), f"{name}_positive")
            features = writer.add("Div", (features, length), f"{name}_unit")
        constants = writer.constant(f"{name}_weights", self.weights), writer.constant(f"{name}_offset", self.offset)
        values = writer.add("Gemm", (features, *constants), f"{name}_values")
        return writer.add("ReduceMin" if self.nearest else "ReduceSumSquare", (values, writer.row()), name, keepdims=1)


Fit = Callable[[tuple[str, ...], Floats, Ints], Distance]


@dataclass(frozen=True, slots=True)
class Method:
    """How the out-of-distribution score is computed.

    Attributes:
        words: for people, in a line.
        distances: each with the function that finds its layers. Several are divided by their standard deviation over
            the training items and summed.
        chosen_on: the data that the method was chosen on, for people, in a line.
    """

    words: str
    distances: tuple[tuple[Fit, Find], ...]
    chosen_on: str = "the made-up and foreign data that the cards of the committed models measure on"

    def layers(self, model: onnx.ModelProto) -> list[tuple[str, ...]]:
        """The layers of each distance."""
        return [find(model) for _, find in self.distances]

    def fit(self, layers: Sequence[tuple[str, ...]], features: Sequence[Floats], labels: Ints) -> list[Distance]:
        """Fits each distance to training items, given its layers and the features, shape (n, features), from them."""
        given = zip(self.distances, layers, features, strict=True)
        fitted = [fit(names, own, labels) for (fit, _), names, own in given]
        if len(fitted) == 1:
            return fitted
        spreads = [float(one.measure(own).std()) for one, own in zip(fitted, features, strict=True)]
        return [one.scaled(1 / max(spread, _TINY)) for one, spread in zip(fitted, spreads, strict=True)]


def measure(distances: Sequence[Distance], features: Sequence[Floats]) -> Floats:
    """The sum of the distances of items, shape (n,), given their features for each."""
    parts = [one.measure(own) for one, own in zip(distances, features, strict=True)]
    return np.asarray(np.sum(parts, axis=0))


def p_values(distances: Floats, held_out: Floats) -> npt.NDArray[np.float64]:
    """The fraction of held-out items that are at least as far as each item, which counts too."""
    farther = len(held_out) - np.searchsorted(np.sort(held_out), distances)
    return (1 + farther) / (len(held_out) + 1)


def cross_fitted(held_out: Floats) -> npt.NDArray[np.float64]:
    """The p-value of each held-out item, by the held-out items of other folds."""
    values = np.ones(len(held_out))
    for others, fold in cross_fitting(len(held_out)):
        values[fold] = p_values(held_out[fold], held_out[others])
    return values


def without_ood(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without the score; the order of everything else is kept."""
    bare = copy.deepcopy(model)
    for field in (bare.graph.node, bare.graph.initializer, bare.graph.output, bare.graph.value_info):
        kept = [item for item in field if not (item.name.startswith(PREFIX) or item.name == UNFAMILIAR)]
        if len(kept) < len(field):
            del field[:]
            field.extend(kept)
    return bare


def write_features(path: Path, layers: Sequence[tuple[str, ...]], target: Path) -> None:
    """Writes the graph at `path` to `target` with nothing but features for outputs, one for each of the `layers`."""
    model = without_ood(onnx.load(path))
    writer = Writer(model)
    answer_with(model, [writer.features(each, f"features_{index}") for index, each in enumerate(layers)])
    onnx.save(model, target)


def append(path: Path, distances: Sequence[Distance], held_out: Floats) -> None:
    """Appends the p-value to the graph at `path`, in place of an earlier one; the order of everything else is kept.

    `held_out` are the sums of the distances for items that neither trained the network nor chose anything.
    """
    model = without_ood(onnx.load(path))
    writer = Writer(model)
    total = ""
    for index, distance in enumerate(distances):
        features = writer.features(distance.layers, f"features_{index}")
        own = distance.write(writer, features, f"distance_{index}")
        total = writer.add("Add", (total, own), f"sum_{index}") if total else own
    # A held-out item that always counts stands for the item itself.
    everything = np.sort(np.append(held_out, np.finfo(np.float32).max).astype(np.float32))[None]
    farther = writer.add("LessOrEqual", (total, writer.constant("held_out", everything)), "farther")
    counted = writer.add("Cast", (farther,), "counted", to=TensorProto.FLOAT)
    output = writer.add("ReduceMean", (counted, writer.row()), UNFAMILIAR, keepdims=0)
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch"]))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _unit(features: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _TINY))
