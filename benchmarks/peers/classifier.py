"""What every peer does alike: decode a JPEG, run the graph, name the labels. It imports nothing of this project.

The environment variable `PEER_GRAPH` has the path of the graph; the labels are in the manifest beside it.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import simplejpeg

MAX_BATCH = 64
THREADS = 1  # per session: each of a peer's workers has a core of its own
TOP = 5


def decode(jpeg: bytes) -> npt.NDArray[np.uint8]:
    """The RGB pixels of a JPEG, shape (height, width, 3)."""
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg, colorspace="RGB")
    return pixels


class Classifier:
    """A session and the labels of its model."""

    def __init__(self, graph: Path | None = None) -> None:
        graph = graph or Path(os.environ["PEER_GRAPH"])
        self._labels = json.loads((graph.parent / "manifest.json").read_text())["labels"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def classify(self, images: list[npt.NDArray[np.uint8]]) -> list[dict[str, Any]]:
        """The five most likely labels of each image, all in one run of the session."""
        return [self._answer(row) for row in self._session.run(["probabilities"], {"images": np.stack(images)})[0]]

    def _answer(self, probabilities: npt.NDArray[np.float32]) -> dict[str, Any]:
        order = np.argsort(-probabilities)[:TOP]
        return {"labels": [{"label": self._labels[i], "probability": float(probabilities[i])} for i in order]}
