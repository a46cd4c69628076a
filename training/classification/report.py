"""The report of a classifier of images: its plots, and what its card reads of the record."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from training.data.images import ImageData
from training.export.figures import Evaluation
from training.report.curves import Curve
from training.report.plots import (
    GUIDE,
    MEASURED,
    PREDICTED,
    TRUE,
    WIDTH,
    draw_confusion,
    draw_reliability,
    save_plot,
    show_image,
)
from training.report.record import REPORT, update_record

_MISTAKES, _COLUMNS = 16, 4
CURVES = Curve("loss", "cross-entropy", training="cross_entropy"), Curve("accuracy", "accuracy")


def write_report(folder: Path, evaluation: Evaluation, data: ImageData) -> None:
    """Draws and records what was measured on the test split, in the folder of the version."""
    save_plot(folder, "calibration.png", WIDTH, 3.1, lambda axes: draw_reliability(axes, evaluation), 2)
    save_plot(folder, "conformal.png", WIDTH, 2.9, lambda axes: _label_sets(axes, evaluation), 2)
    if len(data.classes) <= 30:  # the matrix of more would be unreadable
        size, title = max(4.0, 1.6 + 0.4 * len(data.classes)), "Test images by true and predicted class"
        confusion = evaluation.confusion
        save_plot(
            folder, "confusion.png", size, size, lambda axes: draw_confusion(axes[0], confusion, data.classes, title)
        )
    mistakes = np.flatnonzero(evaluation.probabilities.argmax(1) != evaluation.labels)
    mistakes = mistakes[np.argsort(-evaluation.probabilities[mistakes].max(1))][:_MISTAKES]  # the most confident ones
    (folder / REPORT / "mistakes.png").unlink(missing_ok=True)
    if len(mistakes):
        rows = -(-len(mistakes) // _COLUMNS)

        def draw(axes: Sequence[Axes]) -> None:
            _draw_mistakes(axes, mistakes, evaluation, data)

        save_plot(folder, "mistakes.png", WIDTH, rows * 1.85, draw, _COLUMNS, rows)
    classes, wrong = data.classes, evaluation.confusion - np.diag(np.diag(evaluation.confusion))
    confusions = [(classes[true], classes[other], int(wrong[true, other])) for true, other in np.argwhere(wrong > 0)]
    confusions = sorted(confusions, key=lambda confusion: -confusion[2])[:5]
    update_record(folder, confusions=confusions, mistakes=len(mistakes))


def _draw_mistakes(
    axes: Sequence[Axes], indices: npt.NDArray[np.int64], evaluation: Evaluation, data: ImageData
) -> None:
    for axis, index in zip(axes, indices, strict=False):
        predicted = int(evaluation.probabilities[index].argmax())
        axis.set_anchor("S")  # so that there is room for three lines above
        show_image(
            axis,
            data.test.images[index],
            f"{TRUE}: {data.classes[evaluation.labels[index]]}\n"
            f"{PREDICTED}: {data.classes[predicted]}\n"
            f"confidence {evaluation.probabilities[index, predicted]:.2f}",
        )


def _label_sets(axes: Sequence[Axes], evaluation: Evaluation) -> None:
    requested = [point.coverage for point in evaluation.conformal]
    axes[0].plot(requested, requested, color=GUIDE, label="as requested")
    coverage = [point.test_coverage for point in evaluation.conformal]
    axes[0].plot(requested, coverage, marker=".", color=MEASURED, label="measured")
    axes[0].set(xlabel="requested coverage", ylabel="coverage on test", title="Sets with the true label")
    axes[0].legend()
    sizes = [point.mean_set_size for point in evaluation.conformal]
    axes[1].plot(requested, sizes, marker=".", color=MEASURED)
    axes[1].set(xlabel="requested coverage", ylabel="labels per set", title="Size of the sets")
