"""Composing a graph: nodes before and after it, and other inputs and outputs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from quartet.adopt.graph import Array, nodes, open_session

_OWN = ("", "ai.onnx")


def element_of(dtype: str) -> int:
    """ONNX's number of a dtype of NumPy, as `Cast` takes it."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class Composition:
    """A copy of a graph to which nodes of ONNX's own operators are added, in the opset of the graph.

    Args:
        model: the graph; it is not changed.

    Attributes:
        opset: the version of ONNX's own operators.
    """

    def __init__(self, model: ModelProto) -> None:
        self._model = ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        self._taken = {name for node in nodes(graph) for name in (*node.input, *node.output)}
        self._taken |= {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
        self._before: list[NodeProto] = []
        self._after: list[NodeProto] = []
        versions = [each.version for each in model.opset_import if each.domain in _OWN]
        self.opset: int = max(versions, default=13)
        if not versions:
            self._model.opset_import.append(helper.make_opsetid("", self.opset))

    def name(self, *wanted: str) -> str:
        """The first of these names that is free, or the last one with a number."""
        numbered = (f"{wanted[-1]}_{number}" for number in range(2, len(self._taken) + 3))
        name = next(name for name in (*wanted, *numbered) if name not in self._taken)
        self._taken.add(name)
        return name

    def constant(self, value: Any) -> str:
        """The name of an initializer with this array or these strings."""
        array, name = np.asarray(value), self.name("constant")
        if array.dtype.kind in "OU":
            words: Any = [str(word).encode() for word in array.flat]
            tensor = helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(np.dtype(object)), array.shape, words)
        else:
            tensor = numpy_helper.from_array(array, name)
        self._model.graph.initializer.append(tensor)
        return name

    def before(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Adds a node that runs before the graph's own; returns the name of its output."""
        return self._add(self._before, operator, inputs, output, attributes)

    def after(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Adds a node that runs after the graph's own; returns the name of its output."""
        return self._add(self._after, operator, inputs, output, attributes)

    def _add(
        self, added: list[NodeProto], operator: str, inputs: Sequence[str], output: str | None, attributes: Any
    ) -> str:
        name = output or self.name(operator.lower())
        added.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def finish(self, inputs: Iterable[ValueInfoProto], outputs: Iterable[ValueInfoProto]) -> ModelProto:
        """The composed graph; inputs of the original have to be outputs of nodes before it."""
        graph = self._model.graph
        every = [*self._before, *graph.node, *self._after]
        for field, values in ((graph.node, every), (graph.input, inputs), (graph.output, outputs)):
            kept = list(values)
            del field[:]
            field.extend(kept)
        # Sizes that were inferred for other inputs.
        del graph.value_info[:]
        return self._model


def row_runner(model: ModelProto, file: str) -> Callable[[Array], list[Array]]:
    """Runs a composed graph with any number of rows: together, or one by one where it fails with several.

    Args:
        model: has one input, whose first axis is the row.
        file: the name of the file, for errors.
    """
    session, name = open_session(model, file), model.graph.input[0].name

    def run(rows: Array) -> list[Array]:
        try:
            return list(session.run({name: rows}))
        except Exception:  # the runtime's exceptions share no public base class
            if len(rows) == 1:
                raise
        every = [session.run({name: rows[index : index + 1]}) for index in range(len(rows))]
        return [np.concatenate(arrays) for arrays in zip(*every, strict=True)]

    return run
