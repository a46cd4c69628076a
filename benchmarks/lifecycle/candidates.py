"""Versions that pass every check and fail all the same: made from a good version by adding to its graph."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.torture.publishing import replace, state_digest
from service.inference.manifest import GOLDEN, MANIFEST, MODEL


def fail_on_others(folder: Path) -> None:
    """Lets the graph of an image model fail on every input but those that it is checked with.

    The sum of an image's pixels is compared with the sums of the golden images, and with that of the black images of
    the warm-up. For any other sum an element is looked up that is not there, which the runtime refuses.
    """
    document = json.loads((folder / MANIFEST).read_bytes())
    document["variants"] = []  # they would be faster, and answer
    (spec,), output = document["inputs"], document["outputs"][0]["name"]
    with np.load(folder / GOLDEN) as golden:
        images = golden[spec["name"]]
    known = np.unique([0, *images.astype(np.int64).sum(axis=tuple(range(1, images.ndim)))])
    model = onnx.load(folder / MODEL)
    producer = next(node for node in model.graph.node if output in node.output)
    producer.output[list(producer.output).index(output)] = "answer"
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == output:
                node.input[index] = "answer"
    axes = np.arange(1, images.ndim)
    scores = len(document["outputs"][0]["shape"])
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value), f"known_{name}")
        for name, value in {
            "axes": axes, "sums": known, "zero": np.zeros(1, np.float32), "one": np.int64(1), "last": np.array([1]),
            "more": np.arange(1, scores),
        }.items()
    )  # fmt: skip
    model.graph.node.extend(
        [
            helper.make_node("Cast", [spec["name"]], ["pixels_as_integers"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["pixels_as_integers", "known_axes"], ["sum_of_pixels"], keepdims=0),
            helper.make_node("Unsqueeze", ["sum_of_pixels", "known_last"], ["sums_as_column"]),
            helper.make_node("Equal", ["sums_as_column", "known_sums"], ["equal_sums"]),
            helper.make_node("Cast", ["equal_sums"], ["equal_as_integers"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["equal_as_integers", "known_last"], ["is_known"], keepdims=0),
            helper.make_node("Sub", ["known_one", "is_known"], ["place"]),
            # One element is there, so the place of an unknown image is out of bounds.
            helper.make_node("Gather", ["known_zero", "place"], ["nothing"]),
            helper.make_node("Unsqueeze", ["nothing", "known_more"], ["nothing_as_answer"]),
            helper.make_node("Add", ["answer", "nothing_as_answer"], [output]),
        ]
    )
    replace(folder / MODEL, model.SerializeToString())
    replace(folder / MANIFEST, json.dumps(document).encode())
    state_digest(folder, MODEL)
