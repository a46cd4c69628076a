"""What the study of filters, layers and dropout shows: its figure, its table, and a sentence on each change."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from training.report.markdown import table
from training.report.plots import GUIDE, MEASURED, TRAINING, save_plot
from training.rows import Row

PLOT = "study.png"
# Why validation accuracy may be lower, the same or higher after a change of each kind.
_WHY = {
    "dense": (
        "a dense layer has a weight for every pixel and learns a shape anew wherever it appears, so with few images it "
        "learns these by heart rather than what they have in common",
        "what the filters share between positions gains nothing on these images",
        "on these images it matters where something is, which a filter that slides over the image does not see",
    ),
    "fewer filters": (
        "fewer filters distinguish fewer patterns",
        "the filters that are left suffice for what so few images can teach",
        "with fewer weights there is less room for learning the images by heart",
    ),
    "more filters": (
        "the further filters learn the images by heart",
        "the filters that were there suffice for what so few images can teach",
        "more filters distinguish more patterns",
    ),
    "fewer layers": (
        "patterns of patterns need layers, and the last layer sees less of the image",
        "so few images do not teach what further layers could put together",
        "a shallower network is trained more easily, and has fewer weights to learn the images by heart",
    ),
    "more layers": (
        "a deeper network is trained less easily, and has more weights to learn the images by heart",
        "so few images do not teach what further layers could put together",
        "further layers put patterns together to larger ones, and see more of the image",
    ),
    "dropout": (
        "switched off, units are missing in a network that has few, and the short training does not make up for it",
        "it switches off the last features alone, and the layers before them learn as they did",
        "no unit may rely on another, so less is learned by heart",
    ),
}
# Where training accuracy itself falls by so much, that is why; dropout may do so.
_MUCH = 0.1
_UNDERFITS = "so many units are missing at each step that even the training images are not learned: it underfits"


def write_study_section(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Draws the figure into `folder`, and returns the section of the report.

    Args:
        folder: of the report.
        rows: of `training.classification.study.run_study`; the network as it is comes first.
    """
    save_plot(folder / PLOT, 8, 1.2 + 0.42 * len(rows), 1, lambda axes: _draw(axes[0], rows))
    first, seeds = rows[0], len(rows[0]["validation_accuracy"])
    return [
        "## The effect of filters, layers and dropout",
        f"Each row is {seeds} trainings of {first['epochs']} epochs on the same {first['train']} training images, "
        "without a teacher and without augmentation, so that every network has the time to learn them by heart; they "
        f"differ in their initial weights and in the order of the images. Accuracy is measured on {first['measured']} "
        "validation images, so the rows are comparable only with each other, not with the table above.",
        f"![Accuracy by change]({PLOT})",
        table(
            ("change", "parameters", "training accuracy", "validation accuracy", "seconds"),
            [
                (
                    row["change"],
                    f"{row['parameters']:,}",
                    _spread(row["train_accuracy"]),
                    _spread(row["validation_accuracy"]),
                    f"{row['seconds']:.0f}",
                )
                for row in rows
            ],
        ),
        f"Mean ± standard deviation over the {seeds} seeds. *Higher* and *lower* are said only where the values of all "
        "seeds are on one side of all values of the unchanged network.",
        "\n".join(f"- {_sentence(row, first)}" for row in rows[1:]),
    ]


def _sentence(row: Row, base: Row) -> str:
    """What a change does, and why."""
    before, after = base["validation_accuracy"], row["validation_accuracy"]
    side = int(min(after) > max(before)) - int(max(after) < min(before))
    outcome = ("lower", "not clearly different", "higher")[side + 1]
    fall = float(np.mean(base["train_accuracy"]) - np.mean(row["train_accuracy"]))
    why = _UNDERFITS if row["kind"] == "dropout" and side <= 0 and fall > _MUCH else _WHY[row["kind"]][side + 1]
    gap, change = (float(np.mean(one["train_accuracy"]) - np.mean(one["validation_accuracy"])) for one in (base, row))
    return (
        f"**{row['change']}**: validation accuracy is {outcome} ({np.mean(after):.3f} instead of "
        f"{np.mean(before):.3f}), and training accuracy is above it by {change:.3f} instead of {gap:.3f}; "
        f"{why}."
    )


def _spread(values: Sequence[float]) -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.4f} ± {deviation:.4f}"


def _draw(axis: Axes, rows: Sequence[Row]) -> None:
    for name, figure, colour in (
        ("training", "train_accuracy", TRAINING),
        ("validation", "validation_accuracy", MEASURED),
    ):
        axis.axvline(float(np.mean(rows[0][figure])), color=GUIDE, linewidth=1, zorder=0)
        for height, row in enumerate(rows):
            values = row[figure]
            label = f"{name} images" if not height else None
            axis.scatter(values, [height] * len(values), s=16, color=colour, alpha=0.6, label=label)
            axis.scatter(np.mean(values), height, s=160, color=colour, marker="|", linewidths=2)
    axis.set_yticks(range(len(rows)), [row["change"] for row in rows])
    axis.invert_yaxis()
    axis.set(
        xlabel="accuracy (a dot for each seed, a bar for their mean)",
        title=f"{rows[0]['epochs']} epochs on {rows[0]['train']} images; the lines are those of the unchanged network",
    )
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
