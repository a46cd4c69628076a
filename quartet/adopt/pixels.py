"""Nodes before and after a graph of images: it then takes uint8 pixels and answers probabilities."""

from typing import Literal

import numpy as np
from onnx import ModelProto

from quartet.adopt.batching import BATCH
from quartet.adopt.composition import Composition, element_of
from quartet.adopt.graph import Array, declare, inputs_of
from quartet.adopt.preprocessing import Preprocessing

Scores = Literal["logits", "probabilities"]

# Before the logarithm: the least positive number that is not subnormal.
_TINY = np.finfo(np.float32).tiny


def with_pixels(model: ModelProto, prepared: Preprocessing) -> ModelProto:
    """The graph with an input of uint8 pixels, shape (batch, height, width, channels), instead of its only one."""
    composition = Composition(model)
    (inner,) = inputs_of(model)
    images = pixels = composition.name("images")
    if prepared.bgr:
        pixels = composition.before("Gather", pixels, composition.constant([2, 1, 0]), axis=3)
    if prepared.layout == "nchw":
        pixels = composition.before("Transpose", pixels, perm=[0, 3, 1, 2])
    elif prepared.layout == "nhw":
        # The first axis stays as it is.
        sizes = composition.constant([0, prepared.height, prepared.width])
        pixels = composition.before("Reshape", pixels, sizes)
    if prepared.dtype != "uint8":
        # Half precision has too few digits for the statistics.
        wide = "float64" if prepared.dtype == "float64" else "float32"
        pixels = composition.before("Cast", pixels, to=element_of(wide))
        shape = {"nchw": (-1, 1, 1), "nhwc": (-1,), "nhw": (-1, 1)}[prepared.layout]
        for operator, values, neutral in (("Sub", prepared.mean, 0), ("Div", prepared.std, 1)):
            if any(value != neutral for value in values):
                by = composition.constant(np.array(values, wide).reshape(shape))
                pixels = composition.before(operator, pixels, by)
        if prepared.dtype == "float16":
            pixels = composition.before("Cast", pixels, to=element_of("float16"))
    composition.before("Identity", pixels, output=inner.name)
    return composition.finish([declare(images, "uint8", [BATCH, *prepared.shape])], model.graph.output)


def with_probabilities(model: ModelProto, output: str, answer: Array, scores: Scores, labels: int) -> ModelProto:
    """The graph with a single output, probabilities: float32 of shape (batch, labels), by a softmax, the last node.

    Args:
        model: of `with_pixels`.
        output: the scores of the labels, or of the second of two.
        answer: its values for an image.
        scores: what they are.
        labels: their number.
    """
    composition = Composition(model)
    found = output
    if answer.dtype != np.float32:
        found = composition.after("Cast", found, to=element_of("float32"))
    if answer.ndim != 2:
        found = composition.after("Flatten", found, axis=1)
    if answer.size == 1 and labels == 2:
        whole = composition.constant(np.ones((1, 1), np.float32)) if scores == "probabilities" else found
        found = composition.after("Concat", composition.after("Sub", whole, found), found, axis=1)
    if scores == "probabilities":
        # Their logarithms are logits, which calibration can scale.
        positive = composition.after("Add", found, composition.constant(_TINY))
        found = composition.after("Log", positive)
    name = composition.name("probabilities")
    composition.after("Softmax", found, output=name, axis=1)
    return composition.finish(model.graph.input, [declare(name, "float32", [BATCH, labels])])


def input_of(model: ModelProto) -> str:
    """The name of the only input."""
    (value,) = inputs_of(model)
    return value.name
