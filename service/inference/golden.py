"""The golden file, the answers that a session must reproduce, and the differences that are accepted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from service.inference.cards import GoldenCard, ManifestBase

Array = npt.NDArray[Any]


class Golden(NamedTuple):
    """Inputs and the answers to them, by the names of the graph's tensors; the first axis of each is the item."""

    inputs: dict[str, Array]
    answers: dict[str, Array]

    def first(self, count: int) -> "Golden":
        """The first items alone."""
        inputs, answers = ({name: array[:count] for name, array in arrays.items()} for arrays in self)
        return Golden(inputs, answers)

    def item(self, index: int) -> Any:
        """An input as `stacking` takes it: an array, or a tuple of one per input tensor."""
        # Copies, since a view would keep all items in memory.
        item = tuple(array[index].copy() for array in self.inputs.values())
        return item if len(item) > 1 else item[0]


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference, relative to what is accepted.

    Attributes:
        output: the name of the output.
        value: the absolute difference.
        accepted: the largest absolute difference that is accepted.
    """

    output: str
    value: float
    accepted: float

    @property
    def acceptable(self) -> bool:
        """Whether it is small enough; NaN never is."""
        return self.value <= self.accepted

    @property
    def ratio(self) -> float:
        """The difference as a multiple of what is accepted."""
        if np.isnan(self.value):
            return np.inf
        return self.value / self.accepted if self.accepted else np.inf * self.value


def read_golden(folder: Path, manifest: ManifestBase) -> Golden:
    """Reads a version's golden file; raises whatever numpy and zipfile raise."""
    with (folder / manifest.golden.file).open("rb") as file, np.load(file) as golden:
        return Golden(
            {spec.name: golden[spec.name] for spec in manifest.inputs},
            {spec.name: golden[spec.name] for spec in manifest.outputs},
        )


def compare(want: Mapping[str, Array], got: Mapping[str, Array], card: GoldenCard) -> Difference:
    """The largest difference between two answers to the same inputs.

    Arrays are compared element by element. In lists (of detections, say), two entries of nearly the same rank may be
    swapped, so each entry is compared with the nearest one. Outputs with a tolerance of their own are not lists.

    Args:
        want: the expected answers, by the name of the output.
        got: the session's answers.
        card: the tolerances.

    Raises:
        ValueError: an output has another shape, or the card ranks entries by an output that does not exist.
    """
    for name, array in want.items():
        if got[name].shape != array.shape:
            raise ValueError(f"output {name} is {got[name].shape}, not {array.shape}")
    if card.lists is not None and card.lists.order not in want:
        raise ValueError(f"lists.order: {card.lists.order!r} is none of the outputs {', '.join(want)}")
    lists = {} if card.lists is None else {name: array for name, array in want.items() if name not in card.tolerances}
    found = [
        Difference(name, _largest(array, got[name]), card.tolerances.get(name, card.atol))
        for name, array in want.items()
        if name not in lists
    ]
    if card.lists is not None:
        found += [
            difference
            for row in range(len(want[card.lists.order]))
            for one, other in ((lists, got), ({name: got[name] for name in lists}, want))
            if (difference := _farthest(one, other, row, card)) is not None
        ]
    return max(found, key=lambda difference: difference.ratio, default=Difference(next(iter(want)), 0.0, card.atol))


def _largest(want: Array, got: Array) -> float:
    return float(np.abs(want.astype(np.float64) - got.astype(np.float64)).max(initial=0.0))


def _farthest(one: Mapping[str, Array], other: Mapping[str, Array], row: int, card: GoldenCard) -> Difference | None:
    """The entry of `one` above the card's limit that is farthest from its nearest in `other`; None without entries."""
    assert card.lists is not None  # noqa: S101 - the caller has looked
    entries = np.flatnonzero(one[card.lists.order][row] >= card.lists.above)
    if not len(entries):
        return None
    names = list(one)
    accepted = np.array([card.lists.tolerances.get(name, card.atol) for name in names])
    gaps = np.stack(
        [
            np.abs(
                one[name][row][entries].reshape(len(entries), 1, -1).astype(np.float64)
                - other[name][row].reshape(1, len(other[name][row]), -1)
            ).max(-1)
            for name in names
        ],
        axis=-1,
    )
    ratios = np.nan_to_num(gaps / accepted, nan=np.inf)
    nearest = ratios.max(-1).argmin(1)
    matched = ratios[np.arange(len(entries)), nearest]
    entry, output = np.unravel_index(matched.argmax(), matched.shape)
    return Difference(names[output], float(gaps[entry, nearest[entry], output]), float(accepted[output]))
