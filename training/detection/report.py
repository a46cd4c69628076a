"""The model card of a detector: average precision, precision and recall by threshold, mistakes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from service.tasks.detection.manifest import DetectorManifest, ThresholdCurve
from service.tasks.detection.thresholds import best_f1
from training.detection.augment import BoxAugment
from training.detection.data import DetectionData, DetectionSplit
from training.detection.evaluation import Detections, Mistakes, box_iou, mistakes
from training.markdown import figures, provenance, table, training_section
from training.plots import draw_confusion, draw_curves, save_plot

_SAMPLES = 6
_AUGMENTED = 8
_COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:olive")
_MOST_CLASSES_DRAWN = 30


def write_report(
    folder: Path,
    manifest: DetectorManifest,
    found: Sequence[Detections],
    data: DetectionData,
    augment: BoxAugment,
    result: dict[str, Any],
) -> None:
    """Writes `README.md` and the pictures it shows into `folder`.

    Args:
        folder: is made if it does not exist.
        manifest: of the version.
        found: the detections in the test images.
        data: for the pictures.
        augment: of the training, for examples of it.
        result: of this run: times, history.
    """
    folder.mkdir(parents=True, exist_ok=True)
    confidence = best_f1(manifest.curves)
    wrong = mistakes(found, data.test, data.classes, confidence)
    save_plot(folder / "learning-curves.png", 7, 2.8, 2, lambda axes: _history(axes, result["history"]))
    save_plot(folder / "thresholds.png", 10, 3, 3, lambda axes: _thresholds(axes, manifest))
    save_plot(folder / "precision-recall.png", 4.5, 3.5, 1, lambda axes: _precision_recall(axes[0], manifest))
    if len(data.classes) <= _MOST_CLASSES_DRAWN:
        names = [*data.classes, "background"]
        save_plot(folder / "confusion.png", 4.6, 4.2, 1, lambda axes: draw_confusion(axes[0], wrong.confusion, names))
    save_plot(
        folder / "samples.png", 9, 3.5 * _SAMPLES, 2, lambda axes: _samples(axes, data, found, confidence), _SAMPLES
    )
    save_plot(folder / "augmented.png", 10, 4.2, 4, lambda axes: _augmented(axes, data, augment), _AUGMENTED // 4)
    (folder / "README.md").write_text(_card(manifest, data, wrong, confidence, result))


def _card(
    manifest: DetectorManifest, data: DetectionData, wrong: Mistakes, confidence: float, result: dict[str, Any]
) -> str:
    metrics, curves = manifest.metrics, manifest.curves
    at = curves.confidence.index(confidence)
    height, width = data.size
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}. Input: uint8 pixels, {height} x {width} x 3 (height, width, channels); an image of "
        "another size is letterboxed (scaled to fit, centred, padded with grey). Output: up to "
        f"{manifest.suppression.max_detections} boxes with their scores and classes, the best first.",
        f"**Mean average precision {metrics.map_50:.4f} at an overlap of 0.5** (0.75: {metrics.map_75:.4f}; mean of "
        f"0.5 to 0.95: **{metrics.map:.4f}**) on the {len(data.test)} test images of {data.name}; "
        f"{metrics.validation_map:.4f} on the {len(data.validation)} validation images.",
        "## Per class",
        table(
            ("class", "AP at 0.5", "AP at 0.75", "AP 0.5 to 0.95", "test objects"),
            [(row.label, *figures(row.ap_50, row.ap_75, row.ap), row.support) for row in metrics.per_class],
        ),
        "## Precision and recall by threshold",
        *_threshold_section(manifest, at),
        "![Precision, recall and F1 over the threshold](thresholds.png)",
        "![Precision over recall](precision-recall.png)",
        f"## Mistakes at {confidence:g}",
        _mistake_section(wrong),
        *(["![Confusion matrix](confusion.png)"] if len(data.classes) <= _MOST_CLASSES_DRAWN else []),
        "## Examples",
        f"Test images with the true boxes (left) and the detections at {confidence:g} (right):",
        "![True and found boxes](samples.png)",
        *training_section(manifest, f"the {len(data.validation)} validation images", result["training_seconds"]),
        "Training images after augmentation:",
        "![Augmented training images](augmented.png)",
        "## Cost",
        table(
            ("parameters", "training", "ms per image alone", f"ms per image in batches of {result['max_batch']}"),
            [
                (
                    f"{result['parameters']:,}",
                    f"{result['training_seconds'] / 60:.0f} minutes",
                    f"{result['ms_batch_1']:.1f}",
                    f"{result['ms_batch_max']:.1f}",
                )
            ],
        ),
        "Times are medians of the ONNX Runtime session without the service, on the CPUs of the machine that trained.",
        *provenance(manifest, result["onnx_difference"]),
    ]
    return "\n\n".join(parts) + "\n"


def _threshold_section(manifest: DetectorManifest, at: int) -> list[str]:
    """The trade-off between precision and recall, in this model's own figures."""
    curves = manifest.curves
    overall = curves.overall
    low, high = (_nearest(curves.confidence, value) for value in (0.1, 0.7))

    def say(index: int) -> str:
        return (
            f"at {curves.confidence[index]:g}, {overall.precision[index]:.1%} of the detections are right and "
            f"{overall.recall[index]:.1%} of the objects are found"
        )

    return [
        "A detection counts if its score reaches the threshold. A low threshold misses few objects but gives many "
        f"false detections; a high one the opposite: {say(low)}; {say(high)}. The highest F1 ({overall.f1[at]:.4f}) is "
        f"at {curves.confidence[at]:g}, which is the service's default (see its options `confidence`, `precision` and "
        "`recall`). A detection is right if the class is right and the boxes have an IoU of at least 0.5.",
        table(
            ("threshold", "precision", "recall", "F1", *(f"{label}: precision, recall" for label in manifest.labels)),
            [
                (
                    f"{curves.confidence[index]:g}",
                    *figures(overall.precision[index], overall.recall[index], overall.f1[index]),
                    *(
                        f"{curves.per_class[label].precision[index]:.3f}, {curves.per_class[label].recall[index]:.3f}"
                        for label in manifest.labels
                    ),
                )
                for index in sorted({at, *(_nearest(curves.confidence, value / 10) for value in range(1, 10))})
            ],
        ),
    ]


def _mistake_section(wrong: Mistakes) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in wrong.kinds.items())
    return (
        f"{sum(wrong.kinds.values())} detections are wrong: {kinds}. {wrong.missed} objects are missed. "
        "*Wrong class*: the box matches an object of another class; *poor box*: it overlaps an object of its class, "
        "but with an IoU of less than 0.5; *found twice*: a better detection has already found the object; *nothing "
        "there*: none of these."
    )


def _nearest(values: Sequence[float], value: float) -> int:
    return int(np.abs(np.array(values) - value).argmin())


def _history(axes: Sequence[Axes], history: Sequence[dict[str, float]]) -> None:
    parts = [name for name in history[0] if name.startswith("train_") and name != "train_loss"]
    draw_curves(axes[0], history, {name: name.removeprefix("train_") for name in parts}, "training loss")
    axes[0].set_yscale("log")
    lines = {"validation_map_50": "at 0.5", "validation_map": "0.5 to 0.95"}
    draw_curves(axes[1], history, lines, "validation mAP")


def _curves(manifest: DetectorManifest) -> list[tuple[str, ThresholdCurve]]:
    return [("all", manifest.curves.overall), *manifest.curves.per_class.items()]


def _thresholds(axes: Sequence[Axes], manifest: DetectorManifest) -> None:
    for axis, figure in zip(axes, ("precision", "recall", "f1"), strict=True):
        for label, curve in _curves(manifest):
            width = 2.2 if label == "all" else 1.0
            axis.plot(manifest.curves.confidence, getattr(curve, figure), label=label, linewidth=width)
        axis.set(xlabel="confidence threshold", ylabel="F1" if figure == "f1" else figure, xlim=(0, 1), ylim=(0, 1.02))
    axes[0].legend(frameon=False)


def _precision_recall(axis: Axes, manifest: DetectorManifest) -> None:
    for label, curve in _curves(manifest):
        points = [(r, p) for r, p in zip(curve.recall, curve.precision, strict=True) if r > 0]
        width = 2.2 if label == "all" else 1.0
        axis.plot([r for r, _ in points], [p for _, p in points], label=label, linewidth=width)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axis.legend(frameon=False)


def _samples(axes: Sequence[Axes], data: DetectionData, found: Sequence[Detections], confidence: float) -> None:
    """Images from the worst to the best detections, evenly spaced."""
    order = np.argsort([_agreement(one, data.test, i, confidence) for i, one in enumerate(found)])
    picked = order[np.linspace(0, len(order) - 1, min(_SAMPLES, len(order))).round().astype(int)]
    for axis in axes:
        axis.axis("off")
    for row, index in enumerate(picked):
        frame, one = data.test.letterboxes[index], found[index]
        keep = one.scores >= confidence
        truth = data.test.fitted_boxes(int(index))
        for axis, boxes, labels, scores in (
            (axes[2 * row], truth, data.test.labels[index], None),
            (axes[2 * row + 1], frame.to_frame(one.boxes[keep]), one.classes[keep], one.scores[keep]),
        ):
            _draw(axis, data.test.images[index], boxes, labels, data.classes, scores)
        axes[2 * row].set_title(data.test.names[index], fontsize=8)


def _agreement(one: Detections, split: DetectionSplit, index: int, confidence: float) -> float:
    keep = one.scores >= confidence
    if not keep.any() or not len(split.boxes[index]):
        return float(not keep.any() and not len(split.boxes[index]))
    same = one.classes[keep][:, None] == split.labels[index][None]
    hits = (box_iou(one.boxes[keep], split.boxes[index]) * same >= 0.5).any(0).sum()
    return float(2 * hits / (keep.sum() + len(split.boxes[index])))


def _augmented(axes: Sequence[Axes], data: DetectionData, augment: BoxAugment) -> None:
    count = min(len(axes), len(data.train))
    pixels, boxes, labels = augment(
        data.train.images,
        [torch.from_numpy(data.train.fitted_boxes(index)) for index in range(len(data.train))],
        [torch.from_numpy(one) for one in data.train.labels],
        torch.arange(count),
        torch.Generator().manual_seed(0),
        mosaics=True,
    )
    for axis in axes:
        axis.axis("off")
    for axis, image, corners, classes in zip(axes, pixels, boxes, labels, strict=False):
        _draw(axis, image.permute(1, 2, 0).numpy(), corners.numpy(), classes.numpy(), data.classes)


def _draw(
    axis: Axes,
    image: npt.NDArray[Any],
    boxes: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    scores: npt.NDArray[np.float32] | None = None,
) -> None:
    # Boxes count from the corner of the first pixel, matplotlib from its centre.
    axis.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    for number, ((x_min, y_min, x_max, y_max), label) in enumerate(zip(boxes, labels, strict=True)):
        colour = _COLOURS[label % len(_COLOURS)]
        axis.add_patch(
            Rectangle((x_min, y_min), x_max - x_min, y_max - y_min, fill=False, edgecolor=colour, linewidth=1.2)
        )
        text = classes[label] if scores is None else f"{classes[label]} {scores[number]:.2f}"
        axis.text(x_min, y_min - 1, text, fontsize=5, color="white", va="bottom",
                  bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.4})  # fmt: skip
