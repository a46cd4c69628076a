"""Golden files of graphs that were exported already: their answers as ONNX defines them, and how far kernels differ."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.inference.cards import GoldenCard, ManifestBase
from service.inference.golden import compare, read_golden
from service.inference.session import Session
from training.export.layers import Inputs


def write_variant_golden(graph: Path, name: str, folder: Path, manifest: ManifestBase) -> GoldenCard:
    """Writes a variant's golden file: the inputs of the version's, and the answers of the variant's graph.

    The answers are those of the graph as ONNX defines it, node by node without the runtime's fusions, so they hold
    whatever kernels compute it. The tolerance is four times the deviation of this machine's kernels, since another's
    may deviate more, and at least that of the reference.
    """
    inputs, _ = read_golden(folder, manifest)
    answers = as_defined(graph, inputs)
    np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **inputs, **answers)
    card = manifest.golden
    factors = {output: max(1.0, 4 * ratio) for output, ratio in kernel_ratios(graph, inputs, answers, card).items()}
    others = max((factor for output, factor in factors.items() if output not in card.tolerances), default=1.0)
    # Integers are exact.
    factors |= {spec.name: 1.0 for spec in manifest.outputs if spec.dtype == "int64"}

    def widen(tolerances: dict[str, float]) -> dict[str, float]:
        return {output: rounded_up(value * factors.get(output, others)) for output, value in tolerances.items()}

    lists = card.lists and card.lists.model_copy(update={"tolerances": widen(card.lists.tolerances)})
    atol = rounded_up(card.atol * others)
    return card.model_copy(
        update={"file": f"{name}.npz", "atol": atol, "tolerances": widen(card.tolerances), "lists": lists}
    )


def renew_golden(graph: Path, folder: Path, manifest: ManifestBase) -> None:
    """Writes the answers of the graph as ONNX defines it into a version's golden file, for its inputs."""
    inputs, _ = read_golden(folder, manifest)
    np.savez_compressed(folder / manifest.golden.file, allow_pickle=False, **inputs, **as_defined(graph, inputs))


def kernel_ratios(graph: Path, inputs: Inputs, want: Inputs, card: GoldenCard) -> dict[str, float]:
    """The largest deviation of this machine's kernels as a multiple of the card's tolerance, by the name of the output.

    It is the largest with one thread and with several, of each item alone and of all in a batch.
    """
    ratios = dict.fromkeys(want, 0.0)
    count = len(next(iter(inputs.values())))
    for threads in (1, 0):
        session = Session(graph, "cpu", threads)
        for rows in (*(slice(row, row + 1) for row in range(count)), slice(None)):
            found = session.run({name: array[rows] for name, array in inputs.items()})
            got = dict(zip(session.outputs, found, strict=True))
            part = {name: array[rows] for name, array in want.items()}
            # The outputs of lists are compared together.
            groups = [part] if card.lists is not None else [{name: array} for name, array in part.items()]
            for group in groups:
                ratio = compare(group, got, card).ratio
                ratios |= {name: max(ratios[name], ratio) for name in group}
    return ratios


def as_defined(path: Path, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
    """What a graph answers when every node runs by itself, by the name of the output."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def rounded_up(tolerance: float) -> float:
    """The next number with one digit that is not smaller."""
    digit = 10 ** math.floor(math.log10(tolerance))
    return float(f"{math.ceil(tolerance / digit) * digit:.1g}")
