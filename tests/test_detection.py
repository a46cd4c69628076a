"""The real server with the committed detector: real blood smears, one by one and together."""

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from service.tasks.registry import read_manifest
from service.tasks.samples import SMEAR
from tests.pictures import encode
from tests.server import ROOT, Server

FOLDER = ROOT / "models" / "detector" / "1"


@pytest.fixture
def client(everything: Server):
    with everything.client() as client:
        yield client


def post(client: httpx.Client, content: bytes, kind: str = "image/png", **query: object) -> dict:
    answer = client.post("/v1/detect", content=content, headers={"content-type": kind}, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_cells_of_the_docs_example_are_found(client: httpx.Client):
    document = post(client, base64.b64decode(SMEAR), "image/jpeg")
    (result,) = document["results"]
    assert (result["width"], result["height"]) == (256, 192)
    # The annotation has one white cell and seventeen red ones, many cut off or hidden; the image is scaled down.
    assert result["counts"]["WBC"] == 1
    assert 5 <= result["counts"]["RBC"] <= 24
    assert set(document["threshold"]) == {"confidence", "precision", "recall"}


def test_a_requested_precision_finds_fewer_and_a_requested_recall_more(client: httpx.Client):
    overall = read_manifest(FOLDER).curves.overall
    content = base64.b64decode(SMEAR)
    sure = post(client, content, "image/jpeg", precision=round(max(overall.precision[:-20]) - 0.03, 3))
    wide = post(client, content, "image/jpeg", recall=round(max(overall.recall) - 0.03, 3))
    assert sure["threshold"]["confidence"] > wide["threshold"]["confidence"]
    assert len(sure["results"][0]["boxes"]) <= len(wide["results"][0]["boxes"])


def test_images_in_one_request_get_the_same_answers_as_alone(client: httpx.Client):
    frames = np.load(FOLDER / "golden.npz")["images"]
    images = [*frames, *(np.ascontiguousarray(frame[:, ::-1]) for frame in frames)]
    contents = [encode(image) for image in images[:8]]
    assert len(contents) == 8
    files = [("files", (f"{number}.png", content)) for number, content in enumerate(contents)]
    together = client.post("/v1/detect", files=files).json()["results"]
    for content, result in zip(contents, together, strict=True):
        (alone,) = post(client, content)["results"]
        assert [box["label"] for box in alone["boxes"]] == [box["label"] for box in result["boxes"]]
        for one, other in zip(alone["boxes"], result["boxes"], strict=True):
            for name in ("score", "x_min", "y_min", "x_max", "y_max"):
                assert one[name] == pytest.approx(other[name], abs=0.02)


def test_the_drawn_picture_is_the_image_with_boxes(client: httpx.Client):
    frame = np.load(FOLDER / "golden.npz")["images"][0]
    answer = client.post("/v1/detect?render=true", content=encode(frame), headers={"content-type": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    assert drawn.shape == frame.shape
    changed = (np.abs(drawn - frame).max(-1) > 0).mean()
    assert 0.01 < changed < 0.5
