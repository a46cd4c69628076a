"""Has a tiny model tell how unlike its training data an input is: the darker, the less familiar."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.inference.manifest import sha256
from service.tasks.familiarity import UNFAMILIAR

CARD = {"method": "the largest number in it", "calibrated_on": 1000, "test_below": {"0.01": 0.01, "0.05": 0.05}}


def make_familiar(folder: Path, largest: float) -> Path:
    """Changes the version in `folder`; its p-values are the largest number of an input, in parts of `largest`."""
    model = onnx.load(folder / "model.onnx")
    name = model.graph.input[0].name
    model.graph.node.extend(
        [
            helper.make_node("Cast", [name], ["familiarity_numbers"], to=TensorProto.FLOAT),
            helper.make_node("IsNaN", ["familiarity_numbers"], ["familiarity_missing"]),
            helper.make_node(
                "Where", ["familiarity_missing", "familiarity_zero", "familiarity_numbers"], ["familiarity_known"]
            ),
            helper.make_node("Flatten", ["familiarity_known"], ["familiarity_flat"]),
            helper.make_node("ReduceMax", ["familiarity_flat", "familiarity_axis"], ["familiarity_most"], keepdims=0),
            helper.make_node("Div", ["familiarity_most", "familiarity_largest"], ["familiarity_share"]),
            helper.make_node("Clip", ["familiarity_share", "familiarity_zero", "familiarity_one"], [UNFAMILIAR]),
        ]
    )
    constants = {"zero": np.float32(0), "one": np.float32(1), "largest": np.float32(largest), "axis": np.array([1])}
    for constant, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"familiarity_{constant}"))
    model.graph.output.append(helper.make_tensor_value_info(UNFAMILIAR, TensorProto.FLOAT, ["batch"]))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")

    with np.load(folder / "golden.npz") as golden:
        arrays = dict(golden)
    numbers = np.nan_to_num(arrays[name].astype(np.float32)).reshape(len(arrays[name]), -1)
    arrays[UNFAMILIAR] = (numbers.max(1) / np.float32(largest)).clip(0, 1)
    np.savez(folder / "golden.npz", **arrays)

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["outputs"].append({"name": UNFAMILIAR, "dtype": "float32", "shape": [-1]})
    manifest["familiarity"] = CARD
    if "lists" in manifest["golden"]:
        manifest["golden"]["tolerances"] = {UNFAMILIAR: 1e-5}
    manifest["files"] |= {file: sha256(folder / file) for file in ("model.onnx", "golden.npz")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
