"""A real text classifier that costs nothing: counts the words of two topics."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from service.inference.manifest import sha256
from tests.tiny import manifest as image_manifest

LABELS = ("animals", "plants")
WORDS = {"[PAD]": 0, "[UNK]": 1, "cat": 2, "dog": 3, "oak": 4, "fern": 5, "the": 6}
LONGEST = 12


def write_topics(models: Path) -> None:
    """Writes `topics/1` below `models`.

    Logits are how often words of each topic occur; whatever else there is counts for neither.
    """
    folder = models / "topics" / "1"
    folder.mkdir(parents=True)
    votes = np.zeros((len(WORDS), 2), np.float32)
    votes[[2, 3], 0] = votes[[4, 5], 1] = 1
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Gather", ["votes", "ids"], ["each"]),
                helper.make_node("ReduceSum", ["each", "words"], ["logits"], keepdims=0),
                helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
            ],
            "tiny",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
            [numpy_helper.from_array(votes, "votes"), numpy_helper.from_array(np.array([1], np.int64), "words")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, folder / "model.onnx")
    ids = np.array([[2, 6, 0], [4, 5, 5]])
    powers = np.exp(votes[ids].sum(1))
    np.savez(folder / "golden.npz", ids=ids, probabilities=powers / powers.sum(1, keepdims=True))
    tokenizer = Tokenizer(WordLevel(WORDS, "[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.enable_truncation(LONGEST)
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {path.name: sha256(path) for path in folder.iterdir()}
    quality = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 10}
    written = {key: value for key, value in image_manifest().items() if key != "image"}
    written |= {
        "name": "topics",
        "task": "text",
        "labels": LABELS,
        "inputs": [{"name": "ids", "dtype": "int64", "shape": [-1, -1]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, 2]}],
        "max_length": LONGEST,
        "words": len(WORDS),
        "golden": {"rows": 2, "atol": 1e-5},
        "files": files,
    }
    written["metrics"]["per_class"] = [{"label": label, **quality} for label in LABELS]
    (folder / "manifest.json").write_text(json.dumps(written))
