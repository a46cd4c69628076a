"""The few shapes that a graph sees on a GPU, and the padding that makes every batch one of them.

ONNX Runtime's convolutions on CUDA keep only the execution plan of the last input shape, and building one takes tens
of milliseconds: batches of changing sizes would spend their time on plans. Each shape of a small set therefore has a
session of its own, and batches are padded to the smallest shape that holds them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from service.inference.cards import ManifestBase

Array = npt.NDArray[Any]

# Batch sizes grow by this factor up to the largest; lengths shrink by the other from the longest.
_BATCH_STEP = 8
_LENGTH_STEP = 4
_LENGTHS = 3


class Shape(NamedTuple):
    """How many items a batch has, and how long the open axes of its inputs are (0 where none is open)."""

    batch: int
    length: int = 0


@dataclass(frozen=True, slots=True)
class Shapes:
    """A set of shapes.

    Attributes:
        batches: the numbers of items, ascending.
        lengths: of the open axes other than the batch axis, ascending; empty where no axis is open.
    """

    batches: tuple[int, ...]
    lengths: tuple[int, ...] = ()

    @classmethod
    def of(cls, manifest: ManifestBase, max_batch: int) -> Self | None:
        """The shapes of a model: 1, 8, 64, … and `max_batch` items; the longest input, a quarter and a sixteenth.

        None if it has no batches, or open axes that must not be padded.
        """
        is_open = any(-1 in spec.shape[1:] for spec in manifest.inputs)
        if not manifest.batched or (is_open and not manifest.pads):
            return None
        batches = {max_batch}
        size = 1
        while size < max_batch:
            batches.add(size)
            size *= _BATCH_STEP
        lengths = set()
        if is_open:
            lengths = {-(-manifest.longest // _LENGTH_STEP**power) for power in range(_LENGTHS)}
        return cls(tuple(sorted(batches)), tuple(sorted(lengths)))

    def __iter__(self) -> Iterator[Shape]:
        """Every shape, the largest first."""
        every = (Shape(batch, length) for batch in self.batches for length in self.lengths or (0,))
        return iter(sorted(every, key=lambda shape: shape.batch * max(1, shape.length), reverse=True))

    def smallest(self, count: int, length: int) -> Shape:
        """The smallest shape that holds `count` items of up to `length`, or the largest batch for more items.

        Raises:
            ValueError: they are too long.
        """
        batch = next((size for size in self.batches if size >= count), self.batches[-1])
        if not self.lengths:
            return Shape(batch)
        fitting = next((known for known in self.lengths if known >= length), None)
        if fitting is None:
            raise ValueError(f"an input is {length} long, and at most {self.lengths[-1]} are accepted")
        return Shape(batch, fitting)

    def run(
        self,
        run: Callable[[Shape, Mapping[str, Array]], list[Array]],
        inputs: Mapping[str, Array],
        open_axes: Mapping[str, tuple[int, ...]],
    ) -> list[Array]:
        """Runs a batch of any size in shapes of the set, and cuts the padding off the outputs.

        Args:
            run: runs inputs of a shape of the set; the first axis of each output is the batch.
            inputs: at least one item; zeros at the end of an open axis do not change the outputs.
            open_axes: of each input, except the batch axis.
        """
        count = len(next(iter(inputs.values())))
        length = max((array.shape[axis] for name, array in inputs.items() for axis in open_axes[name]), default=0)
        most = self.batches[-1]
        parts = []
        for start in range(0, count, most):
            rows = {name: array[start : start + most] for name, array in inputs.items()}
            taken = min(most, count - start)
            shape = self.smallest(taken, length)
            padded = {name: _pad(array, shape, open_axes[name]) for name, array in rows.items()}
            parts.append([output[:taken] for output in run(shape, padded)])
        return parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _pad(array: Array, shape: Shape, open_axes: tuple[int, ...]) -> Array:
    """An array with its last item repeated to fill the batch, and zeros at the end of the open axes."""
    target = list(array.shape)
    target[0] = shape.batch
    for axis in open_axes:
        target[axis] = shape.length
    if tuple(target) == array.shape:
        return array
    padded = np.zeros(target, array.dtype)
    padded[tuple(map(slice, array.shape))] = array
    # Not zeros, which may be out-of-distribution for the model.
    padded[len(array) :] = padded[len(array) - 1]
    return padded


def trim(array: Array, axis: int) -> Array:
    """An array without the zeros at the end of an axis that all its items share; at least a length of one is left."""
    used = np.flatnonzero(array.any(tuple(other for other in range(array.ndim) if other != axis)))
    return array[(slice(None),) * axis + (slice(used[-1] + 1 if len(used) else 1),)]
