"""The effect of convolutions, filters, layers and dropout on a small image classifier.

Each variant differs from the CNN in one thing and is trained several times on the same few images, without
augmentation and for long enough to memorise them. A difference counts as clear only if chance hardly ever gives one as
large in any of the rows.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from scipy.stats import t as student
from torch import nn

from course.study import Row, mean_and_deviation, measure_rows, study_parser, table, write_study
from training.classification.learner import Classification, ClassificationSettings, predict
from training.classification.network import build
from training.classification.options import DEFAULTS, NetworkSettings
from training.data.augment import Augment
from training.data.images import ImageData, ImageSplit, load_images
from training.data.splits import selection_of
from training.engine.fit import fit
from training.engine.settings import FitSettings
from training.export.cards import count_parameters
from training.report.plots import GUIDE, MEASURED, TRAINING, save_figure

MEASURED_IMAGES = 2000
PLAIN = ClassificationSettings(augment=Augment(flip=False, translate=0, cutout=0))
# How often a study may call a difference clear where there is none.
SIGNIFICANCE = 0.05
PLOT = "study.png"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study and writes its report."""
    parser = study_parser("course.filters", __doc__, seeds=5)
    parser.add_argument("--widths", default="64,256,256", help="filters of each group (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=3, help="convolutions per group (default: 3)")
    parser.add_argument("--images", type=int, default=1500, help="training images (default: 1500)")
    parser.add_argument("--epochs", type=int, default=16, help="of each training (default: 16)")
    options = parser.parse_args(arguments)
    data = selection_of(load_images(options.data, limit=options.limit, seed=options.seed))
    train, measured = (
        split.take(np.random.default_rng(options.seed).permutation(len(split))[:count])
        for split, count in ((data.train, options.images), (data.validation, MEASURED_IMAGES))
    )
    base = NetworkSettings(arch="cnn", widths=tuple(map(int, options.widths.split(","))), depth=options.depth)
    # So few images make too few steps with batches of the usual size.
    settings = FitSettings(epochs=options.epochs, batch_size=64, ema=0.0)
    seeds = range(options.seed, options.seed + options.seeds)
    measures = {
        change: partial(
            _measure, network, data, train, measured, settings, seeds, options.folder / "training" / str(row)
        )
        for row, (change, network) in enumerate(variants(base).items())
    }
    origin = {
        "data": data.fingerprint,
        "images": [len(train), len(measured)],
        "seeds": [options.seed, options.seeds],
        "network": dataclasses.asdict(base),
        "settings": dataclasses.asdict(settings),
    }
    rows = measure_rows(options.folder, origin, measures, Console(), side_by_side=True)
    write_report(
        options.folder, rows, f"{options.seeds} trainings of {options.epochs} epochs", len(train), len(measured)
    )


def variants(base: NetworkSettings) -> dict[str, NetworkSettings]:
    """The CNN as it is, the dense network, and the CNN with one setting changed at a time, by what is changed."""
    half, more = (tuple(round(width * factor) for width in base.widths) for factor in (0.5, 1.5))
    changes: dict[str, dict[str, Any]] = {
        "unchanged": {},
        "dense layers": {"arch": "mlp"},
        f"half the filters {half}": {"widths": half},
        f"1.5 times the filters {more}": {"widths": more},
        **{
            f"{depth} convolution{'s' * (depth != 1)} per group": {"depth": depth}
            for depth in (base.depth - 1, base.depth + 1)
            if depth > 0
        },
        "dropout 0.2": {"dropout": 0.2},
        "dropout 0.5": {"dropout": 0.5},
    }
    return {name: dataclasses.replace(base, **change) for name, change in changes.items()}


def _measure(
    network: NetworkSettings,
    data: ImageData,
    train: ImageSplit,
    measured: ImageSplit,
    settings: FitSettings,
    seeds: range,
    folder: Path,
) -> Row:
    """Accuracy on the images trained on and on others, for each seed."""
    default = DEFAULTS["mlp" if network.arch == "mlp" else "cnn"]
    rate = default.lr * settings.batch_size / default.batch_size
    started, figures, accelerator = time.perf_counter(), [], Accelerator()
    for seed in seeds:
        model = build(network, data, seed)
        task = Classification(train, measured.take(np.arange(min(50, len(measured)))), PLAIN)
        short = dataclasses.replace(settings, lr=rate, seed=seed)
        quiet = Console(quiet=True)
        fit(model, task, short, folder, accelerator=accelerator, console=quiet, keep="last")
        figures.append([_accuracy(model, split) for split in (train, measured)])
    known, unknown = (list(column) for column in zip(*figures, strict=True))
    return {
        "parameters": count_parameters(model),
        "train_accuracy": known,
        "validation_accuracy": unknown,
        "seconds": (time.perf_counter() - started) / len(seeds),
    }


def _accuracy(model: nn.Module, split: ImageSplit) -> float:
    return float((predict(model, split.images).argmax(1) == split.labels).mean())


def write_report(folder: Path, rows: Mapping[str, Row], trainings: str, images: int, measured: int) -> None:
    """Writes the table and the figure; the unchanged network comes first."""
    figure = Figure(figsize=(5.6, 1.4 + 0.4 * len(rows)), layout="constrained")
    _draw(figure.subplots(), rows)
    save_figure(figure, folder / PLOT)
    base, *others = (row["validation_accuracy"] for row in rows.values())
    level = SIGNIFICANCE / len(others)
    outcomes = ["", *(compare(base, other, level) for other in others)]
    write_study(
        folder,
        "# The effect of filters, layers and dropout",
        f"Each row is {trainings} on the same {images} training images without augmentation; they differ in their "
        f"initial weights and in the order of the images. Validation accuracy is measured on {measured} images.",
        f"![Accuracy by change]({PLOT})",
        "A dot is a training, a bar the mean of its row. The vertical lines are the means of the unchanged network.",
        table(
            ("change", "parameters", "training accuracy", "validation accuracy", "difference", ""),
            [
                (
                    change,
                    f"{row['parameters']:,}",
                    mean_and_deviation(row["train_accuracy"]),
                    mean_and_deviation(row["validation_accuracy"]),
                    f"{np.mean(row['validation_accuracy']) - np.mean(base):+.4f}" if outcome else "",
                    outcome,
                )
                for (change, row), outcome in zip(rows.items(), outcomes, strict=True)
            ],
        ),
        f"Mean ± standard deviation over the seeds. There are {len(others)} comparisons with the unchanged network; "
        "each is another chance to be misled. *Higher* and *lower* mean that Welch's t-test has a p-value below "
        f"{SIGNIFICANCE:g} / {len(others)} = {level:.4f} (Bonferroni), so that chance alone gives one or more of these "
        f"words in at most {100 * SIGNIFICANCE:.0f} % of such studies. All rows have the same images: with others the "
        "differences may be others.",
    )


def compare(before: Sequence[float], after: Sequence[float], level: float) -> str:
    """Whether the mean of `after` is higher or lower, by Welch's t-test at this level."""
    if not _p_value(before, after) < level:
        return "no clear difference"
    return "higher" if np.mean(after) > np.mean(before) else "lower"


def _p_value(before: Sequence[float], after: Sequence[float]) -> float:
    """Of Welch's t-test; 1 if there is no spread to compare with: values that are all equal, or a single one each."""
    if min(len(before), len(after)) < 2:
        return 1.0
    parts = [np.var(values, ddof=1) / len(values) for values in (before, after)]
    if sum(parts) < 1e-12:
        return 1.0
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (before, after), strict=True)
    )
    return float(2 * student.sf(abs(np.mean(after) - np.mean(before)) / sum(parts) ** 0.5, freedom))


def _draw(axis: Axes, rows: Mapping[str, Row]) -> None:
    for label, figure, colour in (
        ("training images", "train_accuracy", TRAINING),
        ("validation images", "validation_accuracy", MEASURED),
    ):
        for height, row in enumerate(rows.values()):
            values = row[figure]
            if not height:
                axis.axvline(float(np.mean(values)), color=GUIDE, linewidth=1, zorder=0)
            axis.scatter(values, [height] * len(values), s=16, color=colour, alpha=0.6, label=None if height else label)
            axis.scatter(np.mean(values), height, s=160, color=colour, marker="|", linewidths=2)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.invert_yaxis()
    axis.set_xlabel("accuracy")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


if __name__ == "__main__":
    main()
