"""From items to the arrays that a graph takes, and back."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from service.inference.cards import ManifestBase
from service.inference.rows import Rows
from service.inference.scheduler import Run
from service.inference.session import Session
from service.inference.shapes import Array


def runner(session: Session, manifest: ManifestBase) -> Run:
    """The function that runs a batch of a version's items in a session."""
    stack: Callable[..., list[tuple[Array, ...]]] = run_batch
    if not manifest.batched:
        stack = run_each
    elif any(-1 in spec.shape[1:] for spec in manifest.inputs):
        stack = partial(run_ragged, lengths=session.lengths) if manifest.pads else run_alike
    return partial(stack, session.run, tuple(session.inputs))


def run_each(
    run: Callable[[Mapping[str, Array]], list[Array]], names: tuple[str, ...], items: Sequence[Any]
) -> list[tuple[Array, ...]]:
    """Runs items one at a time, each of which is the whole inputs of a graph without batches; see `run_batch`."""
    inputs = items if len(names) > 1 else [(item,) for item in items]
    # The runtime takes no NumPy scalars.
    return [tuple(run({name: np.asarray(each) for name, each in zip(names, arrays, strict=True)})) for arrays in inputs]


def run_alike(
    run: Callable[[Mapping[str, Array]], list[Array]], names: tuple[str, ...], items: Sequence[Any]
) -> list[tuple[Array, ...]]:
    """Like `run_batch`, for items of different shapes, of which those of the same shapes run together."""
    if isinstance(items, Rows):
        return run_batch(run, names, items)
    groups: dict[Any, list[int]] = {}
    for index, item in enumerate(items):
        shapes = tuple(np.shape(array) for array in item) if len(names) > 1 else np.shape(item)
        groups.setdefault(shapes, []).append(index)
    results: list[tuple[Array, ...]] = [()] * len(items)
    for indices in groups.values():
        for index, row in zip(indices, run_batch(run, names, [items[index] for index in indices]), strict=True):
            results[index] = row
    return results


def run_batch(
    run: Callable[[Mapping[str, Array]], list[Array]], names: tuple[str, ...], items: Sequence[Any]
) -> list[tuple[Array, ...]]:
    """Stacks items along a new first axis, runs them, and splits the outputs again.

    Args:
        run: takes the named inputs, returns the outputs.
        names: of the inputs.
        items: each an array, or a tuple of one per input. `Rows` are stacked already.

    Returns:
        For each item one row of every output.
    """
    if isinstance(items, Rows):
        # Tensors from a body begin anywhere in it, and not where the processor can load their numbers.
        arrays = [array if array.flags.aligned else array.copy() for array in items.arrays]
    else:
        columns = zip(*items, strict=True) if len(names) > 1 else (items,)
        arrays = [np.stack(column) for column in columns]
    return list(zip(*run(dict(zip(names, arrays, strict=True))), strict=True))


def run_ragged(
    run: Callable[[Mapping[str, Array]], list[Array]],
    names: tuple[str, ...],
    items: Sequence[Any],
    lengths: tuple[int, ...] = (),
) -> list[tuple[Array, ...]]:
    """Like `run_batch`, for items of different lengths on their first axis and a model that ignores zeros at the end.

    Items of similar length run together, so that a long one does not pad all others to its length. With fixed
    `lengths`, items that are padded to the same one run together.
    """
    if isinstance(items, Rows):
        return run_batch(run, names, items)
    order = sorted(range(len(items)), key=lambda index: len(items[index]))
    results: list[tuple[Array, ...]] = [()] * len(items)
    start = 0
    while start < len(order):
        shortest = len(items[order[start]])
        # Padding this far costs about as much as another run would.
        most = next((length for length in lengths if length >= shortest), shortest * 1.5 + 16)
        group = [index for index in order[start:] if len(items[index]) <= most]
        longest = len(items[group[-1]])
        stacked = np.zeros((len(group), longest, *items[group[0]].shape[1:]), dtype=items[group[0]].dtype)
        for row, index in enumerate(group):
            stacked[row, : len(items[index])] = items[index]
        for index, row_outputs in zip(group, zip(*run({names[0]: stacked}), strict=True), strict=True):
            results[index] = row_outputs
        start += len(group)
    return results
