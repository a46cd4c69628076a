"""Whether a graph can be batched: decided by its answers, not by the names of its axes.

The first axis may be time or the channel, and a graph whose first axis is fixed may take any number of rows. So rows
alone, in batches of several sizes and in another order have to give the same answers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from onnx import ModelProto

from quartet.adopt.graph import Array, CannotAdopt, RunFailed, Value, inputs_of, open_session, outputs_of
from quartet.adopt.reshapes import free_reshapes, open_outputs
from quartet.adopt.samples import Call, Samples
from service.inference.cards import GoldenCard, ListCard
from service.inference.golden import compare

BATCH = "batch"
# Sizes whose coincidence with a size in the graph is unlikely.
_SIZES = (2, 3, 7)
# The accepted difference, as a share of an output's largest value: kernels add in an order that depends on the size of
# the batch.
SHARES = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}
# The largest batch that is tried has at most so many bytes of inputs and outputs, and takes about so many seconds.
_MOST_BYTES, _MOST_SECONDS = 2**28, 30

# How answers differ by more than kernels do, given those of a graph in its order; None if they agree.
Differ = Callable[[Sequence[Array], Sequence[Array]], str | None]


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


class _NotBatched(Exception):
    """Rows do not give the same answers in a batch; the message says how, and up to which size they do."""

    def __init__(self, how: str, agreed: int = 1) -> None:
        super().__init__(how + (f" (up to {agreed} rows agree: --max-batch {agreed})" if agreed > 1 else ""))


def decide(
    model: ModelProto, samples: Samples, most: int, *, rows: bool = False, lists: ListCard | None = None
) -> Batching:
    """Decides by comparing answers whether a graph takes batches.

    Args:
        model: a graph, as `graph.load` gives it or as a task composed it.
        samples: inputs that it can run.
        most: the largest batch to check.
        rows: whether the first axis of every tensor is known to be the item, since a task composed the graph. Then a
            graph that cannot take several items is `batched` with `most` 1.
        lists: how answers are compared; None for element by element.

    Raises:
        CannotAdopt: with `rows`, the graph cannot run even a single item.
    """
    differ = differ_by(model, lists)
    freed = _free(model)
    why = _obstacle(inputs_of(model), samples)
    if why is None:
        fixed = next((shape[0] for _, _, shape in inputs_of(model) if shape and isinstance(shape[0], int)), None)
        stated = "" if fixed is None else f"; the file fixes the first axis at {fixed}, which is open now"
        try:
            try:
                count = _compare(freed, samples, most, differ)
            except _NotBatched:
                if fixed is None:
                    raise
                freed = _free(free_reshapes(model))
                count = _compare(freed, samples, most, differ)
                stated += ", also in its Reshape nodes"
        except _NotBatched as problem:
            why = str(problem)
        else:
            sizes = ", ".join(map(str, sorted({1, count, *(size for size in _SIZES if size < count)})))
            return Batching(
                True, count, freed, f"yes: rows give the same answers alone, permuted, in batches of {sizes}{stated}"
            )
    if rows:
        return Batching(True, 1, _checked_alone(model, samples), f"no: {why}; it runs one item at a time")
    return Batching(False, 1, model, f"no: {why}; it is served one call at a time")


def differ_by(model: ModelProto, lists: ListCard | None) -> Differ:
    """How two answers of a graph are compared; see `decide`."""
    names = [value.name for value in outputs_of(model)]
    if lists is None:
        return partial(_differ_by_element, names)
    card = GoldenCard(rows=1, atol=max(lists.tolerances.values()), lists=lists)

    def differ(want: Sequence[Array], got: Sequence[Array]) -> str | None:
        try:
            found = compare(dict(zip(names, want, strict=True)), dict(zip(names, got, strict=True)), card)
        except ValueError as error:
            return str(error)
        return None if found.acceptable else f"output {found.output} differs by {found.value:.2g}"

    return differ


def _differ_by_element(names: Sequence[str], want: Sequence[Array], got: Sequence[Array]) -> str | None:
    for name, one, other in zip(names, want, got, strict=True):
        if one.shape != other.shape:
            return f"output {name} has the shape {list(other.shape)} instead of {list(one.shape)}"
        if one.dtype.kind != "f":
            if not np.array_equal(one, other):
                return f"output {name} has other values"
            continue
        wide, against = one.astype(np.float64), other.astype(np.float64)
        accepted = SHARES[one.dtype.name] * np.abs(wide[np.isfinite(wide)]).max(initial=0.0)
        if not np.allclose(wide, against, rtol=0, atol=accepted, equal_nan=True):
            with np.errstate(invalid="ignore"):
                return f"output {name} differs by {np.nanmax(np.abs(wide - against)):.2g}"
    return None


def _obstacle(inputs: Sequence[Value], samples: Samples) -> str | None:
    """Why the first axes cannot be a batch, as they are declared or as the samples have them."""
    sizes: dict[int, str] = {}
    for name, _, shape in inputs:
        if not shape:
            return f"the input {name} is a scalar"
        sizes.setdefault(len(samples.calls[0][name]), name)
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


def _checked_alone(model: ModelProto, samples: Samples) -> ModelProto:
    """The graph with an open first axis, after it has run a single row."""
    for freed in (_free(model), _free(free_reshapes(model))):
        try:
            session = open_session(freed, "model.onnx")
            session.run(samples.rows(1, 1))
        except (CannotAdopt, RunFailed) as error:
            failure: Exception = error
        else:
            fixed = [name for name, _, shape in session.outputs if shape and isinstance(shape[0], int)]
            return open_outputs(freed, fixed) if fixed else freed
    raise CannotAdopt("invalid graph", f"The graph cannot run a single item: {failure}")


def _compare(model: ModelProto, samples: Samples, most: int, differ: Differ) -> int:
    """The largest batch that was checked; raises _NotBatched."""
    rows = samples.rows(max(_SIZES), 2 * max(_SIZES))
    count = len(next(iter(rows.values())))
    if not count:
        raise _NotBatched("the samples have no rows")
    try:
        session = open_session(model, "model.onnx")
    except CannotAdopt:
        raise _NotBatched("the graph does not load with an open first axis") from None
    started = time.perf_counter()
    alone = _run_alone(session.run, rows, count)
    seconds = (time.perf_counter() - started) / count
    for value, array in zip(outputs_of(model), alone[0], strict=True):
        if not array.ndim or len(array) != 1:
            raise _NotBatched(f"the first axis of the output {value.name} is not that of the rows")
    if any(len({array.shape for array in arrays}) > 1 for arrays in zip(*alone, strict=True)):
        raise _NotBatched("the sizes of the outputs depend on the values of the inputs")
    want = [np.concatenate(arrays) for arrays in zip(*alone, strict=True)]
    if not any(_tells_apart(array) for array in want):
        raise _NotBatched("its outputs are the same for all samples, so rows cannot be told apart")
    per_row = sum(array[:1].nbytes for array in (*rows.values(), *want))
    bounded = min(most, _MOST_BYTES // max(1, per_row), int(_MOST_SECONDS / seconds))
    most = max(bounded, min(most, max(_SIZES)))
    order = [int(row) for row in np.random.default_rng(0).permutation(count)]
    batches = [list(range(size)) for size in _SIZES if size < most]
    batches += [order[:most], [row % count for row in range(most)]]
    agreed = 1
    for batch in batches:
        try:
            got = session.run(_take(rows, batch))
        except RunFailed:
            raise _NotBatched(f"it fails with a batch of {len(batch)}", agreed) from None
        if difference := differ([array[batch] for array in want], got):
            raise _NotBatched(f"in a batch of {len(batch)}, {difference}", agreed)
        agreed = max(agreed, len(batch))
    return most


def _run_alone(run: Callable[[Call], list[Array]], rows: Call, count: int) -> list[list[Array]]:
    try:
        return [run(_take(rows, [row])) for row in range(count)]
    except RunFailed:
        raise _NotBatched("the graph does not run a single row") from None


def _take(rows: Mapping[str, Array], indices: list[int]) -> Call:
    return {name: np.ascontiguousarray(array[indices]) for name, array in rows.items()}


def _tells_apart(array: Array) -> bool:
    """Whether rows of an output differ, by more than kernels do."""
    others = (array[row : row + 1] for row in range(1, len(array)))
    return any(_differ_by_element([""], [array[:1]], [other]) for other in others)
