"""The golden file, the answers that a session must reproduce, and the differences that are accepted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from service.inference.cards import GoldenCard, ListCard, ManifestBase
from service.inference.manifest import InvalidModel, without_folders
from service.inference.shapes import Array, Shape


class Golden(NamedTuple):
    """Inputs and their answers, by the names of the graph's tensors; the first axis of each is the item."""

    inputs: dict[str, Array]
    answers: dict[str, Array]

    @property
    def first(self) -> "Golden":
        """The first item alone."""
        inputs, answers = ({name: array[:1] for name, array in arrays.items()} for arrays in self)
        return Golden(inputs, answers)

    @property
    def probe(self) -> Any:
        """The first input as `stacking` takes it: an array, or a tuple of one per input tensor."""
        # Copies, since a view would keep all items in memory.
        item = tuple(array[0].copy() for array in self.inputs.values())
        return item if len(item) > 1 else item[0]

    def batch(self, manifest: ManifestBase, shape: Shape) -> dict[str, Array]:
        """Inputs to time a graph with, `shape.batch` items.

        Where the graph ignores padding, they are zeros, as long as `shape` says; otherwise the inputs, repeated.
        """
        if not manifest.batched:
            return {name: np.asarray(array[0]) for name, array in self.inputs.items()}
        if not manifest.pads:
            return {name: np.resize(array, (shape.batch, *array.shape[1:])) for name, array in self.inputs.items()}
        return {
            spec.name: np.zeros(
                (shape.batch, *(shape.length if axis < 0 else axis for axis in spec.shape[1:])), spec.dtype
            )
            for spec in manifest.inputs
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest absolute difference of an output, and the largest that is accepted."""

    output: str
    value: float
    accepted: float

    @property
    def acceptable(self) -> bool:
        """Whether the difference is small enough; NaN never is."""
        return self.value <= self.accepted

    @property
    def ratio(self) -> float:
        """The difference as a multiple of what is accepted."""
        if np.isnan(self.value):
            return np.inf
        return self.value / self.accepted if self.accepted else np.inf * self.value


def read_golden(folder: Path, manifest: ManifestBase) -> Golden:
    """Reads a version's golden file.

    Raises:
        InvalidModel: it cannot be read, or lacks an input or an output.
    """
    try:
        with (folder / manifest.golden.file).open("rb") as file, np.load(file) as golden:
            return Golden(
                {spec.name: golden[spec.name] for spec in manifest.inputs},
                {spec.name: golden[spec.name] for spec in manifest.outputs},
            )
    except Exception as error:  # numpy and zipfile raise many kinds
        raise InvalidModel(f"{manifest.golden.file}: cannot be read: {without_folders(str(error))}") from error


def compare(want: Mapping[str, Array], got: Mapping[str, Array], card: GoldenCard) -> Difference:
    """The largest difference between two answers to the same inputs.

    Arrays are compared element by element. In lists, such as detections, two entries of nearly the same rank may be
    swapped, so each entry is compared with the nearest one. Outputs with a tolerance of their own are not lists.

    Args:
        want: the expected answers, by the name of the output.
        got: the answers of a session, by the name of the output.
        card: states the tolerances.

    Raises:
        ValueError: an output has another shape, or the card ranks entries by an output that does not exist.
    """
    for name, array in want.items():
        if got[name].shape != array.shape:
            raise ValueError(f"output {name} is {got[name].shape}, not {array.shape}")
    lists = card.lists
    if lists is not None and lists.order not in want:
        raise ValueError(f"lists.order: {lists.order!r} is none of the outputs {', '.join(want)}")
    listed = [] if lists is None else [name for name in want if name not in card.tolerances]
    found = [
        Difference(name, _largest(array, got[name]), card.tolerances.get(name, card.atol))
        for name, array in want.items()
        if name not in listed
    ]
    if lists is not None:
        accepted = {name: lists.tolerances.get(name, card.atol) for name in listed}
        found += [
            difference
            for row in range(len(want[lists.order]))
            for one, other in ((want, got), (got, want))
            if (difference := _farthest(one, other, row, lists, accepted)) is not None
        ]
    return max(found, key=lambda difference: difference.ratio, default=Difference(next(iter(want)), 0.0, card.atol))


def _largest(want: Array, got: Array) -> float:
    if want.dtype.kind in "OU":
        return 0.0 if np.array_equal(want.astype(str), got.astype(str)) else np.inf
    wanted, found = want.astype(np.float64), got.astype(np.float64)
    same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))  # infinities too
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0.0, np.abs(wanted - found)).max(initial=0.0))


def _farthest(
    one: Mapping[str, Array], other: Mapping[str, Array], row: int, lists: ListCard, accepted: Mapping[str, float]
) -> Difference | None:
    """The ranked entry of `one` that is farthest from its nearest in `other`; None without ranked entries."""
    entries = np.flatnonzero(one[lists.order][row] >= lists.above)
    if not len(entries):
        return None
    gaps = np.stack(
        [
            np.abs(
                one[name][row][entries].reshape(len(entries), 1, -1).astype(np.float64)
                - other[name][row].reshape(1, len(other[name][row]), -1)
            ).max(-1)
            for name in accepted
        ],
        axis=-1,
    )
    ratios = np.nan_to_num(gaps / [*accepted.values()], nan=np.inf)
    nearest = ratios.max(-1).argmin(1)
    matched = ratios[np.arange(len(entries)), nearest]
    entry, output = np.unravel_index(matched.argmax(), matched.shape)
    name, tolerance = [*accepted.items()][output]
    return Difference(name, float(gaps[entry, nearest[entry], output]), tolerance)
