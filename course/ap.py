"""Average precision by hand: the boxes that a published detector found in one test image, from the best score down.

Each box is a hit or a false one. Precision and recall after each box, their envelope and the area under it follow.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from course.study import study_parser, table, write_study
from course.suppression import in_order_of
from service.inference.manifest import MANIFEST, MODEL
from service.tasks.detection.manifest import DetectorManifest
from training.data.dataset import DataError
from training.detection.data import load_detection
from training.detection.evaluation import box_iou
from training.detection.evaluator import answers
from training.report.plots import ACCENT, GUIDE, MEASURED, save_figure

Floats = npt.NDArray[Any]
OVERLAP = 0.5
# The boxes below are many, hardly ever right, and change the area by little.
LEAST_SCORE = 0.1
# Inches.
WIDTH = 5.6
HIT, FALSE = ACCENT, "#D55E00"
RECORD, PICTURE, BOXES, CURVE = "ap.json", "image.jpg", "boxes.jpg", "curve.png"


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the walk through the boxes, its pictures and a report."""
    parser = study_parser("course.ap", __doc__)
    parser.add_argument("--version", type=Path, default=Path("models/detector/1"), help="default: %(default)s")
    parser.add_argument("--image", default="BloodImage_00057.jpg", help="a test image (default: %(default)s)")
    parser.add_argument("--label", default="RBC", help="the class (default: %(default)s)")
    options = parser.parse_args(arguments)
    manifest = DetectorManifest.model_validate_json((options.version / MANIFEST).read_bytes())
    size = (manifest.image.height, manifest.image.width)
    data = in_order_of(manifest.labels, load_detection(options.data, size=size, limit=options.limit, seed=options.seed))
    if options.image not in data.test.names or options.label not in data.classes:
        raise DataError(f"{data.name} [test]: has no image {options.image} or no class {options.label}.")
    index, label = data.test.names.index(options.image), data.classes.index(options.label)
    one = data.test.take(np.array([index]))
    found, frame = answers(options.version / MODEL, one)[0], one.letterboxes[0]
    found = found.select((found.classes == label) & (found.scores >= LEAST_SCORE))
    left, top = frame.left, frame.top
    picture = one.images[0][top : top + frame.content_height, left : left + frame.content_width]

    def placed(boxes: Floats) -> Floats:
        moved: Floats = frame.to_frame(boxes) - np.array([left, top] * 2)
        return moved

    truths = placed(one.boxes[0][one.labels[0] == label])
    record = {
        "file": options.image,
        "model": f"{manifest.name}/{options.version.name}",
        "image": PICTURE,
        "width": frame.content_width,
        "height": frame.content_height,
        "label": options.label,
        "overlap": OVERLAP,
        "least_score": LEAST_SCORE,
        "truths": np.round(truths, 1).tolist(),
        **walk(found.scores, placed(found.boxes), truths),
    }
    write_report(options.folder, record, picture)


def walk(scores: Floats, boxes: Floats, truths: Floats) -> dict[str, Any]:
    """What becomes of each box, from the highest score to the lowest, and the average precision.

    A box is a hit if its overlap with a true box that no better box has taken is at least `OVERLAP`. Scores are
    rounded to four decimals; equal ones keep their order.

    Args:
        scores: shape (n,).
        boxes: x_min, y_min, x_max, y_max, shape (n, 4).
        truths: the true boxes, shape (m, 4).
    """
    overlaps, free, hits = box_iou(boxes, truths), np.ones(len(truths), dtype=bool), 0
    rows: list[dict[str, Any]] = []
    for number, index in enumerate(np.argsort(-scores, kind="stable"), start=1):
        there = np.where(free, overlaps[index], 0.0)
        best = int(there.argmax()) if len(truths) else None
        overlap = float(there[best]) if best is not None else 0.0
        hit = overlap >= OVERLAP
        if hit:
            hits, free[best] = hits + 1, False
        rows.append(
            {
                "score": round(float(scores[index]), 4),
                "box": np.round(boxes[index], 1).tolist(),
                "iou": round(overlap, 3),
                "truth": best if hit else None,
                "hit": hit,
                "precision": round(hits / number, 4),
                "recall": round(hits / max(1, len(truths)), 4),
            }
        )
    hit_at = np.array([row["hit"] for row in rows], dtype=bool)
    counts = np.arange(1, len(rows) + 1)
    precision, recall = np.cumsum(hit_at) / counts, np.cumsum(hit_at) / max(1, len(truths))
    best_precision = envelope(precision)
    for row, value in zip(rows, best_precision.tolist(), strict=True):
        row["envelope"] = round(value, 4)
    hundredths = np.searchsorted(recall, np.linspace(0, 1, 101) - 1e-9)
    sampled = np.append(best_precision, 0.0)[hundredths]
    return {
        "boxes": rows,
        "ap": round(float((np.diff(recall, prepend=0.0) * best_precision).sum()), 4),
        "ap_101": round(float(sampled.mean()), 4),
        "definition": "ap: area under the envelope; ap_101: its mean at the recalls 0, 0.01, … 1, as for COCO",
    }


def envelope(precision: Floats) -> Floats:
    """The best precision at each box or at a later one, which has the same recall or more."""
    best: Floats = np.maximum.accumulate(precision[::-1])[::-1]
    return best


def write_report(folder: Path, record: dict[str, Any], picture: npt.NDArray[np.uint8]) -> None:
    """Writes the record, the picture as it is, its boxes, the curve, and the report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    Image.fromarray(picture).save(folder / PICTURE, quality=80)
    rows, truths = record["boxes"], record["truths"]
    figure = Figure(figsize=(WIDTH, WIDTH * picture.shape[0] / picture.shape[1]))
    _draw_boxes(figure.add_axes((0, 0, 1, 1)), picture, rows, truths)
    save_figure(figure, folder / BOXES)
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    _draw_curve(figure.subplots(), rows, record["ap"])
    save_figure(figure, folder / CURVE)
    hits = sum(row["hit"] for row in rows)
    terms = _terms(rows, len(truths))
    write_study(
        folder,
        "# Average precision by hand",
        f"The boxes of the class {record['label']} that `{record['model']}` found in the test image {record['file']} "
        f"with a score of {LEAST_SCORE:g} or more, from the highest score to the lowest. A box is a hit if its IoU "
        f"with a true box that no better box has taken is {OVERLAP:g} or more. There are {len(truths)} true boxes: "
        f"{hits} are found and {len(truths) - hits} missed.",
        f"![True boxes, dashed, and found boxes with their numbers]({BOXES})",
        "Dashed: true boxes. Blue: hits. Orange: false boxes. The numbers are those of the table.",
        table(
            ("box", "score", "IoU", "hit", "hits so far", "precision", "recall", "envelope"),
            [
                (
                    number,
                    f"{row['score']:.2f}",
                    f"{row['iou']:.2f}",
                    "yes" if row["hit"] else "no",
                    f"{(done := sum(each['hit'] for each in rows[:number]))} of {number}",
                    f"{done}/{number} = {row['precision']:.3f}",
                    f"{done}/{len(truths)} = {row['recall']:.3f}",
                    f"{row['envelope']:.3f}",
                )
                for number, row in enumerate(rows, start=1)
            ],
        ),
        f"![Precision over recall, the envelope and the area under it]({CURVE})",
        "The envelope is the best precision at this box or at a later one. Each hit moves recall by "
        f"1/{len(truths)}, so the area under the envelope is a sum with one term for each hit:",
        f"AP = ({terms}) / {len(truths)} = {record['ap']:.3f}",
        f"Tools that follow COCO take the mean of the envelope at the recalls 0, 0.01, … 1 instead; here it is "
        f"{record['ap_101']:.3f}. The AP of a data set ranks the boxes of all its images together.",
    )


def _terms(rows: Sequence[dict[str, Any]], truths: int) -> str:
    missed = truths - sum(row["hit"] for row in rows)
    return " + ".join([*(f"{row['envelope']:.3f}" for row in rows if row["hit"]), *(["0"] * missed)])


def _draw_boxes(
    axis: Axes, picture: npt.NDArray[np.uint8], rows: Sequence[dict[str, Any]], truths: Sequence[Sequence[float]]
) -> None:
    height, width = picture.shape[:2]
    axis.axis("off")
    axis.imshow(picture, extent=(0, width, height, 0))
    for truth in truths:
        axis.add_patch(_rectangle(truth, "white", linewidth=3.2))
        axis.add_patch(_rectangle(truth, MEASURED, linewidth=1.6, linestyle="--"))
    for number, row in reversed([*enumerate(rows, start=1)]):
        colour = HIT if row["hit"] else FALSE
        axis.add_patch(_rectangle(row["box"], colour, linewidth=2))
        label = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
        x, y = row["box"][:2]
        axis.text(x + 4, y + 4, str(number), color="white", fontsize=11, va="top", bbox=label, clip_on=True)


def _rectangle(box: Sequence[float], colour: str, **style: Any) -> Rectangle:
    left, top, right, bottom = box
    return Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, **style)


def _draw_curve(axis: Axes, rows: Sequence[dict[str, Any]], area: float) -> None:
    recall, precision, best = (np.array([row[name] for row in rows]) for name in ("recall", "precision", "envelope"))
    edges, steps = np.append(0, recall), np.append(best[:1], best)
    axis.fill_between(edges, steps, step="pre", color=ACCENT, alpha=0.15, linewidth=0, label=f"area: AP {area:.3f}")
    axis.plot(edges, steps, drawstyle="steps-pre", color=ACCENT, linewidth=1.6, label="envelope")
    axis.plot(recall, precision, color=MEASURED, linewidth=1, label="precision after each box")
    for number, row in enumerate(rows, start=1):
        colour = HIT if row["hit"] else FALSE
        axis.scatter(row["recall"], row["precision"], s=34, color=colour, zorder=3)
        axis.annotate(str(number), (row["recall"], row["precision"]), (6, -12), textcoords="offset points", fontsize=9)
    axis.axvline(1, color=GUIDE, linewidth=1, zorder=0)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.05), ylim=(0, 1.08))
    axis.legend(loc="lower left")


if __name__ == "__main__":
    main()
