"""Learning curves: what a training measured in every epoch, after the trainings that it goes on from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from service.inference.cards import Step
from training.export.history import TRAIN
from training.report.plots import ACCENT, GUIDE, MEASURED, TRAINING, WIDTH, save_plot
from training.report.record import read_record, update_record

if TYPE_CHECKING:  # an evaluation draws without torch
    from training.engine.checkpoint import FitState

VALUES = ("history", "initial")
# The epoch whose weights were kept.
_CHOSEN: dict[str, Any] = {
    "marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": ACCENT, "markeredgewidth": 2,
    "linestyle": "none",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure of a training over its epochs.

    Attributes:
        figure: its name in the history, without `train_` or `validation_`.
        label: of the vertical axis.
        training: another name in the training's part of the history, where the two differ.
        logarithmic: whether the vertical axis is, where the values span a power of ten.
    """

    figure: str
    label: str
    training: str = ""
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """What becomes of a training's weights, where these are not those of its best epoch.

    Attributes:
        described: where the weights lie.
        figures: of them on the items that validation curves show, by the name of the curve.
    """

    described: str
    figures: Mapping[str, float]


def between(share: float, best_epoch: int) -> str:
    """Where weights lie that were moved back towards the first ones of their training."""
    return f"{share:.0%} of the way from epoch 0 to epoch {best_epoch}"


def write_curves(
    folder: Path,
    state: "FitState",
    *curves: Curve,
    before: Sequence[Step] = (),
    earlier: Sequence[Mapping[str, Any]] = (),
    published: Published | None = None,
) -> None:
    """Draws the learning curves of the version in `folder`, and records their values.

    Args:
        state: of the training that made the version.
        curves: one below the other.
        before: the recorded history of the first weights.
        earlier: records of the trainings that this one goes on from, the first one first: `history` and `initial`.
        published: the weights of the version, if they are not those of the best epoch.
    """
    update_record(folder, history=state.history, initial=state.initial)
    if earlier:
        update_record(folder, earlier=list(earlier))
    if published:
        update_record(folder, published=asdict(published))
    redraw_curves(folder, *curves, best_epoch=state.best_epoch, before=before)


def redraw_curves(folder: Path, *curves: Curve, best_epoch: int, before: Sequence[Step] = ()) -> None:
    """Draws the learning curves that the version in `folder` has recorded."""
    record = read_record(folder)
    runs = [*record.get("earlier", ()), {name: record[name] for name in VALUES}]
    published = Published(**record["published"]) if "published" in record else None
    trained = [step for step in before if step.kind == TRAIN]
    lost = trained[: max(0, len(trained) - len(runs) + 1)]

    def draw(axes: Sequence[Axes]) -> None:
        for axis, curve in zip(axes, curves, strict=True):
            draw_curve(axis, runs, curve, best_epoch, published)
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1))
        axes[-1].set_xlabel(f"epoch{_began(lost)}")

    save_plot(folder, "learning-curves.png", WIDTH, 1.1 + 2.3 * len(curves), draw, rows=len(curves))


def draw_curve(
    axis: Axes,
    runs: Sequence[Mapping[str, Any]],
    curve: Curve,
    best_epoch: int,
    published: Published | None = None,
) -> None:
    """Draws a figure on training and validation items over the epochs of some trainings that follow each other.

    A training figure is a mean over an epoch in which the network changed, so it stands in the middle of its epoch;
    validation is measured after each epoch, and before the first one. Of the last training the epoch whose weights were
    kept is marked.
    """
    start, drawn = 0, []
    for number, run in enumerate(runs):
        history, is_last = run["history"], number == len(runs) - 1
        # A line through one point cannot be seen.
        style: dict[str, Any] = {"marker": "." if len(history) < 6 else ""}
        name = f"train_{curve.training or curve.figure}"
        if all(name in row for row in history):
            values, middles = [row[name] for row in history], start + np.arange(len(history)) + 0.5
            label = "training (mean of the epoch)" if is_last else None
            axis.plot(middles, values, color=TRAINING, label=label, **style)
            drawn += values
        points = _validated(run, curve.figure)
        if points:
            label = "validation (after the epoch)" if is_last else None
            axis.plot([start + x for x in points], [*points.values()], color=MEASURED, label=label, **style)
            drawn += points.values()
        if is_last and published is None and best_epoch in points:
            axis.plot(start + best_epoch, points[best_epoch], **_CHOSEN, label=f"published: epoch {best_epoch}")
        if number:
            axis.axvline(start, color=GUIDE, linewidth=1, zorder=0)
        start += len(history)
    if published and curve.figure in published.figures:
        value = published.figures[curve.figure]
        axis.axhline(value, color=ACCENT, linewidth=1, linestyle="--", label=f"published: {published.described}")
        drawn.append(value)
    axis.set(ylabel=curve.label, xlim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    # On a logarithmic axis of less than that there is hardly a number to read.
    if curve.logarithmic and max(drawn) > 10 * min(drawn) > 0:
        axis.set_yscale("log")


def _validated(run: Mapping[str, Any], figure: str) -> dict[int, float]:
    """A figure on validation items by epoch, as far as it was measured."""
    points = {0: run["initial"][figure]} if figure in (run["initial"] or {}) else {}
    name = f"validation_{figure}"
    if all(name in row for row in run["history"]):
        points |= {number: row[name] for number, row in enumerate(run["history"], 1)}
    return points


def _began(lost: Sequence[Step]) -> str:
    """Where the weights of epoch 0 come from, given the trainings whose values are not known."""
    if not lost:
        return ""
    epochs = [step.epochs for step in lost]
    what = f"{sum(filter(None, epochs))} epochs" if all(epochs) else "earlier trainings"
    return f" (0: after {what}, which left no curve)"
