"""POST /v1/detect with a tiny detector."""

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from service.app import create_app
from service.settings import Settings
from service.tasks.detection.task import DetectAnswer
from tests.pictures import encode
from tests.tiny import write_model
from tests.tiny_detector import scene, write_detector

PNG = {"content-type": "image/png"}
# Twice the frame in each direction.
AREAS = {"red": (10, 20, 30, 44), "blue": (80, 50, 100, 60)}
PICTURE = encode(scene(96, 128, **AREAS))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder)
    write_detector(folder)
    return folder


@pytest.fixture
async def client(models):
    app = create_app(Settings(models=models, device="cpu", threads=1, max_pixels=20_000_000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


async def detect(client, content=PICTURE, headers=PNG, **query):
    return await client.post("/v1/detect", content=content, headers=headers, params=query)


async def test_objects_are_found_in_the_images_own_pixels(client):
    response = await detect(client)
    assert response.status_code == 200
    document = response.json()
    DetectAnswer.model_validate(document)
    assert (document["model"], document["version"], document["device"]) == ("detector", "1", "cpu")
    (result,) = document["results"]
    assert (result["width"], result["height"], result["name"]) == (128, 96, None)
    assert result["counts"] == {"red": 1, "blue": 1}
    assert [box["label"] for box in result["boxes"]] == ["red", "blue"]
    for box in result["boxes"]:
        found = [box[name] for name in ("x_min", "y_min", "x_max", "y_max")]
        np.testing.assert_allclose(found, AREAS[box["label"]], atol=2)
    assert "inference" in response.headers["server-timing"]


async def test_the_answer_has_the_threshold_and_its_precision_and_recall(client):
    threshold = (await detect(client, precision=0.8)).json()["threshold"]
    assert threshold == pytest.approx({"confidence": 0.67, "precision": 0.8015, "recall": 1 - 0.67**2})
    # Red has a score of 0.86, blue of 0.67.
    assert (await detect(client, confidence=0.8)).json()["results"][0]["counts"] == {"red": 1}
    assert (await detect(client, confidence=1.0)).json()["results"][0]["boxes"] == []


async def test_filters_leave_the_rest_out(client):
    assert (await detect(client, classes="blue")).json()["results"][0]["counts"] == {"blue": 1}
    assert (await detect(client, classes="green,blue")).json()["results"][0]["counts"] == {"blue": 1}
    assert (await detect(client, max_detections=1)).json()["results"][0]["counts"] == {"red": 1}


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"confidence": 1.5}, "confidence=1.5"),
        ({"confidence": "high"}, "confidence=high"),
        ({"confidence": 0.5, "recall": 0.5}, "confidence and recall each choose"),
        ({"precision": 0.99}, "the best is 0.9455"),
        ({"classes": "pink"}, "'pink' is none of the labels: red, green, blue"),
        ({"max_detections": 0}, "max_detections=0"),
        ({"treshold": 0.5}, "no parameter 'treshold'"),
    ],
)
async def test_invalid_options_are_refused_with_advice(client, query, detail):
    response = await detect(client, **query)
    assert response.status_code == 422
    assert detail in response.json()["detail"]


async def test_many_images_get_the_same_answers_as_alone_in_order(client):
    pictures = [
        encode(scene(60 + 10 * step, 100 + 30 * step, green=(5 + step, 9, 40 + 5 * step, 45 + step)))
        for step in range(8)
    ]
    files = [("files", (f"{number}.png", picture)) for number, picture in enumerate(pictures)]
    together = (await client.post("/v1/detect", files=files)).json()["results"]
    assert [result["name"] for result in together] == [f"{number}.png" for number in range(8)]
    for picture, result in zip(pictures, together, strict=True):
        (alone,) = (await detect(client, picture)).json()["results"]
        assert alone["boxes"] == result["boxes"]
        assert alone["boxes"]
        assert (alone["width"], alone["height"]) == (result["width"], result["height"])


async def test_json_and_rotation_by_exif(client):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = encode(scene(96, 128, red=(98, 52, 118, 76)), "JPEG", quality=95, exif=exif)
    response = await client.post("/v1/detect", json={"images": [base64.b64encode(turned).decode()]})
    (box,) = response.json()["results"][0]["boxes"]
    np.testing.assert_allclose([box["x_min"], box["y_min"], box["x_max"], box["y_max"]], AREAS["red"], atol=3)


@pytest.mark.parametrize("how", [{"params": {"render": "true"}}, {"headers": {**PNG, "accept": "image/png"}}])
async def test_the_picture_is_drawn_when_it_is_asked_for(client, how):
    response = await client.post("/v1/detect", content=PICTURE, **{"headers": PNG, **how})
    assert response.headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(io.BytesIO(response.content)))
    assert picture.shape == (96, 128, 3)
    original = scene(96, 128, **AREAS)
    assert (picture[32, 10] != original[32, 10]).any()
    np.testing.assert_array_equal(picture[80:], original[80:])


async def test_a_picture_of_several_images_is_refused(client):
    files = [("files", ("a.png", PICTURE)), ("files", ("b.png", PICTURE))]
    response = await client.post("/v1/detect?render=true", files=files)
    assert response.status_code == 422
    assert "one at a time" in response.json()["detail"]


async def test_an_image_that_cannot_be_decoded_is_named(client):
    files = [("files", ("a.png", PICTURE)), ("files", ("b.png", b"no image"))]
    response = await client.post("/v1/detect", files=files)
    assert response.status_code == 422
    assert response.json()["index"] == 1


async def test_a_model_of_another_task_is_refused_in_both_directions(client):
    response = await detect(client, model="classifier")
    assert response.status_code == 422
    assert response.json()["type"].endswith("wrong-task")
    assert "is for the task 'classification', not 'detection'" in response.json()["detail"]
    response = await client.post("/v1/predict?model=detector", content=PICTURE, headers=PNG)
    assert response.json()["type"].endswith("wrong-task")


async def test_the_model_shows_its_curves(client):
    document = (await client.get("/v1/models/detector")).json()
    assert document["metrics"] == {"map_50": 0.9, "map": 0.6}
    curves = document["manifest"]["curves"]
    assert len(curves["confidence"]) == len(curves["overall"]["precision"]) == 101
    assert set(curves["per_class"]) == {"red", "green", "blue"}
