"""What a graph of scikit-learn tells about the columns that it takes: words, and the size of numbers.

The columns of the inputs are followed through the operators with which skl2onnx takes tables apart and joins them. The
operators that encode a category hold its words, a scaler holds means and standard deviations, and the thresholds of
trees lie where the values do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

Word = str | int

# How exporters write a missing text.
_MISSING = ("", "nan")


@dataclass
class Facts:
    """What the graph tells about a column.

    Attributes:
        words: that encoders know, in their order; integers where the column holds integers.
        closed: whether an encoder accepts no other word.
        text: whether it is free text, in which words are counted.
        missing: the word that stands for a missing value; None if the graph knows none.
        mean: that a scaler subtracts.
        std: that a scaler divides by.
        imputed: the number that replaces a missing one.
        thresholds: that trees compare it with.
        nullable: whether the graph does something about a missing number.
    """

    words: dict[Word, None] = field(default_factory=dict)
    closed: bool = False
    text: bool = False
    missing: str | None = None
    mean: float | None = None
    std: float | None = None
    imputed: float | None = None
    thresholds: list[float] = field(default_factory=list)
    nullable: bool = False


class _Source(NamedTuple):
    """A column of a tensor: (value of the input's column - offset) * scale."""

    column: int
    offset: float = 0.0
    scale: float = 1.0


# The columns of a tensor along its last axis: None for one that is computed. None instead of all if even their number
# is unknown.
_Origin = tuple[_Source | None, ...] | None


def facts_of(model: ModelProto, inputs: Mapping[str, Sequence[int]]) -> list[Facts]:
    """What the graph tells about each column, in their order; `inputs` has the indices of each input's columns."""
    return _Trace(model.graph, inputs).facts


def constants_of(graph: GraphProto) -> dict[str, npt.NDArray[Any]]:
    """The graph's initializers and constants, by name; strings are objects of `str`."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {name: _to_array(tensor) for name, tensor in tensors.items()}


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """A node's attributes, by name: numbers, text, lists of them, or arrays."""
    return {each.name: _plain(helper.get_attribute_value(each)) for each in node.attribute}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return _to_array(value) if hasattr(value, "data_type") else value


def _to_array(tensor: Any) -> npt.NDArray[Any]:
    array = numpy_helper.to_array(tensor)
    if array.dtype != object:
        return array
    words = [word.decode() if isinstance(word, bytes) else word for word in array.flat]
    return np.array(words, dtype=object).reshape(array.shape)


class _Trace:
    """A walk through the graph, in the order of its nodes."""

    def __init__(self, graph: GraphProto, inputs: Mapping[str, Sequence[int]]) -> None:
        self.facts = [Facts() for columns in inputs.values() for _ in columns]
        self._constants = constants_of(graph)
        self._origins: dict[str, _Origin] = {name: tuple(map(_Source, columns)) for name, columns in inputs.items()}
        for node in graph.node:
            step = _STEPS.get(node.op_type)
            given = [self._origins.get(name) for name in node.input]
            if step and any(given):
                for name, origin in zip(node.output, step(self, node, given), strict=False):
                    self._origins[name] = origin

    def _columns(self, origin: _Origin) -> list[tuple[int, Facts, _Source]]:
        """The columns of a tensor that are an input's, with their index."""
        return [(index, self.facts[each.column], each) for index, each in enumerate(origin or ()) if each]

    def _constant(self, node: NodeProto, index: int) -> npt.NDArray[Any] | None:
        return self._constants.get(node.input[index]) if len(node.input) > index else None

    def keep(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        return [given[0]]

    def reshape(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        shape = self._constant(node, 1)
        width = len(given[0] or ())
        return [given[0] if width == 1 or (shape is not None and shape.size and shape.flat[-1] == width) else None]

    def choose(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        return [given[2] or given[1]]

    def join(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        joined: list[_Source | None] = []
        for origin in given:
            if origin is None:
                return [None]
            joined += origin
        return [tuple(joined)]

    def pick(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        indices, origin = self._constant(node, 1), given[0]
        along_rows = node.op_type == "Gather" and attributes_of(node).get("axis", 0) == 0
        if origin is None or indices is None or along_rows:
            return [None]
        return [tuple(origin[index] for index in indices.flatten().tolist())]

    def split(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        origin, attributes, stated = given[0] or (), attributes_of(node), self._constant(node, 1)
        if attributes.get("axis", 0) == 0:
            return []
        equal = [len(origin) // len(node.output)] * len(node.output)
        sizes = attributes.get("split") or (equal if stated is None else stated.tolist())
        ends = np.cumsum(sizes).tolist()
        return [origin[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def impute(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        values = attributes_of(node)
        filled = values.get("imputed_value_floats") or values.get("imputed_value_int64s") or []
        for index, facts, source in self._columns(given[0]):
            facts.nullable = True
            if filled:
                facts.imputed = float(filled[index % len(filled)]) / source.scale + source.offset
        return [given[0]]

    def find_missing(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        for _, facts, _ in self._columns(given[0]):
            facts.nullable = True
        return [None]

    def scale(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        values = attributes_of(node)
        return [self._scaled(given[0], values.get("offset", [0.0]), values.get("scale", [1.0]))]

    def subtract(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        offset = self._constant(node, 1)
        return [None if offset is None or offset.size not in (1, len(given[0] or ())) else self._scaled(given[0], offset.flatten().tolist(), [1.0])]

    def divide(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        scale = self._constant(node, 1)
        if scale is None or scale.size not in (1, len(given[0] or ())) or not scale.all():
            return [None]
        return [self._scaled(given[0], [0.0], (1 / scale.flatten()).tolist())]

    def _scaled(self, origin: _Origin, offsets: Sequence[float], scales: Sequence[float]) -> _Origin:
        scaled = list(origin or ())
        for index, facts, source in self._columns(origin):
            offset, scale = (float(values[index % len(values)]) for values in (offsets, scales))
            if not scale:
                scaled[index] = None
                continue
            found = scaled[index] = _Source(source.column, source.offset + offset / source.scale, source.scale * scale)
            if found.offset:
                facts.mean = found.offset
            if found.scale != 1:
                facts.std = abs(1 / found.scale)
        return tuple(scaled)

    def encode(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        values = attributes_of(node)
        names = ("cats_strings", "cats_int64s", "keys_strings", "keys_int64s", "classes_strings", "keys_tensor")
        words = next((list(values[name]) for name in names if name in values), [])
        one_hot = node.op_type == "OneHotEncoder"
        closed = not values.get("zeros", 1) if one_hot else not any(name.startswith("default") for name in values)
        self._add(given[0], words, closed=closed and any(word != "" for word in words))
        width = len(given[0] or ())
        return [(None,) * (width * len(words) if one_hot else width)]

    def equal(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        for origin, index in zip(given, (1, 0), strict=True):
            constant = self._constant(node, index)
            if constant is not None and constant.dtype == object:
                self._add(origin, constant.flatten().tolist(), closed=False)
        return [None]

    def _add(self, origin: _Origin, words: Sequence[Word], *, closed: bool) -> None:
        for _, facts, _ in self._columns(origin):
            for word in words:
                if word in _MISSING:
                    facts.missing = str(word)
                else:
                    facts.words[word] = None
            facts.closed |= closed

    def count_words(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        for _, facts, _ in self._columns(given[0]):
            facts.text = True
        return [None]

    def compare(self, node: NodeProto, given: list[_Origin]) -> list[_Origin]:
        values, origin = attributes_of(node), given[0] or ()
        thresholds = next(
            (values[name] for name in ("nodes_values", "nodes_values_as_tensor", "nodes_splits") if name in values), ()
        )
        features = values["nodes_featureids"]
        # Without a missing value in training, exporters state the same branch for all nodes.
        nullable = any(values.get("nodes_missing_value_tracks_true", ()))
        for feature, mode, threshold in zip(
            features, values.get("nodes_modes", [""] * len(features)), thresholds, strict=True
        ):
            source = origin[feature] if feature < len(origin) and mode != "LEAF" else None
            if source:
                facts = self.facts[source.column]
                facts.thresholds.append(float(threshold) / source.scale + source.offset)
                facts.nullable |= nullable
        return []


_STEPS: dict[str, Callable[[_Trace, NodeProto, list[_Origin]], list[_Origin]]] = {
    **dict.fromkeys(("Identity", "Cast", "Flatten", "Squeeze", "StringNormalizer", "Unsqueeze"), _Trace.keep),
    "Reshape": _Trace.reshape,
    "Where": _Trace.choose,
    **dict.fromkeys(("Concat", "FeatureVectorizer"), _Trace.join),
    **dict.fromkeys(("ArrayFeatureExtractor", "Gather"), _Trace.pick),
    "Split": _Trace.split,
    "Imputer": _Trace.impute,
    "IsNaN": _Trace.find_missing,
    "Scaler": _Trace.scale,
    "Sub": _Trace.subtract,
    "Div": _Trace.divide,
    **dict.fromkeys(("OneHotEncoder", "LabelEncoder"), _Trace.encode),
    "Equal": _Trace.equal,
    **dict.fromkeys(("TfIdfVectorizer", "Tokenizer", "StringSplit", "RegexFullMatch"), _Trace.count_words),
    **dict.fromkeys(("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"), _Trace.compare),
}
