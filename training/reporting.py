"""What every model card is made of: tables, plots, and what is said of a training."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.font_manager
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.inference.manifest import Manifest
from service.inference.manifests.classification import ConformalPoint
from training.calibrate import reliability
from training.evaluate import Evaluation

# Fonts for scripts that the usual one lacks, where they are installed.
_FALLBACKS = ("Noto Sans CJK KR", "Noto Sans CJK JP", "NanumGothic", "Malgun Gothic", "AppleGothic", "Noto Sans")
_INSTALLED = set(matplotlib.font_manager.get_font_names())
matplotlib.rcParams.update(
    {
        "font.size": 9,
        "font.family": ["DejaVu Sans", *(name for name in _FALLBACKS if name in _INSTALLED)],
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def table(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def figures(*values: float) -> tuple[str, ...]:
    """Shares with four decimals."""
    return tuple(f"{value:.4f}" for value in values)


def label_set_table(points: Sequence[ConformalPoint]) -> str:
    """What the label sets of some coverages really cover, and how large they are."""
    return table(
        ("coverage asked for", "threshold", "covered on test", "labels in a set"),
        [
            (f"{p.coverage:.2f}", f"{p.threshold:.4f}", f"{p.test_coverage:.4f}", f"{p.mean_set_size:.2f}")
            for p in points
            if round(p.coverage * 100) % 5 == 0 or p.coverage > 0.95
        ],
    )


def training_section(manifest: Manifest, what_it_chose: str, seconds: float) -> list[str]:
    """How it was trained, with the learning curves and every setting.

    Args:
        manifest: of the version.
        what_it_chose: the data that the epoch was chosen on, in words.
        seconds: that the training took.
    """
    training = manifest.training
    duration = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    return [
        "## Training",
        f"`{training.recipe}`, {training.epochs_run} epochs in {duration} on this machine; epoch "
        f"{training.best_epoch} was the best on {what_it_chose}. The test split was used for the figures here alone.",
        "![Learning curves](learning-curves.png)",
        table(("setting", "value"), [(key, f"`{value}`") for key, value in training.settings.items()]),
    ]


def provenance(manifest: Manifest, onnx_difference: str) -> list[str]:
    """What made it."""
    versions = ", ".join(f"{name} {version}" for name, version in manifest.training.versions.items())
    return [
        "## Provenance",
        f"Data fingerprint `{manifest.data.fingerprint}`; seed {manifest.training.settings['seed']}; {versions}. The "
        f"exported graph differs from PyTorch by at most {onnx_difference} at batches of 1, 2, 7 and "
        f"{manifest.max_batch}.",
    ]


def draw_curves(axis: Axes, history: Sequence[dict[str, float]], lines: dict[str, str], title: str) -> None:
    """Figures of a training over its epochs.

    Args:
        axis: where.
        history: a row for each epoch.
        lines: the label of each figure.
        title: of the vertical axis.
    """
    epochs = range(1, len(history) + 1)
    for name, label in lines.items():
        axis.plot(epochs, [row[name] for row in history], label=label)
    axis.set(xlabel="epoch", ylabel=title)
    axis.legend(frameon=False)


def draw_confusion(axis: Axes, matrix: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """A confusion matrix, truth by answer; shaded by the share of the truth's row."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        if matrix[i, j] and len(names) <= 12:
            axis.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=7,
                      color="white" if shares[i, j] > 0.4 else "black")  # fmt: skip
    ticks = range(len(names))
    axis.set_xticks(ticks, names, rotation=45, ha="right")
    axis.set_yticks(ticks, names)
    axis.set(xlabel="answer", ylabel="truth")


def draw_reliability(axes: Sequence[Axes], evaluation: Evaluation) -> None:
    """Accuracy over confidence, before and after temperature scaling."""
    for axis, probabilities, title, error in (
        (axes[0], evaluation.uncalibrated, "as trained", evaluation.calibration.ece_before),
        (axes[1], evaluation.probabilities, "after temperature scaling", evaluation.calibration.ece_after),
    ):
        bins = reliability(probabilities, evaluation.labels)
        axis.plot((0, 1), (0, 1), color="0.7", linewidth=1)
        axis.scatter([b[1] for b in bins], [b[2] for b in bins], s=[12 + 200 * b[0] for b in bins], alpha=0.7)
        axis.set(xlabel="confidence", ylabel="accuracy", title=f"{title}: error {error:.4f}", xlim=(0, 1), ylim=(0, 1))


def save_plot(
    path: Path, width: float, height: float, columns: int, draw: Callable[[Sequence[Axes]], None], rows: int = 1
) -> None:
    """A picture of `rows` x `columns` plots that `draw` fills; `width` and `height` in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    with warnings.catch_warnings():
        # A word in a script without a font becomes boxes; the rest of the picture is worth having.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        draw(list(figure.subplots(rows, columns, squeeze=False).ravel()))
        figure.savefig(path, dpi=110)
