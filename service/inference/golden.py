"""How far a session's answers are from those it is to give, and how far they may be."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.inference.cards import GoldenCard, ManifestBase

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference, measured by what is accepted.

    Attributes:
        output: where it is.
        value: how large it is.
        accepted: how large it may be.
    """

    output: str
    value: float
    accepted: float

    @property
    def acceptable(self) -> bool:
        """Whether it is small enough; a NaN never is."""
        return self.value <= self.accepted

    @property
    def ratio(self) -> float:
        """How large it is for what is accepted."""
        if np.isnan(self.value):
            return np.inf
        return self.value / self.accepted if self.accepted else np.inf * self.value


def read_golden(folder: Path, manifest: ManifestBase) -> tuple[dict[str, Array], dict[str, Array]]:
    """The inputs and the answers of a version's golden file, by name; whatever numpy and zipfile raise."""
    with (folder / manifest.golden.file).open("rb") as file, np.load(file) as golden:
        return (
            {spec.name: golden[spec.name] for spec in manifest.inputs},
            {spec.name: golden[spec.name] for spec in manifest.outputs},
        )


def compare(want: Mapping[str, Array], got: Mapping[str, Array], card: GoldenCard) -> Difference:
    """The largest difference between two answers to the same inputs.

    Arrays are compared element by element. Where an answer is a list (of detections, say), two entries of nearly the
    same rank may be swapped, so each entry is compared with the one that is nearest to it. An output beside the lists
    has a tolerance of its own, by which it is known.

    Args:
        want: what PyTorch gave (a variant: what its graph means), by the name of the output.
        got: what the session gave.
        card: what is accepted.

    Raises:
        ValueError: an output has another shape, or the card ranks entries by an output that there is not.
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
    """Of the entries of `one` that count, the one farthest from its nearest entry of `other`; None without any."""
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
