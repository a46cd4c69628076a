"""Inputs to try a graph with: given in a file, or random within a stated range."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from quartet.adopt.graph import Array, CannotAdopt, RunFailed, Value
from quartet.console import did_you_mean

# Calls that are drawn, or taken from a file.
CALLS = 8
_MOST_CALLS = 64
# Of a call; a request of that size would not be accepted either.
_MOST_VALUES = 2**26
# Sizes of open axes, in the order in which they are tried: networks of images need multiples of 32.
_SIZES = (64, 16, 8, 4, 2, 1, 128, 224, 256, 512)
# The batch, if the first axis is one.
_FIRST = 2
# Ranges of integers without a known one, in the order in which they are tried.
_INTEGERS = ((0, 255), (0, 9), (0, 1), (1, 1))
_SEED = 0

Ranges = Mapping[str, tuple[float, float]]
Call = dict[str, Array]
Run = Callable[[Call], Sequence[Array]]


@dataclass(frozen=True)
class Samples:
    """Inputs of a graph.

    Attributes:
        calls: each has an array for every input, by name, as the graph takes it; strings have the dtype `str`.
        kind: where they come from.
    """

    calls: tuple[Call, ...]
    kind: Literal["given", "random"]

    @classmethod
    def of_rows(cls, rows: Mapping[str, Array], kind: Literal["given", "random"]) -> "Samples":
        """Samples of one row each, from arrays whose first axis is the item."""
        count = len(next(iter(rows.values())))
        calls = ({name: array[row : row + 1] for name, array in rows.items()} for row in range(count))
        return cls(tuple(calls), kind)

    def rows(self, least: int, most: int) -> Call:
        """The rows of all calls along the first axis; too few are filled up with rows whose values are shuffled."""
        rows = {name: np.concatenate([call[name] for call in self.calls])[:most] for name in self.calls[0]}
        count = len(next(iter(rows.values())))
        if count >= least or not count:
            return rows
        random = np.random.default_rng(_SEED)
        more = [array[np.arange(least - count) % count].copy() for array in rows.values()]
        for array in more:
            for row in array.reshape(len(array), -1):
                random.shuffle(row)
        return {name: np.concatenate([array, extra]) for (name, array), extra in zip(rows.items(), more, strict=True)}


def read(path: Path, inputs: Sequence[Value]) -> Samples:
    """Reads samples from an npz file with an array for each input, by name.

    An array is what the graph takes in a call; with one more axis in front it is several calls. Where the graph states
    the size of the first axis, an array may have a multiple of it.

    Raises:
        CannotAdopt: the file cannot be read, or does not fit the inputs.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy and zipfile raise many kinds
        raise CannotAdopt("samples", f"{path} cannot be read as npz: {error}") from None
    names = [value.name for value in inputs]
    for name in arrays:
        if name not in names:
            raise CannotAdopt(
                "samples", f"{path}: the graph has no input {name!r}{did_you_mean(name, names, 'it has')}"
            )
    if missing := [name for name in names if name not in arrays]:
        raise CannotAdopt("samples", f"{path}: has no array for the input {missing[0]!r}.")
    split = {value.name: _split(value, _cast(value, arrays[value.name])) for value in inputs}
    counts = {name: len(calls) for name, calls in split.items()}
    if len(set(counts.values())) > 1:
        stated = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise CannotAdopt("samples", f"{path}: the inputs have different numbers of calls: {stated}.")
    count = next(iter(counts.values()))
    calls = tuple({name: split[name][index] for name in names} for index in range(min(count, _MOST_CALLS)))
    return Samples(calls, "given")


def check(samples: Samples, inputs: Sequence[Value], ranges: Ranges, longest: int) -> None:
    """Raises CannotAdopt if samples have values or sizes that clients may not send."""
    for call, (name, _, shape) in itertools.product(samples.calls, inputs):
        array = call[name]
        least, greatest = ranges.get(name, (-np.inf, np.inf))
        if array.dtype.kind in "iuf" and ((array < least) | (array > greatest)).any():
            raise CannotAdopt(
                "samples",
                f"The samples of {name!r} have values outside of {least:g} to {greatest:g}; state others with --range.",
            )
        axes = zip(array.shape, shape or (), strict=True)
        if any(size > longest for size, stated in axes if isinstance(stated, str)):
            raise CannotAdopt(
                "samples", f"The samples of {name!r} are up to {max(array.shape)} long: raise --max-length."
            )


def draw(inputs: Sequence[Value], ranges: Ranges, run: Run, longest: int) -> Samples:
    """Random samples that the graph can run.

    Numbers lie in the range of their input; without one, floats from 0 to 1, integers from 0 to 255, or less if the
    graph does not take that; strings are of digits. Open axes have the first size with which the graph runs.

    Args:
        inputs: of the graph.
        ranges: least and greatest value, by input.
        run: runs the graph.
        longest: the largest size of an open axis.

    Raises:
        CannotAdopt: the graph fails with all of them.
    """
    failure = "it was not run"
    accepted: list[Call] = []
    for sizes, integers in _attempts(inputs, ranges, longest):
        random = np.random.default_rng(_SEED)
        calls = [
            {value.name: _random(value, sizes, ranges.get(value.name), integers, random) for value in inputs}
            for _ in range(CALLS)
        ]
        try:
            answers = [run(call) for call in calls]
        except RunFailed as error:
            failure = str(error)
            continue
        if all(np.isfinite(array).all() for answer in answers for array in answer if array.dtype.kind == "f"):
            return Samples(tuple(calls), "random")
        accepted = accepted or calls
    if accepted:
        return Samples(tuple(accepted), "random")
    raise CannotAdopt(
        "random inputs",
        "The graph fails with random inputs; give it real ones with --samples FILE.npz, or ranges with --range "
        f"NAME=LOW:HIGH. ONNX Runtime says: {failure}",
    )


def _attempts(
    inputs: Sequence[Value], ranges: Ranges, longest: int
) -> Iterator[tuple[Callable[[int, str], int], tuple[int, int]]]:
    """Sizes of open axes, given axis and name, and ranges of integers: what is tried, in this order."""
    axes = [(axis, size) for value in inputs for axis, size in enumerate(value.shape or ()) if isinstance(size, str)]
    rest = any(axis for axis, _ in axes)
    free = any(value.dtype[:3] in ("int", "uin") and value.name not in ranges for value in inputs)
    first = {name for axis, name in axes if axis == 0}

    def sizes(size: int, batch: int) -> Callable[[int, str], int]:
        return lambda axis, name: batch if axis == 0 or name in first else size

    every = [size for size in _SIZES if size <= longest]
    # A first axis that is no batch, such as time, may have to be longer.
    tried = [sizes(size, _FIRST) for size in (every if rest else every[:1])]
    tried += [sizes(size, size) for size in every] if first else []
    tried += [sizes(size, 1) for size in every] if first and rest else []
    return itertools.product(tried, _INTEGERS if free else _INTEGERS[:1])


def _random(
    value: Value,
    sizes: Callable[[int, str], int],
    bounds: tuple[float, float] | None,
    integers: tuple[int, int],
    random: np.random.Generator,
) -> Array:
    shape = tuple(sizes(axis, size) if isinstance(size, str) else size for axis, size in enumerate(value.shape or ()))
    if np.prod(shape, dtype=np.float64) > _MOST_VALUES:
        raise CannotAdopt(
            "too large",
            f"The input {value.name!r} has {np.prod(shape, dtype=np.float64):.2g} values: too many to serve.",
        )
    if value.dtype == "str":
        return np.asarray(random.integers(0, 100, shape)).astype(np.str_)
    if value.dtype == "bool":
        return np.asarray(random.random(shape) < 0.5)
    dtype = np.dtype(value.dtype)
    if dtype.kind == "f":
        least, greatest = bounds or (0, 1)
        return np.asarray(least + (greatest - least) * random.random(shape)).astype(dtype)
    limits = np.iinfo(dtype)
    least, greatest = bounds or ((limits.min, limits.max) if dtype.itemsize == 1 else integers)
    return np.asarray(random.integers(int(least), int(greatest), shape, dtype=dtype, endpoint=True))


def _cast(value: Value, array: Array) -> Array:
    """An array with the dtype of an input."""
    if value.dtype == "str":
        if array.dtype.kind == "U":
            return array
    elif array.dtype.kind in "biuf":
        dtype = np.dtype(value.dtype)
        if array.dtype == dtype:
            return array
        if np.can_cast(array.dtype, dtype, "same_kind"):
            with np.errstate(over="ignore"):
                cast = array.astype(dtype)
            if dtype.kind == "f" or (cast == array).all():
                return cast
    raise CannotAdopt("samples", f"The samples of {value.name!r} are {array.dtype}; the graph takes {value.dtype}.")


def _split(value: Value, array: Array) -> list[Array]:
    """The calls in an array."""
    shape = value.shape or ()
    if array.ndim == len(shape) + 1:
        calls = list(array)
    elif array.ndim == len(shape) and shape and isinstance(shape[0], int) and shape[0] and not len(array) % shape[0]:
        calls = np.split(array, max(1, len(array) // shape[0]))
    else:
        calls = [array]
    shown = list(array.shape)
    for call in calls[:1]:
        if call.ndim != len(shape) or any(
            isinstance(wanted, int) and size != wanted for size, wanted in zip(call.shape, shape, strict=True)
        ):
            raise CannotAdopt(
                "samples", f"The samples of {value.name!r} have the shape {shown}; the graph takes {list(shape)}."
            )
    if not calls:
        raise CannotAdopt("samples", f"The samples of {value.name!r} are empty.")
    return [np.asarray(call) for call in calls]
