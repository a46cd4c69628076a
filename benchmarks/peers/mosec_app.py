"""The classifier with mosec: one stage that decodes and runs whole batches, in as many processes as there are cores.

python -m benchmarks.peers.mosec_app --port PORT
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from mosec import Server, Worker

from benchmarks.peers.classifier import MAX_BATCH, Classifier, decode

PROCESSES = 2
WAIT_MS = 1  # mosec's minimum


class Stage(Worker):
    """Decodes each body, then classifies the batch."""

    def __init__(self) -> None:
        super().__init__()
        self._classifier = Classifier()

    def deserialize(self, data: bytes) -> npt.NDArray[np.uint8]:
        return decode(data)

    def forward(self, data: list[npt.NDArray[np.uint8]]) -> list[dict[str, Any]]:
        return self._classifier.classify(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Stage, num=PROCESSES, max_batch_size=MAX_BATCH, max_wait_time=WAIT_MS)
    server.run()
