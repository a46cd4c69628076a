"""What a graph of scikit-learn tells about the columns that it takes: words, and the size of numbers.

The columns of the inputs are followed through the operators with which skl2onnx takes tables apart and joins them. The
operators that encode a category hold its words, a scaler knows where values lie and how far apart, and the thresholds
of trees lie where the values do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
        centre: that a scaler subtracts.
        spread: that a scaler divides by.
        imputed: the number that replaces a missing one.
        thresholds: that trees compare it with.
        nullable: whether the graph does something about a missing number.
    """

    words: dict[Word, None] = field(default_factory=dict)
    closed: bool = False
    text: bool = False
    missing: str | None = None
    centre: float | None = None
    spread: float | None = None
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
    facts = [Facts() for columns in inputs.values() for _ in columns]
    constants = constants_of(model.graph)
    origins: dict[str, _Origin] = {name: tuple(map(_Source, columns)) for name, columns in inputs.items()}
    for node in model.graph.node:
        given = tuple(origins.get(name) for name in node.input)
        if any(given) and node.op_type in _STEPS:
            found = _STEPS[node.op_type](_Step(node, given, constants, facts))
            origins |= zip(node.output, found, strict=False)
    return facts


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


@dataclass(frozen=True)
class _Step:
    """A node on the way.

    Attributes:
        node: of the graph.
        given: the columns of its inputs.
        constants: of the graph.
        facts: about the columns, which steps add to.
    """

    node: NodeProto
    given: tuple[_Origin, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    facts: Sequence[Facts]

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Of the node."""
        return attributes_of(self.node)

    @property
    def width(self) -> int:
        """The number of columns of the first input; 0 if it is unknown."""
        return len(self.given[0] or ())

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """An input that is a constant."""
        return self.constants.get(self.node.input[index]) if len(self.node.input) > index else None

    def columns(self, index: int = 0) -> Iterator[tuple[int, Facts, _Source]]:
        """The columns of an input that are those of the graph, with their place."""
        for place, source in enumerate(self.given[index] or ()):
            if source:
                yield place, self.facts[source.column], source


def _keep(step: _Step) -> list[_Origin]:
    return [step.given[0]]


def _reshape(step: _Step) -> list[_Origin]:
    shape = step.constant(1)
    keeps = step.width == 1 or (shape is not None and shape.size > 0 and shape.flat[-1] == step.width)
    return [step.given[0] if keeps else None]


def _choose(step: _Step) -> list[_Origin]:
    return [step.given[2] or step.given[1]]


def _join(step: _Step) -> list[_Origin]:
    joined: list[_Source | None] = []
    for origin in step.given:
        if origin is None:
            return [None]
        joined += origin
    return [tuple(joined)]


def _pick(step: _Step) -> list[_Origin]:
    indices, origin = step.constant(1), step.given[0]
    of_rows = step.node.op_type == "Gather" and step.attributes.get("axis", 0) == 0
    if origin is None or indices is None or of_rows:
        return [None]
    return [tuple(origin[index] for index in indices.flatten().tolist())]


def _split(step: _Step) -> list[_Origin]:
    origin, stated, count = step.given[0] or (), step.constant(1), len(step.node.output)
    if step.attributes.get("axis", 0) == 0:
        return []
    sizes = step.attributes.get("split") or ([len(origin) // count] * count if stated is None else stated.tolist())
    ends = np.cumsum(sizes).tolist()
    return [origin[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _impute(step: _Step) -> list[_Origin]:
    values = step.attributes.get("imputed_value_floats") or step.attributes.get("imputed_value_int64s") or []
    for place, facts, source in step.columns():
        facts.nullable = True
        if values:
            facts.imputed = float(values[place % len(values)]) / source.scale + source.offset
    return [step.given[0]]


def _find_missing(step: _Step) -> list[_Origin]:
    for _, facts, _ in step.columns():
        facts.nullable = True
    return [None]


def _scale(step: _Step) -> list[_Origin]:
    return [_scaled(step, step.attributes.get("offset", [0.0]), step.attributes.get("scale", [1.0]))]


def _calculate(step: _Step) -> list[_Origin]:
    """A number for each column, or one for all, that is added, subtracted, multiplied with or divided by."""
    constant = step.constant(1)
    if constant is None or constant.dtype.kind not in "fiu" or constant.size not in (1, step.width):
        return [None]
    numbers = constant.flatten().astype(np.float64)
    operator = step.node.op_type
    if operator in ("Add", "Sub"):
        return [_scaled(step, (-numbers if operator == "Add" else numbers).tolist(), [1.0])]
    if not numbers.all():
        return [None]
    return [_scaled(step, [0.0], (numbers if operator == "Mul" else 1 / numbers).tolist())]


def _scaled(step: _Step, offsets: Sequence[float], scales: Sequence[float]) -> _Origin:
    scaled = list(step.given[0] or ())
    for place, facts, source in step.columns():
        offset, scale = (float(values[place % len(values)]) for values in (offsets, scales))
        if not scale:
            scaled[place] = None
            continue
        found = scaled[place] = _Source(source.column, source.offset + offset / source.scale, source.scale * scale)
        if found.offset:
            facts.centre = found.offset
        if found.scale != 1:
            facts.spread = abs(1 / found.scale)
    return tuple(scaled)


def _encode(step: _Step) -> list[_Origin]:
    words = next((list(step.attributes[name]) for name in _WORDS if name in step.attributes), [])
    one_hot = step.node.op_type == "OneHotEncoder"
    if one_hot:
        closed = not step.attributes.get("zeros", 1)
    else:
        # Without a default in scikit-learn, another word is an error there.
        closed = not any(name.startswith("default") for name in step.attributes)
    for _, facts, _ in step.columns():
        _add_words(facts, words)
        facts.closed |= closed
    return [(None,) * (step.width * len(words) if one_hot else step.width)]


def _equal(step: _Step) -> list[_Origin]:
    for index, other in ((0, 1), (1, 0)):
        constant = step.constant(other)
        if constant is not None and constant.dtype == object:
            for _, facts, _ in step.columns(index):
                _add_words(facts, constant.flatten().tolist())
    return [None]


def _add_words(facts: Facts, words: Sequence[Word]) -> None:
    for word in words:
        if word in _MISSING:
            facts.missing = str(word)
        else:
            facts.words[word] = None


def _count_words(step: _Step) -> list[_Origin]:
    for _, facts, _ in step.columns():
        facts.text = True
    return [None]


def _compare(step: _Step) -> list[_Origin]:
    values, origin = step.attributes, step.given[0] or ()
    features = values["nodes_featureids"]
    thresholds = next((values[name] for name in _THRESHOLDS if name in values), [0.0] * len(features))
    modes = values.get("nodes_modes", [""] * len(features))
    # Where training had no missing value, exporters state the same branch for all nodes.
    nullable = any(values.get("nodes_missing_value_tracks_true", ()))
    for feature, mode, threshold in zip(features, modes, thresholds, strict=True):
        source = origin[feature] if feature < len(origin) and mode != "LEAF" else None
        if source:
            facts = step.facts[source.column]
            facts.thresholds.append(float(threshold) / source.scale + source.offset)
            facts.nullable |= nullable
    return []


# Attributes that hold words, and those that hold thresholds.
_WORDS = ("cats_strings", "cats_int64s", "keys_strings", "keys_int64s", "classes_strings", "keys_tensor")
_THRESHOLDS = ("nodes_values", "nodes_values_as_tensor", "nodes_splits")
# By operator, what becomes of the columns of its inputs: those of each output.
_STEPS: dict[str, Callable[[_Step], list[_Origin]]] = {
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Flatten", "Squeeze", "StringNormalizer", "Unsqueeze"), _keep),
    "Reshape": _reshape,
    "Where": _choose,
    **dict.fromkeys(("Concat", "FeatureVectorizer"), _join),
    **dict.fromkeys(("ArrayFeatureExtractor", "Gather"), _pick),
    "Split": _split,
    "Imputer": _impute,
    "IsNaN": _find_missing,
    "Scaler": _scale,
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), _calculate),
    **dict.fromkeys(("OneHotEncoder", "LabelEncoder"), _encode),
    "Equal": _equal,
    **dict.fromkeys(("TfIdfVectorizer", "Tokenizer", "StringSplit", "RegexFullMatch"), _count_words),
    **dict.fromkeys(("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"), _compare),
}
