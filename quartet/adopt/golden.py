"""Golden items of an adopted graph: the answers as ONNX defines them, and how far other ways to run it may deviate."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from onnx import ModelProto

from quartet.adopt.batching import SHARES, Batching, differ_by
from quartet.adopt.graph import Array, CannotAdopt, open_session, outputs_of
from quartet.adopt.samples import Call, Samples
from service.inference.cards import GoldenCard, ListCard
from service.inference.golden import Golden
from service.inference.manifest import MODEL

# Golden items, and the most bytes that their inputs and outputs may have.
_ROWS, _MOST_BYTES = 16, 2**25
# A tolerance is four times the largest deviation that was seen here, since another machine's kernels may deviate more,
# and at least `SHARES` of the output's largest value.
_MARGIN = 4
# Integers, booleans and strings are exact.
_EXACT = 0.5

_Answers = Sequence[Array]


class _Item(NamedTuple):
    """A golden item.

    Attributes:
        inputs: as the graph takes them.
        answers: the graph's, node by node.
        others: its answers in other numbers of threads, and in a batch.
    """

    inputs: Call
    answers: _Answers
    others: Sequence[_Answers]


def make_golden(
    model: ModelProto, samples: Samples, batching: Batching, lists: ListCard | None = None
) -> tuple[Golden, GoldenCard]:
    """Golden items and the graph's answers to each, with the deviations that are accepted.

    The answers are those of the graph as ONNX defines it, node by node without the runtime's fusions. Items whose
    integers, strings, sizes or lists depend on how the graph is run are left out.

    Args:
        model: the graph as it is served.
        samples: of which the items are taken.
        batching: how it is served.
        lists: how answers are compared; None for element by element.

    Raises:
        CannotAdopt: no item is left.
    """
    inputs = _items(samples, batching, open_session(model, MODEL).run)
    items = _run(model, inputs, batching.most)
    differ = differ_by(model, lists) if lists is not None else _differ_in_kind
    kept = [item for item in items if not any(differ(item.answers, other) for other in item.others)]
    # A file holds items of one shape.
    kept = [
        item
        for item in kept
        if all(one.shape == two.shape for one, two in zip(item.answers, kept[0].answers, strict=True))
    ]
    if not kept:
        problem = next(filter(None, (differ(item.answers, other) for item in items for other in item.others)), "")
        raise CannotAdopt(
            "unstable answers",
            f"The answers to all samples depend on how the graph is run: {problem} with other threads, in a batch, or "
            "without fusions. Give samples whose answers are clear with --samples.",
        )
    names = [value.name for value in outputs_of(model)]
    stack = np.concatenate if batching.batched else np.stack
    outputs = {name: stack([item.answers[index] for item in kept]) for index, name in enumerate(names)}
    deviations = {name: max(_deviations(kept, index)) for index, name in enumerate(names)}
    tolerances = {name: _tolerance(outputs[name], deviations[name]) for name in names}
    golden = Golden(
        {name: stack([item.inputs[name] for item in kept]) for name in kept[0].inputs},
        {name: array.astype(np.str_) if array.dtype.kind == "O" else array for name, array in outputs.items()},
    )
    card = GoldenCard(
        rows=len(kept),
        chosen_from=len(items) if len(kept) < len(items) else None,
        atol=max((lists.tolerances if lists else tolerances).values()),
        tolerances={} if lists else tolerances,
        lists=lists,
    )
    return golden, card


def _items(samples: Samples, batching: Batching, run: Callable[[Call], _Answers]) -> list[Call]:
    """As many golden items as are small enough."""
    if batching.batched:
        rows = samples.rows(2, _ROWS)
        count = len(next(iter(rows.values())))
        items = [{name: array[row : row + 1] for name, array in rows.items()} for row in range(count)]
    else:
        first = samples.calls[0]
        alike = (call for call in samples.calls if all(call[name].shape == first[name].shape for name in first))
        items = list(alike)[:_ROWS]
    size = sum(array.nbytes for array in (*items[0].values(), *run(items[0])))
    return items[: max(1, _MOST_BYTES // max(1, size))]


def _run(model: ModelProto, inputs: Sequence[Call], most: int) -> list[_Item]:
    """The answers to each item, in one thread and in several, alone and in batches of at most `most`."""
    unfused = _open_unfused(model)
    answers = [unfused(item) for item in inputs]
    others: list[list[_Answers]] = [[] for _ in inputs]
    for threads in (1, 0):
        session = open_session(model, MODEL, threads)
        for item, found in zip(inputs, others, strict=True):
            found.append(session.run(item))
        for start in range(0, len(inputs) if most > 1 else 0, most):
            part = inputs[start : start + most]
            batch = session.run({name: np.concatenate([item[name] for item in part]) for name in part[0]})
            for index in range(len(part)):
                others[start + index].append([array[index : index + 1] for array in batch])
    return [_Item(*each) for each in zip(inputs, answers, others, strict=True)]


def _open_unfused(model: ModelProto) -> Callable[[Call], _Answers]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # some operators only have kernels in a fusion
        return open_session(model, MODEL).run
    return lambda inputs: session.run(None, inputs)


def _differ_in_kind(want: _Answers, got: _Answers) -> str | None:
    """How two answers differ other than by the rounding of numbers."""
    for one, other in zip(want, got, strict=True):
        if one.shape != other.shape:
            return f"a size is {list(other.shape)} instead of {list(one.shape)}"
        if one.dtype.kind != "f":
            if not np.array_equal(one, other):
                return f"a value of {one.dtype} is another"
        elif not np.array_equal(np.isfinite(one), np.isfinite(other)):
            return "a number is NaN or infinite, or not"
    return None


def _shapes(answers: _Answers) -> list[tuple[int, ...]]:
    return [array.shape for array in answers]


def _deviations(items: Sequence[_Item], output: int) -> Iterator[float]:
    """The absolute differences of an output's numbers."""
    yield 0.0
    for item in items:
        want = item.answers[output]
        if want.dtype.kind == "f":
            finite = np.isfinite(want)
            for other in item.others:
                found = other[output][finite].astype(np.float64)
                yield float(np.abs(want[finite].astype(np.float64) - found).max(initial=0.0))


def _tolerance(answers: Array, deviation: float) -> float:
    if answers.dtype.kind != "f":
        return _EXACT
    wide = answers.astype(np.float64)
    scale = np.abs(wide[np.isfinite(wide)]).max(initial=0.0) or 1.0
    tolerance = max(_MARGIN * deviation, SHARES[answers.dtype.name] * scale)
    digit = 10.0 ** math.floor(math.log10(tolerance))
    return float(f"{math.ceil(tolerance / digit) * digit:.1g}")
