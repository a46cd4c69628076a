"""The model card of a classifier, and its plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from service.tasks.classification.manifest import ClassifierManifest
from training.data.images import ImageData
from training.export.figures import Evaluation
from training.report.markdown import (
    calibrated_by,
    figures,
    interval,
    label_set_notes,
    label_set_table,
    provenance,
    table,
    training_section,
)
from training.report.plots import (
    FOUND,
    GUIDE,
    MEASURED,
    TRUE,
    Curve,
    draw_confusion,
    draw_curves,
    draw_reliability,
    save_plot,
    show_image,
)

# The matrix of more classes would be unreadable.
_MOST_CLASSES_DRAWN = 30


def write_report(
    folder: Path,
    manifest: ClassifierManifest,
    evaluation: Evaluation,
    data: ImageData,
    result: dict[str, Any],
    others: Sequence[dict[str, Any]],
) -> None:
    """Writes `README.md` and the plots it shows into `folder`.

    Args:
        folder: is made if it does not exist.
        manifest: of the version.
        evaluation: on the test split.
        data: for the images of mistakes.
        result: of this run: parameters, times, history.
        others: results of other runs to compare with, as `result`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_plot(folder / "learning-curves.png", 9, 3.4, 2, lambda axes: _curves(axes, result))
    save_plot(folder / "calibration.png", 9, 4, 2, lambda axes: draw_reliability(axes, evaluation))
    save_plot(folder / "conformal.png", 9, 3.4, 2, lambda axes: _conformal(axes, evaluation))
    if len(data.classes) <= _MOST_CLASSES_DRAWN:
        size, title = max(4.0, 2.2 + 0.42 * len(data.classes)), "Test images by true and found class"
        save_plot(
            folder / "confusion.png",
            size,
            size,
            1,
            lambda axes: draw_confusion(axes[0], evaluation.confusion, data.classes, title),
        )
    mistakes = _worst(evaluation)
    if len(mistakes):
        _mistakes(folder / "mistakes.png", mistakes, evaluation, data)
    (folder / "README.md").write_text(_card(manifest, evaluation, data, result, others, len(mistakes)))


def _card(
    manifest: ClassifierManifest,
    evaluation: Evaluation,
    data: ImageData,
    result: dict[str, Any],
    others: Sequence[dict[str, Any]],
    mistakes: int,
) -> str:
    metrics, calibration = manifest.metrics, manifest.calibration
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}. Input: uint8 pixels, {' x '.join(map(str, data.shape))} (height, width, channels); "
        "any other image is cropped at its centre to this aspect ratio and resized with antialiasing. "
        "Output: calibrated probabilities.",
        f"**Test accuracy {metrics.accuracy:.4f}**{interval(manifest, 'accuracy')} on the {len(data.test)} test images "
        f"of {data.name}, macro F1 {metrics.macro_f1:.4f}{interval(manifest, 'macro_f1')}, negative log-likelihood "
        f"{metrics.negative_log_likelihood:.4f}{interval(manifest, 'negative_log_likelihood')}; validation accuracy "
        f"{metrics.validation_accuracy:.4f}.",
        "## Per class",
        table(
            ("class", "precision", "recall", "F1", "test images"),
            [(row.label, *figures(row.precision, row.recall, row.f1), row.support) for row in metrics.per_class],
        ),
    ]
    if len(data.classes) <= _MOST_CLASSES_DRAWN:
        parts.append("![Confusion matrix](confusion.png)")
    parts += [_confusions(evaluation, data.classes)]
    parts += [
        "## Calibration",
        f"The expected calibration error (15 bins) is {calibration.ece_before:.4f} as trained and "
        f"**{calibration.ece_after:.4f}**{interval(manifest, 'ece_after')} {calibrated_by(calibration)}. That is "
        "part of the graph, and the section History says what it was fitted on. It holds for images like the training "
        "set; of others the probabilities say nothing.",
        *(
            f"`{variant.name}` has a calibration of its own: {variant.calibration.ece_before:.4f} before, "
            f"**{variant.calibration.ece_after:.4f}**{interval(variant, 'ece_after')} "
            f"{calibrated_by(variant.calibration)}; negative log-likelihood "
            f"{variant.metrics.negative_log_likelihood:.4f}."
            for variant in manifest.variants
        ),
        "![Reliability](calibration.png)",
        "## Label sets",
        "With `coverage`, a prediction is the set of all labels whose probability reaches a threshold (split conformal "
        "prediction; the most likely label is always included, so low coverages are exceeded). The actual coverage on "
        "the test split:",
        label_set_table(manifest.conformal),
        label_set_notes(manifest.conformal),
        "![Coverage and set size](conformal.png)",
        *(
            [
                "## The most confident mistakes",
                f"The {mistakes} wrongly classified test images with the highest confidence:",
                "![Mistakes](mistakes.png)",
            ]
            if mistakes
            else []
        ),
        *training_section(manifest),
    ]
    rows = [result, *others]
    parts += [
        "## Comparison of architectures",
        table(
            (
                "data",
                "network",
                "parameters",
                "test accuracy",
                "ms per image alone",
                "ms per image in the largest batch",
            ),
            [
                (
                    row["data"],
                    f"{row['arch']}: {row['label']}",
                    f"{row['parameters']:,}",
                    f"{row['accuracy']:.4f}",
                    f"{row['ms_batch_1']:.2f}",
                    f"{row['ms_batch_max']:.2f}",
                )
                for row in rows
            ],
        ),
        "Times are medians of the ONNX Runtime session without the service, on the CPUs of the machine that trained.",
    ]
    parts += provenance(manifest, f"{result['onnx_difference']:.1g}")
    return "\n\n".join(parts) + "\n"


def _confusions(evaluation: Evaluation, classes: tuple[str, ...]) -> str:
    """The most common confusions, in words."""
    off = evaluation.confusion.copy()
    np.fill_diagonal(off, 0)
    pairs = [(int(off[i, j]), classes[i], classes[j]) for i, j in np.argwhere(off > 0)]
    if not pairs:
        return "No test image was misclassified."
    pairs.sort(key=lambda pair: -pair[0])
    return "Most common confusions: " + ", ".join(f"{a} taken for {b} ({n})" for n, a, b in pairs[:5]) + "."


def _worst(evaluation: Evaluation, count: int = 24) -> npt.NDArray[np.int64]:
    predicted = evaluation.probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != evaluation.labels)
    return wrong[np.argsort(-evaluation.probabilities[wrong].max(1))][:count]


def _mistakes(path: Path, indices: npt.NDArray[np.int64], evaluation: Evaluation, data: ImageData) -> None:
    columns = 6
    rows = max(1, -(-len(indices) // columns))

    def draw(axes: Sequence[Axes]) -> None:
        for axis in axes:
            axis.axis("off")
        for axis, index in zip(axes, indices, strict=False):
            found = int(evaluation.probabilities[index].argmax())
            show_image(
                axis,
                data.test.images[index],
                f"{TRUE}: {data.classes[evaluation.labels[index]]}\n"
                f"{FOUND}: {data.classes[found]} {evaluation.probabilities[index, found]:.2f}",
            )

    save_plot(path, columns * 1.65, rows * 1.9, columns, draw, rows)


def _curves(axes: Sequence[Axes], result: dict[str, Any]) -> None:
    loss = Curve("loss", "cross-entropy", training="cross_entropy")
    for axis, curve in zip(axes, (loss, Curve("accuracy", "accuracy")), strict=True):
        draw_curves(axis, result["history"], curve, result.get("initial"))


def _conformal(axes: Sequence[Axes], evaluation: Evaluation) -> None:
    requested = [point.coverage for point in evaluation.conformal]
    axes[0].plot(requested, requested, color=GUIDE, label="as requested")
    coverage = [point.test_coverage for point in evaluation.conformal]
    axes[0].plot(requested, coverage, marker=".", color=MEASURED, label="measured")
    axes[0].set(xlabel="requested coverage", ylabel="coverage on test", title="How often the set holds the true label")
    axes[0].legend()
    sizes = [point.mean_set_size for point in evaluation.conformal]
    axes[1].plot(requested, sizes, marker=".", color=MEASURED)
    axes[1].set(xlabel="requested coverage", ylabel="labels per set", title="What that costs")
