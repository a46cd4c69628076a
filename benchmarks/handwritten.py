"""A baseline as one would write it by hand: a FastAPI app with one `session.run` per request in the thread pool.

The session has one thread: requests already run in parallel, and with more they would compete for the cores.

python -m benchmarks.handwritten MODEL_FOLDER PORT [GRAPH_FILE]
"""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.inference.manifest import MODEL
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.registry import read_manifest


class Label(BaseModel):
    """A label and its probability."""

    label: str
    index: int
    probability: float


class Answer(BaseModel):
    """The answer for one image."""

    labels: list[Label]


def create_app(folder: Path, file: str = MODEL) -> FastAPI:
    """The app: decode with Pillow, `session.run` and the five most likely labels, all in a thread of the pool.

    Args:
        folder: of the version.
        file: its graph, or that of a variant.
    """
    manifest = read_manifest(folder)
    if not isinstance(manifest, ClassifierManifest):
        raise TypeError(f"{folder} is not an image classifier")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
    size = (manifest.image.width, manifest.image.height)
    app = FastAPI()

    def classify(body: bytes) -> Answer:
        image = Image.open(io.BytesIO(body)).convert("RGB").resize(size)
        probabilities: Any = session.run(None, {"images": np.asarray(image)[None]})[0][0]
        order = np.argsort(-probabilities)[:5]
        return Answer(
            labels=[Label(label=manifest.labels[i], index=int(i), probability=float(probabilities[i])) for i in order]
        )

    @app.post("/v1/predict")
    async def predict(request: Request) -> Answer:
        return await run_in_threadpool(classify, await request.body())

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(Path(sys.argv[1]), *sys.argv[3:]), port=int(sys.argv[2]), log_level="warning", access_log=False
    )
