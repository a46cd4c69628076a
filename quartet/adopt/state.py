"""Graphs that carry state from call to call: an output is the next value of an input."""

import re

from onnx import ModelProto

from quartet.adopt.graph import CannotAdopt, Value, inputs_of, nodes, outputs_of

_WORDS = {"state", "hidden", "cell", "h", "c", "cache", "past", "present", "kv", "memory", "lstm", "gru", "rnn"}
# Words that only tell which of the two values a tensor is.
_MOMENTS = {"in", "out", "input", "output", "next", "new", "prev", "previous", "past", "present", "initial", "final"}
_MOMENTS |= {"old", "n", "y"}
_RECURRENT = {"RNN", "GRU", "LSTM"}


def refuse_state(model: ModelProto) -> None:
    """Raises CannotAdopt if an output is the next value of an input."""
    if not (pairs := find_state(model)):
        return
    stated = ", ".join(f"{before} → {after}" for before, after in pairs[:4])
    raise CannotAdopt(
        "state",
        f"The graph carries state from call to call ({stated}), and the service keeps none between calls. With "
        "--explicit-state clients send the state with each call, and read its next value from the answer.",
    )


def find_state(model: ModelProto) -> list[tuple[str, str]]:
    """Pairs of an input and the output that is its next value: by their names, or as a recurrent node's state."""
    inputs, outputs = inputs_of(model), outputs_of(model)
    pairs = [
        (before.name, after.name)
        for before in inputs
        for after in outputs
        if _is_state(before.name, after.name) and _may_be_next(before, after)
    ]
    names, results = {value.name for value in inputs}, {value.name for value in outputs}
    for node in nodes(model.graph):
        if node.op_type in _RECURRENT:
            # Inputs 5 and 6 are the initial states, outputs 1 and 2 the final ones.
            every = zip(node.input[5:7], node.output[1:3], strict=False)
            pairs += [(before, after) for before, after in every if before in names and after in results]
    return list(dict.fromkeys(pairs))


def _is_state(before: str, after: str) -> bool:
    one, two = _words(before), _words(after)
    if not _WORDS & {*one, *two}:
        return False
    return [word for word in one if word not in _MOMENTS] == [word for word in two if word not in _MOMENTS]


def _words(name: str) -> list[str]:
    """The words of a name: `stateN` is state, n; `hn` is h, n; `h0` is h, 0."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name.replace("past_key_values", "past"))
    words = [part.lower() for part in parts]
    return [word for each in words for word in ((each[0], "n") if each in ("hn", "cn") else (each,))]


def _may_be_next(before: Value, after: Value) -> bool:
    """Whether an output could be sent as the input of the next call."""
    if before.dtype != after.dtype:
        return False
    if before.shape is None or after.shape is None:
        return True
    return len(before.shape) == len(after.shape) and all(
        one == two or isinstance(one, str) or isinstance(two, str)
        for one, two in zip(before.shape, after.shape, strict=True)
    )
