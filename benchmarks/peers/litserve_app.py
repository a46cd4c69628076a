"""The classifier with LitServe: a worker for each core, which decodes and runs whole batches.

LitServe reads JSON and forms only, so that the image comes in base64, as in its documentation.

python -m benchmarks.peers.litserve_app PORT
"""

import base64
import sys
from typing import Any

import litserve
import numpy as np
import numpy.typing as npt

from benchmarks.peers.classifier import MAX_BATCH, Classifier, decode

WORKERS = 2  # faster than one with two threads, on two cores
WAIT_S = 0.001


class Api(litserve.LitAPI):
    """Decodes each request, then classifies the batch."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's signature
        self._classifier = Classifier()

    def decode_request(self, request: dict[str, str]) -> npt.NDArray[np.uint8]:
        return decode(base64.b64decode(request["image"]))

    def batch(self, inputs: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        return inputs

    def predict(self, x: list[npt.NDArray[np.uint8]]) -> list[dict[str, Any]]:
        return self._classifier.classify(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
