"""What is written of the variants of a version: golden files of their own, and the section of the report."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort

from service.inference.cards import GoldenCard, Kept, ManifestBase, Speed
from service.inference.golden import compare, read_golden
from service.inference.session import Session
from training.export.evaluator import Array, Inputs

# Another machine's kernels may be off by more, and by more for the very inputs that were chosen here.
_MARGIN = 4.0


@dataclass(frozen=True, slots=True)
class Trial:
    """A variant that was tried.

    Attributes:
        name: of the method and the variant.
        path: of its graph.
        device: where it is meant to run.
        method: how it was made.
        validation: what decides whether it is kept.
        size: of its file, in bytes; likewise `reference_size`.
        speed: beside the reference; empty where it could not be measured.
        why_not: why it is not kept; None if it is.
    """

    name: str
    path: Path
    device: Literal["cpu", "cuda"]
    method: str
    validation: Kept
    size: int
    reference_size: int
    speed: tuple[Speed, ...]
    why_not: str | None

    @property
    def kept(self) -> bool:
        """Whether it is kept."""
        return self.why_not is None

    @property
    def gain(self) -> float:
        """How many times as fast as the reference it is in the largest batches that were measured."""
        return self.speed[-1].items_per_second / self.speed[-1].reference if self.speed else 1.0

    @property
    def words(self) -> str:
        """All of it in a line."""
        validation = self.validation
        gains = ", ".join(f"{gain_of(speed):.2f} at {speed.batch}" for speed in self.speed) or "not measured"
        return (
            f"{self.name}: {self.why_not or 'kept'}; validation {validation.figure} {validation.value:.4f} "
            f"(reference {validation.reference:.4f}), times as fast: {gains}; {self.size / 1e6:.1f} MB "
            f"({self.reference_size / 1e6:.1f}); {self.method}"
        )

    def with_reason(self, why_not: str | None) -> "Trial":
        """The same, not kept for this reason."""
        return replace(self, why_not=why_not)


def gain_of(speed: Speed) -> float:
    """How many times as fast as the reference."""
    return speed.items_per_second / speed.reference


def write_golden(graph: Path, name: str, folder: Path, manifest: ManifestBase) -> GoldenCard:
    """Writes a variant's golden file: half of the inputs of the version's, and the answers that its graph means.

    They come from the graph as ONNX defines it, node by node without the runtime's fusions, so they hold whatever
    kernels compute it. How far those may be off is four times what they are on this machine, and at least what the
    reference may be. Rounding to 8 bits may turn into much where the network is unsure of an input, and a file with
    such inputs would have to accept nearly any answer: so the half is taken for which kernels are off the least, and
    the card says of how many inputs (`chosen_from`).

    Args:
        graph: of the variant.
        name: likewise.
        folder: of the version, with the golden file of its reference.
        manifest: of the version.
    """
    file = f"{name}.npz"
    inputs, _ = read_golden(folder, manifest)
    meant = as_defined(graph, inputs)
    factors = _factors_by_row(graph, inputs, meant, manifest.golden)
    rows = np.sort(np.max([*factors.values()], axis=0).argsort(kind="stable")[: (manifest.golden.rows + 1) // 2])
    chosen = {name: array[rows] for name, array in (inputs | meant).items()}
    np.savez_compressed(folder / file, allow_pickle=False, **chosen)
    worst = {output: max(1.0, _MARGIN * factor[rows].max()) for output, factor in factors.items()}
    integers = {spec.name for spec in manifest.outputs if spec.dtype == "int64"}
    return _widened(manifest.golden, worst, integers).model_copy(
        update={"file": file, "rows": len(rows), "chosen_from": manifest.golden.rows}
    )


def renew_golden(graph: Path, folder: Path, manifest: ManifestBase) -> None:
    """Writes into a version's golden file what the graph means, as ONNX defines it, for the inputs that are there."""
    inputs, _ = read_golden(folder, manifest)
    np.savez_compressed(folder / manifest.golden.file, allow_pickle=False, **inputs, **as_defined(graph, inputs))


def _factors_by_row(graph: Path, inputs: Inputs, meant: Inputs, card: GoldenCard) -> dict[str, Array]:
    """How many times the card's tolerance this machine's kernels are off, for each output and row; of lists all alike.

    The most of one thread and several, alone and in a batch.
    """
    factors = {name: np.zeros(card.rows) for name in meant}
    for threads in (1, 0):
        session = Session(graph, "cpu", threads)
        for batch in (1, card.rows):
            for start in range(0, card.rows, batch):
                got = session.run({name: array[start : start + batch] for name, array in inputs.items()})
                answers = dict(zip(session.outputs, got, strict=True))
                for row in range(start, start + batch):
                    want = {name: array[[row]] for name, array in meant.items()}
                    own = {name: array[[row - start]] for name, array in answers.items()}
                    for name, ratio in _ratios(want, own, card).items():
                        factors[name][row] = max(factors[name][row], ratio)
    return factors


def _ratios(want: dict[str, Array], got: dict[str, Array], card: GoldenCard) -> dict[str, float]:
    if card.lists is not None:
        return dict.fromkeys(want, compare(want, got, card).ratio)
    return {name: compare({name: array}, got, card).ratio for name, array in want.items()}


def as_defined(path: Path, inputs: Inputs) -> dict[str, Array]:
    """What a graph answers when every node runs by itself, by the name of the output."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _widened(card: GoldenCard, factors: dict[str, float], integers: set[str]) -> GoldenCard:
    """The card with tolerances so many times as large, except of outputs that are integers."""
    others = max((factor for name, factor in factors.items() if name not in card.tolerances), default=1.0)

    def widen(tolerance: float, name: str | None = None) -> float:
        if name in integers:
            return tolerance
        factor = others if name is None else factors.get(name, others)
        return rounded_up(tolerance * factor)

    lists = card.lists
    if lists is not None:
        lists = lists.model_copy(update={"tolerances": {k: widen(v, k) for k, v in lists.tolerances.items()}})
    tolerances = {name: widen(value, name) for name, value in card.tolerances.items()}
    return card.model_copy(update={"atol": widen(card.atol), "tolerances": tolerances, "lists": lists})


def rounded_up(tolerance: float) -> float:
    """The next number with one digit that is not smaller."""
    digit = 10 ** math.floor(math.log10(tolerance))
    return float(f"{math.ceil(tolerance / digit) * digit:.1g}")
