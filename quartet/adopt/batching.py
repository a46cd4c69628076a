"""Whether a graph can be batched: decided by its answers, not by the names of its axes.

The first axis may be time or the channel, and a graph whose first axis is fixed may take any number of rows. So rows
alone, in batches of several sizes and in another order have to give the same answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from onnx import ModelProto

from quartet.adopt.graph import Array, CannotAdopt, Value, inputs_of, open_session, outputs_of
from quartet.adopt.samples import Call, Samples

BATCH = "batch"
# Sizes whose coincidence with a size in the graph is unlikely.
_SIZES = (2, 3, 7)
# The accepted difference, as a share of an output's largest value: kernels add in an order that depends on the size of
# the batch.
_SHARES = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}
# The largest batch that is tried has at most so many bytes of inputs and outputs.
_MOST_BYTES = 2**28


@dataclass(frozen=True)
class Batching:
    """The decision.

    Attributes:
        batched: whether the first axis of every tensor is the batch.
        most: the largest batch that was checked; 1 without batches.
        model: the graph; with `batched`, its first axes are open and called `batch`.
        why: one line.
    """

    batched: bool
    most: int
    model: ModelProto
    why: str


def decide(model: ModelProto, samples: Samples, most: int, *, rows: bool = False) -> Batching:
    """Decides by comparing answers whether a graph takes batches.

    Args:
        model: a graph, as `graph.load` gives it or as a task composed it.
        samples: inputs that it can run.
        most: the largest batch to check.
        rows: whether the first axis of every tensor is known to be the item, since a task composed the graph. Then a
            graph that cannot take several items is `batched` with `most` 1.

    Raises:
        CannotAdopt: with `rows`, the graph cannot run even a single item.
    """
    freed = _free(model)
    why = _obstacle(inputs_of(model)) or _compare(freed, samples, most)
    if isinstance(why, int):
        count = min(why, most)
        fixed = next((shape[0] for _, _, shape in inputs_of(model) if shape and isinstance(shape[0], int)), None)
        stated = f"; the file fixes the first axis at {fixed}, which is now open" if fixed is not None else ""
        sizes = ", ".join(map(str, sorted({1, *_SIZES, count})))
        return Batching(
            True, count, freed, f"yes: rows give the same answers alone, permuted and in batches of {sizes}{stated}"
        )
    if rows:
        try:
            _run(freed, samples.rows(1, 1))
        except Exception as error:  # the runtime's exceptions share no public base class
            raise CannotAdopt("invalid graph", f"The graph cannot run a single item: {error}") from None
        return Batching(True, 1, freed, f"no: {why}; it runs one item at a time")
    return Batching(False, 1, model, f"no: {why}; it is served one call at a time")


class Disagreement(NamedTuple):
    """The index of an output, and how its values differ by more than kernels do."""

    output: int
    how: str


def agree(want: Sequence[Array], got: Sequence[Array]) -> Disagreement | None:
    """How two answers differ by more than kernels do; None if they agree. NaN agrees with NaN."""
    for index, (one, other) in enumerate(zip(want, got, strict=True)):
        if one.shape != other.shape:
            return Disagreement(index, f"has the shape {list(other.shape)} instead of {list(one.shape)}")
        if one.dtype.kind != "f":
            if not np.array_equal(one, other):
                return Disagreement(index, "has other values")
            continue
        share = _SHARES[one.dtype.name]
        wide, against = one.astype(np.float64), other.astype(np.float64)
        scale = np.abs(wide[np.isfinite(wide)]).max(initial=0.0)
        if not np.allclose(wide, against, rtol=0, atol=share * scale, equal_nan=True):
            return Disagreement(index, f"differs by {np.nanmax(np.abs(wide - against)):.2g}")
    return None


def _obstacle(inputs: Sequence[Value]) -> str | None:
    """Why the first axes cannot be a batch, as they are declared."""
    sizes = {}
    for name, _, shape in inputs:
        if not shape:
            return f"the input {name} is a scalar"
        if isinstance(shape[0], int):
            sizes.setdefault(shape[0], name)
    if len(sizes) > 1:
        stated = ", ".join(f"{size} of {name}" for size, name in sizes.items())
        return f"the first axes of the inputs have different sizes ({stated})"
    return None


def _free(model: ModelProto) -> ModelProto:
    """A copy whose inputs and outputs have an open first axis."""
    copy = ModelProto()
    copy.CopyFrom(model)
    # Shapes between the nodes were inferred with the fixed size.
    del copy.graph.value_info[:]
    for value in (*copy.graph.input, *copy.graph.output):
        if len(value.type.tensor_type.shape.dim):
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    return copy


def _run(model: ModelProto, inputs: Call) -> list[Array]:
    return open_session(model, "model.onnx").run(inputs)


def _compare(model: ModelProto, samples: Samples, most: int) -> str | int:
    """Why answers of rows in a batch are not those of rows alone; the largest batch that was checked if they are."""
    rows = samples.rows(max(_SIZES), 2 * max(_SIZES))
    count = len(next(iter(rows.values())))
    session = None
    try:
        session = open_session(model, "model.onnx")
        alone = [session.run(_take(rows, [row])) for row in range(count)]
    except Exception:  # the runtime's exceptions share no public base class
        return "the graph does not run a single row" if session else "the graph does not load with an open first axis"
    names = [value.name for value in outputs_of(model)]
    for name, array in zip(names, alone[0], strict=True):
        if not array.ndim or len(array) != 1:
            return f"the first axis of the output {name} is not that of the rows"
    want = [np.concatenate(arrays) if _same_shapes(arrays) else None for arrays in zip(*alone, strict=True)]
    if any(array is None for array in want):
        return "the sizes of the outputs depend on the values of the inputs"
    whole = [array for array in want if array is not None]
    if not any(_tells_apart(array) for array in whole):
        return "its outputs are the same for all samples, so rows cannot be told apart (give others with --samples)"
    most = _bounded(rows, whole, most)
    order = np.random.default_rng(0).permutation(count)
    batches = [list(range(size)) for size in _SIZES if size <= count]
    batches += [[int(row) for row in order], [row % count for row in range(most)]]
    for batch in batches:
        try:
            got = session.run(_take(rows, batch))
        except Exception:
            return f"it fails with a batch of {len(batch)}"
        if difference := agree([array[batch] for array in whole], got):
            return f"in a batch of {len(batch)} the output {names[difference.output]} {difference.how}"
    return max(map(len, batches))


def _take(rows: Mapping[str, Array], indices: list[int]) -> Call:
    return {name: np.ascontiguousarray(array[indices]) for name, array in rows.items()}


def _same_shapes(arrays: Sequence[Array]) -> bool:
    return len({array.shape for array in arrays}) == 1


def _tells_apart(array: Array) -> bool:
    """Whether rows of an output differ, by more than kernels do."""
    return any(agree([array[:1]], [array[row : row + 1]]) is not None for row in range(1, len(array)))


def _bounded(rows: Mapping[str, Array], outputs: Sequence[Array], most: int) -> int:
    """The largest batch whose inputs and outputs are small enough."""
    per_row = sum(array[:1].nbytes for array in (*rows.values(), *outputs))
    return max(1, min(most, _MOST_BYTES // max(1, per_row)))
