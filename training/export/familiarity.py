"""How unlike the training data an item is, told inside an exported graph: distances of its features, and a p-value.

The features are what layers of the network make of the item, and the distances are those from the features of training
items. What a graph answers is a conformal p-value: the share of calibration items that are at least as far, the item
itself included (Vovk et al. 2005; Bates et al. 2023, arXiv:2104.08279). If an item is exchangeable with the calibration
items, its p-value is at most alpha with a probability of at most alpha. This is a mean over calibration sets: with one
set the probability may be higher. It says nothing about items from another distribution, such as later ones, and with n
calibration items no p-value is below 1 / (n + 1).

Nothing else in the graph depends on these nodes, whose names begin with `familiarity_`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.inference.cards import Use
from service.tasks.familiarity import UNFAMILIAR
from training.export.calibrate import cross_fitting
from training.export.evaluator import Array
from training.export.layers import Find, answer_with, shapes

PREFIX = "familiarity_"
# Beyond so many calibration items a p-value gains nothing, and an answer is compared with each of them.
MOST_HELD_OUT = 2000
_SHRINKAGE = 0.01
_TINY = 1e-12

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Writer:
    """Nodes and constants that are appended to a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._shapes = shapes(model)
        self._input = model.graph.input[0].name

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Appends a node; returns what its output is called: as the node, or as the graph's output."""
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
        """Appends what joins layers to features, float32, shape (batch, features); a map counts by its mean."""
        parts = []
        for index, layer in enumerate(layers):
            # A graph may compute in half precision.
            part = self.add("Cast", (layer,), f"{name}_wide_{index}", to=TensorProto.FLOAT)
            shape = self._shapes.get(layer, ())
            if shape[:1] != self._shapes[self._input][:1]:
                # Behind the images a network may have been given their mirror images.
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

    @property
    def row(self) -> str:
        """The axis of an item's features."""
        return self.constant("row", np.array([1], np.int64))

    def answer(self, output: str, shape: Sequence[str | int | None]) -> None:
        """Makes an output of the graph of a tensor."""
        self._graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))


class Distance(Protocol):
    """How far features are from those of the training items."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The tensors of the graph that are joined to features."""

    @classmethod
    def fit(cls, layers: tuple[str, ...], features: Floats, labels: Labels) -> Self:
        """By the features of training items, shape (n, features), and their class indices, shape (n,)."""

    def scaled(self, factor: float) -> Self:
        """The same with distances that are so many times as large."""

    def measure(self, features: Floats) -> Floats:
        """The distances of features of that shape, shape (n,); a constant may be missing from all."""

    def write(self, writer: Writer, features: str, name: str) -> str:
        """Appends nodes that measure; returns the distances, shape (batch, 1)."""


@dataclass(frozen=True, slots=True)
class ToClassMeans:
    """The squared distance to the nearest mean of a class, of features that are divided by their Euclidean length.

    Attributes:
        layers: tensors of the graph that are joined to features.
        means: of the classes, shape (classes, features).
        factor: of the distances.
    """

    layers: tuple[str, ...]
    means: Floats
    factor: float = 1.0

    @classmethod
    def fit(cls, layers: tuple[str, ...], features: Floats, labels: Labels) -> Self:
        """See `Distance`."""
        unit = _unit(features.astype(np.float64))
        means = np.stack([unit[labels == label].mean(0) for label in np.unique(labels)])
        return cls(layers, means.astype(np.float32))

    def scaled(self, factor: float) -> Self:
        """See `Distance`."""
        return replace(self, factor=self.factor * factor)

    @property
    def _linear(self) -> tuple[Floats, Floats]:
        # |x - m|² = 1 - 2 x·m + |m|²; the 1 is the same for all.
        lengths = np.square(self.means).sum(1)
        return (-2 * self.factor * self.means.T).astype(np.float32), (self.factor * lengths).astype(np.float32)

    def measure(self, features: Floats) -> Floats:
        """See `Distance`."""
        weights, lengths = self._linear
        distances: Floats = (_unit(features) @ weights + lengths).min(1)
        return distances

    def write(self, writer: Writer, features: str, name: str) -> str:
        """See `Distance`."""
        weights, lengths = self._linear
        length = writer.add("ReduceL2", (features, writer.row), f"{name}_length", keepdims=1)
        length = writer.add("Max", (length, writer.constant("tiny", np.float32(_TINY))), f"{name}_positive")
        unit = writer.add("Div", (features, length), f"{name}_unit")
        constants = writer.constant(f"{name}_means", weights), writer.constant(f"{name}_lengths", lengths)
        each = writer.add("Gemm", (unit, *constants), f"{name}_each")
        return writer.add("ReduceMin", (each, writer.row), f"{name}_nearest", keepdims=1)


@dataclass(frozen=True, slots=True)
class Mahalanobis:
    """The squared Mahalanobis distance to the mean of all items, with a covariance that is shrunk a little.

    Attributes:
        layers: tensors of the graph that are joined to features.
        whitening: makes the covariance of features the identity, shape (features, features).
        centre: the mean after that, shape (features,).
    """

    layers: tuple[str, ...]
    whitening: Floats
    centre: Floats

    @classmethod
    def fit(cls, layers: tuple[str, ...], features: Floats, labels: Labels) -> Self:  # noqa: ARG003
        """See `Distance`; labels do not matter."""
        points = features.astype(np.float64)
        mean = points.mean(0)
        covariance = (points - mean).T @ (points - mean) / len(points)
        scale = max(np.trace(covariance) / len(covariance), _TINY)
        covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * scale * np.eye(len(covariance))
        whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(layers, whitening.astype(np.float32), (mean @ whitening).astype(np.float32))

    def scaled(self, factor: float) -> Self:
        """See `Distance`."""
        root = np.float32(np.sqrt(factor))
        return replace(self, whitening=self.whitening * root, centre=self.centre * root)

    def measure(self, features: Floats) -> Floats:
        """See `Distance`."""
        distances: Floats = np.square(features @ self.whitening - self.centre).sum(1)
        return distances

    def write(self, writer: Writer, features: str, name: str) -> str:
        """See `Distance`."""
        constants = (
            writer.constant(f"{name}_whitening", self.whitening),
            writer.constant(f"{name}_centre", -self.centre),
        )
        white = writer.add("Gemm", (features, *constants), f"{name}_white")
        return writer.add("ReduceSumSquare", (white, writer.row), f"{name}_square", keepdims=1)


@dataclass(frozen=True, slots=True)
class Method:
    """How it is measured how unlike the training data an item is.

    Attributes:
        words: for people, in a line.
        chosen_on: the data that the method was chosen on, for people, in a line.
        distances: each with what finds the layers whose features it is measured in; of several, each divided by its
            standard deviation over the training items, the sum counts.
    """

    words: str
    chosen_on: str
    distances: tuple[tuple[type[Distance], Find], ...]

    def layers(self, model: onnx.ModelProto) -> list[tuple[str, ...]]:
        """The layers of each distance."""
        return [find(model) for _, find in self.distances]

    def fit(self, layers: Sequence[tuple[str, ...]], features: Sequence[Floats], labels: Labels) -> list[Distance]:
        """The distances, by the features of training items.

        Args:
            layers: of each distance.
            features: likewise, each of shape (n, features).
            labels: class indices, shape (n,); all alike where there are no classes.
        """
        kinds = [kind for kind, _ in self.distances]
        fitted = [kind.fit(names, own, labels) for kind, names, own in zip(kinds, layers, features, strict=True)]
        if len(fitted) == 1:
            return fitted
        spreads = [float(one.measure(own).std()) for one, own in zip(fitted, features, strict=True)]
        return [one.scaled(1 / max(spread, _TINY)) for one, spread in zip(fitted, spreads, strict=True)]


@dataclass(frozen=True, slots=True)
class Parts:
    """A model's data, as its familiarity is fitted and measured on them; only `run` needs to know what items are.

    Attributes:
        method: how it is measured how unlike the training data an item is.
        train: items that the network learned from.
        labels: their class indices, shape (n,); all alike where there are no classes.
        held_out: distinct items that the p-values are calibrated on, from the calibration half of
            validation.
        test: items of the test split.
        foreign: items that the model is not for, by what they are.
        run: what a graph answers to items, in their order: an array for each output.
        uses: the record of `train` and `held_out`.
    """

    method: Method
    train: Any
    labels: Labels
    held_out: Any
    test: Any
    foreign: Mapping[str, Any]
    run: Callable[[Path, Any], list[Array]]
    uses: tuple[Use, ...]


def measure(distances: Sequence[Distance], features: Sequence[Floats]) -> Floats:
    """The sum of the distances of items, shape (n,), given their features for each."""
    total: Floats = np.sum([one.measure(own) for one, own in zip(distances, features, strict=True)], axis=0)
    return total


def p_values(distances: Floats, held_out: Floats) -> npt.NDArray[np.float64]:
    """The share of held-out items that are at least as far, the item itself included.

    Args:
        distances: of items, shape (n,).
        held_out: distances of the held-out items, shape (m,).
    """
    farther = len(held_out) - np.searchsorted(np.sort(held_out), distances)
    return (1 + farther) / (len(held_out) + 1)


def cross_fitted(held_out: Floats) -> npt.NDArray[np.float64]:
    """The p-value of each held-out item, by the held-out items of other folds."""
    told = np.ones(len(held_out))
    for others, fold in cross_fitting(len(held_out)):
        told[fold] = p_values(held_out[fold], held_out[others])
    return told


def without(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without its familiarity; the order of everything else is kept."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for field in (bare.graph.node, bare.graph.initializer, bare.graph.output, bare.graph.value_info):
        kept = [item for item in field if not (item.name.startswith(PREFIX) or item.name == UNFAMILIAR)]
        if len(kept) < len(field):
            del field[:]
            field.extend(kept)
    return bare


def remove(path: Path, target: Path) -> None:
    """Writes the graph at `path` to `target` without its familiarity."""
    onnx.save(without(onnx.load(path)), target)


def write_features(path: Path, layers: Sequence[tuple[str, ...]], target: Path) -> None:
    """Writes the graph at `path` to `target` with nothing but features for outputs, one for each of the `layers`."""
    model = without(onnx.load(path))
    writer = Writer(model)
    answer_with(model, [writer.features(each, f"features_{index}") for index, each in enumerate(layers)])
    onnx.save(model, target)


def append(path: Path, distances: Sequence[Distance], held_out: Floats) -> None:
    """Has the graph at `path` tell how unlike its training data an item is, in place of what it told before.

    Args:
        path: of the graph, which is changed; what is in it already keeps its place.
        distances: that are summed.
        held_out: the sums for items that neither trained the network nor chose anything, shape (n,).
    """
    model = without(onnx.load(path))
    writer = Writer(model)
    total = ""
    for index, distance in enumerate(distances):
        features = writer.features(distance.layers, f"features_{index}")
        own = distance.write(writer, features, f"distance_{index}")
        total = writer.add("Add", (total, own), f"sum_{index}") if total else own
    # The item itself is one that is as far: a held-out item that always counts stands for it.
    everything = np.sort(np.append(held_out, np.finfo(np.float32).max).astype(np.float32))[None]
    farther = writer.add("LessOrEqual", (total, writer.constant("held_out", everything)), "farther")
    counted = writer.add("Cast", (farther,), "counted", to=TensorProto.FLOAT)
    writer.answer(writer.add("ReduceMean", (counted, writer.row), UNFAMILIAR, keepdims=0), ["batch"])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _unit(features: npt.NDArray[Any]) -> npt.NDArray[Any]:
    unit: npt.NDArray[Any] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _TINY)
    return unit
