"""The figures and pictures of the course's section on a neuron: activations, XOR, one step of backpropagation.

Everything is plain NumPy, so that each line is one that the section explains, and takes seconds.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course.study import table, write_study
from service.tasks.palette import COLOURS
from training.report.plots import ACCENT, GUIDE, save_figure

Floats = npt.NDArray[np.float64]

INPUTS: Floats = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
XOR: Floats = np.array([0.0, 1.0, 1.0, 0.0])
UNITS = (0, 1, 2, 3, 4, 8)
RECORD = "neuron.json"


def relu(z: Floats) -> Floats:
    """What is positive stays, what is negative becomes 0."""
    return np.maximum(z, 0)


def sigmoid(z: Floats) -> Floats:
    """Any number to one between 0 and 1."""
    return 1 / (1 + np.exp(-z))


ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "step": lambda z: (z > 0).astype(float),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "ReLU": relu,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the pictures, their figures and a report."""
    parser = argparse.ArgumentParser(prog="python -m course.neuron", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/course-neuron"), help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=200, help="trainings of each network (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2000, help="of each training (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    solved = {str(units): solves_xor(units, options.seeds, options.steps) for units in UNITS}
    descents = {str(rate): descent(rate) for rate in (0.02, 0.15, 0.95, 1.05)}
    record = {
        "seeds": options.seeds,
        "steps": options.steps,
        "solved": solved,
        "backpropagation": backpropagation(),
        "losses": losses((0.9, 0.6, 0.5, 0.1, 0.001)),
        "descents": descents,
    }
    (options.folder / RECORD).write_text(json.dumps(_rounded(record), indent=1) + "\n")
    for name, height, rows, columns, draw in (
        ("activations", 4.2, 2, 2, _draw_activations),
        ("line", 2.6, 1, 2, _draw_line),
        ("hidden", 2.9, 1, 2, _draw_hidden),
        ("rates", 4.4, 2, 2, _draw_descents),
    ):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        draw(figure.subplots(rows, columns).flatten())
        save_figure(figure, options.folder / f"{name}.png")
    write_study(
        options.folder,
        "# A neuron",
        "Written by `python -m course.neuron`; the figures are in `" + RECORD + "`.",
        "## XOR from random starts",
        f"Each network (tanh in the hidden layer, sigmoid at the end, cross-entropy, gradient descent with learning "
        f"rate 0.5 on all four rows) was trained {options.seeds} times for {options.steps:,} steps from other random "
        "weights. It has solved XOR if all four answers are on the right side of one half.",
        table(("hidden units", "solved"), [(units, f"{100 * share:.1f} %") for units, share in solved.items()]),
        "![Activation functions](activations.png)",
        "![One neuron draws one line through the plane](line.png)",
        "![The answers of the hand-made network, and the points as its output sees them](hidden.png)",
        "![Gradient descent with four learning rates](rates.png)",
    )


def solves_xor(units: int, seeds: int, steps: int, rate: float = 0.5) -> float:
    """The share of trainings from random weights after which a network with a hidden layer answers all four rows.

    All trainings run at once: the first axis of each array is that of the seeds.
    """
    rng = np.random.default_rng(units)
    hidden, bias = rng.normal(0, 1, (seeds, 2, units)), rng.normal(0, 1, (seeds, 1, units))
    out, shift = rng.normal(0, 1, (seeds, units or 2, 1)), np.zeros((seeds, 1, 1))
    for _ in range(steps):
        seen = np.tanh(INPUTS @ hidden + bias) if units else np.broadcast_to(INPUTS, (seeds, 4, 2))
        error = (sigmoid(seen @ out + shift) - XOR[:, None]) / 4
        back = error @ out.swapaxes(1, 2) * (1 - seen**2)
        out = out - rate * seen.swapaxes(1, 2) @ error
        shift = shift - rate * error.sum(1, keepdims=True)
        if units:
            hidden, bias = hidden - rate * INPUTS.T @ back, bias - rate * back.sum(1, keepdims=True)
    seen = np.tanh(INPUTS @ hidden + bias) if units else np.broadcast_to(INPUTS, (seeds, 4, 2))
    answers = (seen @ out + shift)[..., 0] > 0
    return float((answers == (XOR > 0.5)).all(1).mean())


def backpropagation(rate: float = 0.1) -> dict[str, Any]:
    """One step of gradient descent on one example, for the network that the section works out by hand."""
    x, target = np.array([1.0, 2.0]), 1.0
    weights, biases = np.array([(0.5, -0.1), (-0.3, 0.4)]), np.array([0.1, 0.0])
    out, bias = np.array([0.6, -0.8]), 0.1

    def forward() -> tuple[Floats, float, float]:
        z = weights @ x + biases
        return z, float(out @ relu(z) + bias), float(sigmoid(out @ relu(z) + bias))

    z, logit, p = forward()
    before = {"z": z.tolist(), "h": relu(z).tolist(), "logit": logit, "p": p, "loss": -float(np.log(p))}
    error = p - target
    blame = error * out * (z > 0)
    gradients = {
        "output weights": error * relu(z),
        "output bias": np.array(error),
        "hidden weights": np.outer(blame, x),
        "hidden biases": blame,
    }
    weights, biases = weights - rate * gradients["hidden weights"], biases - rate * gradients["hidden biases"]
    out, bias = out - rate * gradients["output weights"], bias - rate * error
    new = {"output weights": out, "output bias": np.array(bias), "hidden weights": weights, "hidden biases": biases}
    z, logit, p = forward()
    return {
        "rate": rate,
        "before": before,
        "gradients": {name: value.tolist() for name, value in gradients.items()},
        "new": {name: value.tolist() for name, value in new.items()},
        "after": {"z": z.tolist(), "h": relu(z).tolist(), "logit": logit, "p": p, "loss": -float(np.log(p))},
    }


def losses(probabilities: Sequence[float]) -> dict[str, list[float]]:
    """Squared error and cross-entropy of a probability for the true class."""
    return {str(p): [(1 - p) ** 2, -float(np.log(p))] for p in probabilities}


def descent(rate: float, steps: int = 12, start: float = -1.8) -> list[float]:
    """The weights that gradient descent on the loss w² passes: its gradient is 2 w."""
    weights = [start]
    for _ in range(steps):
        weights.append(weights[-1] - rate * 2 * weights[-1])
    return weights


def _rounded(value: Any) -> Any:
    """The same with eight decimals, which do not depend on the machine."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 8) if isinstance(value, float) else value


def _draw_activations(axes: Sequence[Axes]) -> None:
    z = np.linspace(-4, 4, 401)
    for axis, (name, function) in zip(axes, ACTIVATIONS.items(), strict=True):
        axis.axhline(0, color=GUIDE, linewidth=1)
        axis.axvline(0, color=GUIDE, linewidth=1)
        axis.plot(z, function(z), color=ACCENT, linewidth=2)
        axis.set(title=name, xlabel="weighted sum z", ylim=(-1.2, 4.2 if name == "ReLU" else 1.2))


def _draw_line(axes: Sequence[Axes]) -> None:
    """OR and XOR, each with the line of x₁ + x₂ = ½: it answers OR, and one of XOR's rows wrongly."""
    for axis, values, title in (
        (axes[0], INPUTS.max(1), "OR: all four right"),
        (axes[1], XOR, "XOR: one of four wrong"),
    ):
        _plane(axis, lambda x1, x2: x1 + x2 > 0.5, values, title)


def _draw_hidden(axes: Sequence[Axes]) -> None:
    """The answers of the hand-made network, and the points as its output sees them."""
    _plane(axes[0], lambda x1, x2: relu(x1 + x2) - 2 * relu(x1 + x2 - 1) > 0.5, XOR, "the network's answers")
    sums, axis = INPUTS.sum(1), axes[1]
    line = np.array([-0.3, 2.3])
    axis.fill_between(line, -0.4, (line - 0.5) / 2, color=GUIDE, alpha=0.7, linewidth=0)
    _points(axis, np.stack([relu(sums), relu(sums - 1)], 1), XOR)
    axis.annotate("two points", (1.1, -0.03), (1.35, -0.3), arrowprops={"arrowstyle": "-"}, fontsize=9)
    axis.set(title="what its output sees", xlabel="h₁", ylabel="h₂", xlim=(-0.3, 2.3), ylim=(-0.4, 1.4))
    axis.set(xticks=(0, 1, 2), yticks=(0, 1))


def _plane(axis: Axes, answer: Callable[[Floats, Floats], npt.NDArray[np.bool_]], values: Floats, title: str) -> None:
    """The four points with their values; the part of the plane with the answer 1 is shaded."""
    grid = np.linspace(-0.4, 1.4, 361)
    x1, x2 = np.meshgrid(grid, grid)
    axis.contourf(x1, x2, answer(x1, x2), levels=[-0.5, 0.5, 1.5], colors=["white", GUIDE], alpha=0.7)
    _points(axis, INPUTS, values)
    axis.set(title=title, xlabel="x₁", ylabel="x₂", aspect="equal", xticks=(0, 1), yticks=(0, 1))


def _points(axis: Axes, positions: Floats, values: Floats) -> None:
    for value, marker, colour in ((0.0, "o", COLOURS[0]), (1.0, "s", COLOURS[1])):
        chosen = positions[values == value]
        axis.scatter(chosen[:, 0], chosen[:, 1], s=70, marker=marker, color=colour, edgecolor="white", zorder=3)
        for place in chosen:
            axis.annotate(f"{value:.0f}", place, (0, 8), textcoords="offset points", ha="center", fontsize=9)


def _draw_descents(axes: Sequence[Axes]) -> None:
    w = np.linspace(-3, 3, 201)
    for axis, rate in zip(axes, (0.02, 0.15, 0.95, 1.05), strict=True):
        path = np.array(descent(rate))
        axis.plot(w, w**2, color=GUIDE, linewidth=1.5)
        axis.plot(path, path**2, color=ACCENT, marker="o", markersize=4, linewidth=1)
        axis.set(title=f"learning rate {rate}", xlabel="weight", ylabel="loss", xlim=(-3, 3), ylim=(-0.5, 9))


if __name__ == "__main__":
    main()
