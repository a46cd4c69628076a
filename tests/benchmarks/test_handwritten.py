import io

import onnxruntime as ort
import pytest
from PIL import Image
from starlette.testclient import TestClient

from benchmarks.handwritten import create_app
from service.inference.manifest import MODEL
from tests.server import ROOT

FOLDER = ROOT / "models" / "classifier" / "1"


@pytest.mark.parametrize("file", [MODEL, "int8.onnx"])
def test_the_baseline_answers_with_either_graph_on_one_thread(file, monkeypatch):
    made = []

    class Session(ort.InferenceSession):
        def __init__(self, path, options, **more):
            made.append((path.name, options.intra_op_num_threads))
            super().__init__(path, options, **more)

    monkeypatch.setattr(ort, "InferenceSession", Session)
    app = create_app(FOLDER, file)
    assert made == [(file, 1)]
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "JPEG")
    answer = TestClient(app).post("/v1/predict", content=buffer.getvalue())
    assert answer.status_code == 200
    assert len(answer.json()["labels"]) == 5
