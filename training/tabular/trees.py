"""Gradient boosting of scikit-learn as a module that equals it to rounding, and as one ONNX node."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from onnxscript import opset_ai_onnx_ml5
from torch import Tensor, nn

from training.tabular.boosting import ABSENT, Estimator

# Its declared types do not allow a tensor as an attribute.
op: Any = opset_ai_onnx_ml5
_LEQ, _MEMBER = 0, 6
# Numbers of a category, from the one for unknown words on.
_CODES = range(-1, 255)


@torch.library.custom_op("quartet::trees", mutates_args=())
def _trees(rows: Tensor, outputs: int) -> Tensor:
    """Stands for the trees in an export, which translates it to the operator `TreeEnsemble`."""
    raise NotImplementedError


@_trees.register_fake
def _(rows: Tensor, outputs: int) -> Tensor:
    return rows.new_empty((rows.shape[0], outputs))


@dataclass(frozen=True, slots=True)
class _Node:
    """A split: rows take the `true` branch if the feature is at most `threshold`, or among `members` if there are any.

    Branches are nodes by their index in the forest, or leaves by `-1 - index`.
    """

    feature: int
    threshold: np.float32
    members: tuple[int, ...] | None
    missing_is_true: bool
    true: int
    false: int


class Trees(nn.Module):
    """The mean of the raw predictions of several fitted models: logits, shape (batch, classes), or values (batch, 1).

    Two classes have the logits 0 and x. Rows are those that the models were fitted on: float32, NaN where a value is
    missing, and for a category the index of a word or -1.

    Args:
        models: of the same classes.
        outputs: the number of classes, or 1. Classes that the models lack have the logit `boosting.ABSENT`.
    """

    bias: Tensor

    def __init__(self, models: Sequence[Estimator], outputs: int) -> None:
        super().__init__()
        self._nodes: list[_Node] = []
        self._roots: list[int] = []
        self._leaves: list[tuple[int, float]] = []
        self.outputs, self.models = outputs, len(models)
        self.iterations = max(len(model._predictors) for model in models)
        classes = getattr(models[0], "classes_", np.arange(1))
        bias = np.full(outputs, ABSENT if len(classes) > 1 else 0.0)
        bias[classes] = 0.0
        targets = classes[1:] if len(classes) == 2 else classes
        for model in models:
            bias[targets] += model._baseline_prediction[0] / len(models)
            features = _Features.of(model)
            for iteration in model._predictors:
                for target, tree in zip(targets, iteration, strict=True):
                    self._add(tree, features, int(target), 1 / len(models))
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float32))
        for name, values in self._tables().items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Float rows (batch, columns) to raw predictions (batch, outputs)."""
        if not self._nodes:
            return self.bias.expand(rows.shape[0], -1)  # an export makes a constant of len
        if torch.compiler.is_exporting():
            return _trees(rows, self.outputs) + self.bias
        return self._walk(rows) + self.bias

    @property
    def translations(self) -> Mapping[Callable[..., Any], Callable[..., Any]]:
        """How an export writes the trees."""
        attributes = self._attributes()

        def translate(rows: Any, outputs: int) -> Any:
            return op.TreeEnsemble(rows, n_targets=outputs, **attributes)

        return {torch.ops.quartet.trees.default: translate}

    def _add(self, tree: Any, features: "_Features", target: int, share: float) -> None:
        """Appends a tree, whose leaves add to the output `target`."""
        nodes = tree.nodes
        if nodes[0]["is_leaf"]:  # nothing was worth a split, and the operator has no tree without one
            return
        # By the index in the tree.
        positions: dict[int, int] = {}
        leaves: dict[int, int] = {}
        for index, node in enumerate(nodes):
            if node["is_leaf"]:
                leaves[index] = -1 - len(self._leaves)
                self._leaves.append((target, float(node["value"]) * share))
            else:
                positions[index] = len(self._nodes) + len(positions)
        place = positions | leaves
        for index in positions:
            node = nodes[index]
            left, right = place[int(node["left"])], place[int(node["right"])]
            feature, missing = features.columns[node["feature_idx"]], bool(node["missing_go_to_left"])
            if node["is_categorical"]:
                known = features.words[node["feature_idx"]]
                bits = tree.raw_left_cat_bitsets[node["bitset_idx"]]
                goes_left = [bool(bits[code // 32] >> np.uint32(code % 32) & 1) for code in range(len(known))]
                # Other words and missing ones take the same branch, which must be the one for `false`.
                members = tuple(word for word, is_left in zip(known, goes_left, strict=True) if is_left != missing)
                branches = (right, left) if missing else (left, right)
                self._nodes.append(_Node(feature, np.float32(0), members, False, *branches))
            else:
                self._nodes.append(_Node(feature, _floor(node["num_threshold"]), None, missing, left, right))
        self._roots.append(positions[0])

    def _tables(self) -> dict[str, npt.NDArray[Any]]:
        """The trees as arrays for `_walk`; the nodes are followed by the leaves, which lead to themselves."""
        splits, leaves = len(self._nodes), len(self._leaves)
        itself = np.arange(splits, splits + leaves)

        def of_nodes(read: Callable[[_Node], Any], fill: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
            return np.concatenate((np.array([read(node) for node in self._nodes], dtype=dtype), fill.astype(dtype)))

        def place(branch: int) -> int:
            return branch if branch >= 0 else splits - 1 - branch

        members = np.zeros((max(1, sum(node.members is not None for node in self._nodes)), len(_CODES)), dtype=bool)
        numbers: Iterator[int] = iter(range(len(members)))
        sets = np.full(splits + leaves, -1)
        for index, node in enumerate(self._nodes):
            if node.members is not None:
                sets[index] = next(numbers)
                members[sets[index], np.array(node.members, np.int64) - _CODES.start] = True
        zeros = np.zeros(leaves)
        values = np.array([value for _, value in self._leaves], np.float32)
        targets = np.array([target for target, _ in self._leaves], np.int64)
        return {
            "feature": of_nodes(lambda node: node.feature, zeros, np.int64),
            "threshold": of_nodes(lambda node: node.threshold, zeros, np.float32),
            "missing": of_nodes(lambda node: node.missing_is_true, zeros, bool),
            "true": of_nodes(lambda node: place(node.true), itself, np.int64),
            "false": of_nodes(lambda node: place(node.false), itself, np.int64),
            "sets": sets,
            "members": members,
            "value": np.concatenate((np.zeros(splits, np.float32), values)),
            "target": np.concatenate((np.zeros(splits, np.int64), targets)),
            "roots": np.array(self._roots, np.int64),
        }

    def _walk(self, rows: Tensor) -> Tensor:
        """The sums of the leaves that the rows end in."""
        tables: dict[str, Tensor] = dict(self.named_buffers())
        splits, at = len(self._nodes), tables["roots"].expand(len(rows), -1)
        while bool((at < splits).any()):
            values = rows.gather(1, tables["feature"][at])
            codes = (values.nan_to_num(-2) - _CODES.start).long().clamp(-1, len(_CODES) - 1)
            member = tables["members"][tables["sets"][at].clamp_min(0), codes.clamp_min(0)] & (codes >= 0)
            number = (values <= tables["threshold"][at]) | (values.isnan() & tables["missing"][at])
            is_true = torch.where(tables["sets"][at] >= 0, member, number)
            at = torch.where(is_true, tables["true"][at], tables["false"][at])
        sums = rows.new_zeros((len(rows), self.outputs), dtype=torch.float64)
        return sums.scatter_add(1, tables["target"][at], tables["value"][at].double()).float()

    def _attributes(self) -> dict[str, Any]:
        """The trees as the attributes of `TreeEnsemble`."""
        nodes = self._nodes
        members: list[float] = []
        for node in nodes:
            if node.members is not None:
                members += [*map(float, node.members), np.nan]
        trues, falses = [node.true for node in nodes], [node.false for node in nodes]
        attributes: dict[str, Any] = {
            "nodes_featureids": [node.feature for node in nodes],
            "nodes_modes": _tensor([_LEQ if node.members is None else _MEMBER for node in nodes], np.uint8),
            "nodes_splits": _tensor([node.threshold for node in nodes], np.float32),
            "nodes_missing_value_tracks_true": [int(node.missing_is_true) for node in nodes],
            "nodes_truenodeids": [branch if branch >= 0 else -1 - branch for branch in trues],
            "nodes_falsenodeids": [branch if branch >= 0 else -1 - branch for branch in falses],
            "nodes_trueleafs": [int(branch < 0) for branch in trues],
            "nodes_falseleafs": [int(branch < 0) for branch in falses],
            "tree_roots": self._roots,
            "leaf_targetids": [target for target, _ in self._leaves],
            "leaf_weights": _tensor([value for _, value in self._leaves], np.float32),
        }
        return attributes | ({"membership_values": _tensor(members, np.float32)} if members else {})


@dataclass(frozen=True, slots=True)
class _Features:
    """What a fitted model calls its features: categories come first, and their words are renumbered.

    Attributes:
        columns: of the rows, by the model's feature.
        words: by the feature of a category the numbers in the rows, in the order of the model's.
    """

    columns: tuple[int, ...]
    words: Mapping[int, tuple[int, ...]]

    @classmethod
    def of(cls, model: Any) -> "_Features":
        if model._preprocessor is None:
            return cls(tuple(range(model.n_features_in_)), {})
        encoder = model._preprocessor.named_transformers_["encoder"]
        categories, numbers = np.flatnonzero(model.is_categorical_), np.flatnonzero(~model.is_categorical_)
        words = {
            feature: tuple(int(word) for word in known if not np.isnan(word))
            for feature, known in enumerate(encoder.categories_)
        }
        return cls((*categories.tolist(), *numbers.tolist()), words)


def _floor(threshold: float) -> np.float32:
    """The largest float32 that is not above: the same float32 numbers are at most as large."""
    rounded = np.float32(min(float(threshold), float(np.finfo(np.float32).max)))
    return rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf))


def _tensor(values: Sequence[Any], dtype: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=dtype))
