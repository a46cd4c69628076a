"""Which output of a graph scores labels, and whether by logits or by probabilities: decided by its answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnx import ModelProto

from quartet.adopt.graph import Array, CannotAdopt, RunFailed, open_session, outputs_of
from quartet.adopt.pixels import Scores
from quartet.adopt.samples import Samples

# By how much a sum of probabilities may miss 1.
_ROUNDING = {"float16": 1e-2}


class Scored(NamedTuple):
    """The output of a graph that scores labels.

    Attributes:
        output: its name.
        answers: for the samples, shape (samples, ...).
        kind: what they are, by their values.
        line: the same, for people.
    """

    output: str
    answers: Array
    kind: Scores
    line: str


def find_scores(model: ModelProto, samples: Samples, labels: Sequence[str]) -> Scored:
    """The output that scores the labels: it has as many values for an image as there are labels, or one for two.

    Args:
        model: of `with_pixels`.
        samples: images.
        labels: in the graph's order.

    Raises:
        CannotAdopt: there is none, or its values are those of labels that do not exclude each other.
    """
    session = open_session(model, "model.onnx")
    try:
        calls = [session.run(call) for call in samples.calls]
    except RunFailed as error:
        raise CannotAdopt("samples", f"The graph fails with an image of the size that it states: {error}") from None
    sizes = {}
    for value, answers in zip(outputs_of(model), zip(*calls, strict=True), strict=True):
        each = answers[0]
        if each.dtype.kind != "f" or each.ndim < 1 or len(each) != 1:
            continue
        sizes[value.name] = each.size
        if each.size == len(labels) or (each.size == 1 and len(labels) == 2):
            return Scored(value.name, *_judged(value.name, np.concatenate(answers)))
    stated = ", ".join(f"{name} {size}" for name, size in sizes.items()) or "none of numbers for each image"
    raise CannotAdopt(
        "labels", f"There are {len(labels)} labels, and the outputs of the graph have other sizes: {stated}."
    )


def _judged(name: str, answers: Array) -> tuple[Array, Scores, str]:
    """The answers of an output, what they are, and a line that says so."""
    rows = answers.reshape(len(answers), -1).astype(np.float64)
    if not np.isfinite(rows).all():
        raise CannotAdopt(
            "scores", f"The output {name!r} is not finite for the samples: give images of the kind with --samples."
        )
    rounding = _ROUNDING.get(answers.dtype.name, 1e-3)
    within = bool((rows >= -rounding).all() and (rows <= 1 + rounding).all())
    single = rows.shape[1] == 1
    if within and not single and np.abs(rows.sum(1) - 1).max() > rounding:
        raise CannotAdopt(
            "scores",
            f"The output {name!r} has values between 0 and 1 whose sum is not 1, as where several labels may be true "
            "at once (a sigmoid for each); /v1/predict needs labels that exclude each other. Without --task the graph "
            "is served as plain tensors.",
        )
    what = "the second label" if single else "the labels"
    if within:
        return answers, "probabilities", f"output {name}: probabilities of {what}, as its values show"
    return answers, "logits", f"output {name}: logits of {what}, as its values show; a softmax is added"
