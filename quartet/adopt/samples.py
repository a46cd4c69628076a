"""Inputs to try a graph with: given in a file, or random within a stated range."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from quartet.adopt.graph import Array, CannotAdopt, RunFailed, Value
from quartet.console import did_you_mean

# Calls that are drawn, or taken from a file.
CALLS = 8
_MOST_CALLS = 64
# Of an input in a call, and in all calls together.
_MOST_VALUES, _MOST_DRAWN = 2**24, 2**26
# Sizes of open axes, in the order in which they are tried: networks of images need multiples of 32.
_SIZES = (64, 16, 8, 4, 2, 1, 128, 224, 256, 512)
# The batch, if the first axis is one.
_FIRST = 2
# Ranges of integers and of floats without a known one, in the order in which they are tried: the first ones suit ids,
# pixels and classes, the last ones the features of trees.
_VALUES = (
    ((0, 255), (0, 1)), ((0, 9), (0, 1)), ((0, 1), (0, 1)), ((1, 1), (0, 1)),
    ((0, 9), (-3, 3)), ((0, 255), (0, 255)), ((0, 255), (-1000, 1000)),
)  # fmt: skip
_SEED = 0

Kind = Literal["given", "random", "examples"]
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
    kind: Kind

    @classmethod
    def of_rows(cls, rows: Mapping[str, Array], kind: Kind) -> "Samples":
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


class _Plan(NamedTuple):
    """How random samples are drawn: the size of an open axis, given axis and name, and ranges of numbers."""

    size: Callable[[int, str], int]
    integers: tuple[float, float]
    floats: tuple[float, float]


def draw(inputs: Sequence[Value], ranges: Ranges, run: Run, longest: int) -> Samples:
    """Random samples that the graph can run.

    Numbers lie in the range of their input; without one, floats from 0 to 1 and integers from 0 to 255, or others if
    the graph fails with those or answers them all alike; strings are of digits. Open axes have the first size with
    which the graph runs.

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
    for sizes in _sizes(inputs, longest):
        for integers, floats in _values(inputs, ranges):
            calls, answers = [], []
            try:
                for call in _calls(inputs, ranges, _Plan(sizes, integers, floats)):
                    answers.append(run(call))
                    calls.append(call)
            except (RunFailed, _TooLarge) as error:
                failure = str(error)
                continue
            if _is_finite(answers) and _tells_apart(answers):
                return Samples(tuple(calls), "random")
            accepted = accepted or calls
        if accepted:
            return Samples(tuple(accepted), "random")
    raise CannotAdopt(
        "random inputs",
        "The graph fails with random inputs; give it real ones with --samples FILE.npz, or ranges with --range "
        f"NAME=LOW:HIGH. The failure: {failure}",
    )


class _TooLarge(Exception):
    """An input has too many values."""


def _is_finite(answers: Sequence[Sequence[Array]]) -> bool:
    return all(np.isfinite(array).all() for answer in answers for array in answer if array.dtype.kind == "f")


def _tells_apart(answers: Sequence[Sequence[Array]]) -> bool:
    return any(
        not np.array_equal(one, two) for answer in answers[1:] for one, two in zip(answers[0], answer, strict=True)
    )


def _sizes(inputs: Sequence[Value], longest: int) -> Iterator[Callable[[int, str], int]]:
    """Sizes of open axes, in the order in which they are tried."""
    axes = [(axis, size) for value in inputs for axis, size in enumerate(value.shape or ()) if isinstance(size, str)]
    rest = any(axis for axis, _ in axes)
    first = {name for axis, name in axes if axis == 0}

    def sizes(size: int, batch: int) -> Callable[[int, str], int]:
        return lambda axis, name: batch if axis == 0 or name in first else size

    every = [size for size in _SIZES if size <= longest]
    yield from (sizes(size, _FIRST) for size in (every if rest else every[:1]))
    # A first axis that is no batch, such as time, may have to be longer.
    yield from (sizes(size, size) for size in (every if first else ()))
    yield from (sizes(size, 1) for size in (every if first and rest else ()))


def _values(inputs: Sequence[Value], ranges: Ranges) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Ranges of integers and of floats, in the order in which they are tried; those that no input has count as one."""
    free = {value.dtype for value in inputs if value.name not in ranges} - {"str", "bool", "int8", "uint8"}
    floats = any(dtype.startswith("float") for dtype in free)
    integers = any(not dtype.startswith("float") for dtype in free)
    distinct = {(pair[0] if integers else None, pair[1] if floats else None): pair for pair in reversed(_VALUES)}
    return [pair for pair in _VALUES if pair in distinct.values()]


def _calls(inputs: Sequence[Value], ranges: Ranges, plan: _Plan) -> Iterator[Call]:
    """The calls of a plan, each drawn when it is needed."""
    random = np.random.default_rng(_SEED)
    shapes = {
        value.name: tuple(
            plan.size(axis, size) if isinstance(size, str) else size for axis, size in enumerate(value.shape or ())
        )
        for value in inputs
    }
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    for name, count in counts.items():
        if count > _MOST_VALUES:
            raise _TooLarge(f"input {name} has {count:,} values; at most {_MOST_VALUES:,} are served")
    most = max(2, min(CALLS, _MOST_DRAWN // max(1, sum(counts.values()))))
    for _ in range(most):
        yield {
            value.name: _random(value.dtype, shapes[value.name], ranges.get(value.name), plan, random)
            for value in inputs
        }


def _random(
    name: str, shape: tuple[int, ...], bounds: tuple[float, float] | None, plan: _Plan, random: np.random.Generator
) -> Array:
    if name == "str":
        return np.asarray(random.integers(0, 100, shape)).astype(np.str_)
    if name == "bool":
        return np.asarray(random.random(shape) < 0.5)
    dtype = np.dtype(name)
    if dtype.kind == "f":
        least, greatest = bounds or plan.floats
        return np.asarray(least + (greatest - least) * random.random(shape)).astype(dtype)
    limits = np.iinfo(dtype)
    least, greatest = bounds or ((limits.min, limits.max) if dtype.itemsize == 1 else plan.integers)
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
