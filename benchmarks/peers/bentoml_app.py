"""The classifier with BentoML: adaptive batching in as many processes as there are cores.

python -m bentoml serve benchmarks.peers.bentoml_app:Service --port PORT
"""

import base64
from typing import Any

import bentoml

from benchmarks.peers.classifier import MAX_BATCH, Classifier, decode

PROCESSES = 2  # faster than one with two threads, on two cores


@bentoml.service(workers=PROCESSES)
class Service:
    """Takes a list of images in base64, usually of one image."""

    def __init__(self) -> None:
        self._classifier = Classifier()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)
    def classify(self, images: list[str]) -> list[dict[str, Any]]:
        return self._classifier.classify([decode(base64.b64decode(image)) for image in images])
