"""Images through a model: in order, in batches, with the index of the one that fails."""

import asyncio
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from tests.gated import Gated, rerun
from tests.pictures import encode, photograph
from tests.tiny import LABELS, answer, solid


def files(images: list[bytes]) -> list:
    return [("files", (str(index), image)) for index, image in enumerate(images)]


async def test_more_than_a_batch_comes_back_in_order(client: httpx.AsyncClient):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)  # the model takes batches of 16
    response = await client.post("/v1/predict", files=files([encode(image) for image in images]))
    results = response.json()["results"]
    assert [result["name"] for result in results] == [str(index) for index in range(100)]
    for result, expected in zip(results, answer(images), strict=True):
        given = {label["index"]: label["probability"] for label in result["labels"]}
        np.testing.assert_allclose([given[index] for index in range(3)], expected, atol=2e-6)


async def test_large_and_small_images_keep_their_order(client: httpx.AsyncClient):
    labels = [LABELS[index % 3] for index in range(12)]
    # Every other one is too large to be decoded on the event loop.
    images = [encode(solid(label, 400 if index % 2 else 8), "PNG") for index, label in enumerate(labels)]
    response = await client.post("/v1/predict?top_k=1", files=files(images))
    assert [result["labels"][0]["label"] for result in response.json()["results"]] == labels


@pytest.mark.parametrize("index", [0, 15, 16, 40, 49])
@pytest.mark.parametrize("size", [8, 400])
async def test_the_index_of_an_image_that_cannot_be_decoded(client: httpx.AsyncClient, index: int, size: int):
    images = [encode(solid("red"))] * 50
    whole = encode(photograph(size, size))
    images[index] = whole[: len(whole) - 40]
    response = await client.post("/v1/predict", files=files(images))
    assert response.status_code == 422
    assert response.json()["index"] == index


@pytest.mark.parametrize("index", [0, 17, 49])
async def test_the_index_of_an_image_that_the_model_fails_on(app: FastAPI, client: httpx.AsyncClient, index: int):
    batcher = app.repository.models["classifier"].batcher
    run = batcher.flow.run

    def fails_on_blue(items: list) -> list:
        if any(item[0, 0, 2] > 200 for item in items):
            raise RuntimeError("too blue")
        return run(items)

    rerun(batcher, fails_on_blue)
    images = [encode(solid("red"))] * 50
    images[index] = encode(solid("blue"))
    response = await client.post("/v1/predict", files=files(images))
    assert response.status_code == 500
    assert response.json()["index"] == index
    assert "too blue" in response.json()["detail"]


async def test_too_many_pixels_name_the_image(client: httpx.AsyncClient):
    images = [encode(solid("red")), encode(solid("red", 1001))]
    response = await client.post("/v1/predict", files=files(images))
    assert (response.status_code, response.json()["index"]) == (422, 1)
    assert "at most 1000000" in response.json()["detail"]


async def test_a_request_too_slow_for_its_deadline(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.repository.models["classifier"].batcher
    model = Gated()
    rerun(batcher, model)
    app.settings = app.settings.model_copy(update={"timeout": 0.02})
    response = await client.post("/v1/predict", files=files([encode(solid("red"))] * 40))
    model.release(100)
    assert response.status_code == 504
    assert response.json()["code"] == "deadline-exceeded"


async def test_a_request_that_is_cancelled_leaves_nothing_behind(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.repository.models["classifier"].batcher
    run, model = batcher.flow.run, Gated()
    rerun(batcher, model)
    request = asyncio.create_task(client.post("/v1/predict", files=files([encode(solid("red"))] * 80)))
    await model.entered()
    request.cancel()
    await asyncio.wait([request])
    assert request.cancelled()
    batcher.flow.run = run
    model.release(1)
    response = await client.post("/v1/predict", content=encode(solid("green")))
    assert response.json()["results"][0]["labels"][0]["label"] == "green"
    assert sum(map(len, model.batches)) <= 16  # only the batch that was running
    assert batcher.depth == 0


async def test_images_are_not_decoded_if_the_queue_is_full(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.repository.models["classifier"].batcher
    batcher.admission._max_queue = 3
    response = await client.post("/v1/predict", files=files([b"no image"] * 4))
    assert response.status_code == 429
    response = await client.post("/v1/predict", files=files([b"no image"] * 3))
    assert response.status_code == 422


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG with EXIF", "truncated JPEG"])
async def test_whatever_pillow_parses_is_read_beside_the_event_loop(kind: str, client: httpx.AsyncClient):
    threads = set()
    opened = Image.open

    def spy(*arguments: Any, **options: Any) -> Image.Image:
        threads.add(threading.current_thread().name)
        return opened(*arguments, **options)

    exif = Image.Exif()
    exif[0x0112] = 3
    jpeg = encode(solid("green"), "JPEG", quality=95, **({"exif": exif.tobytes()} if kind == "JPEG with EXIF" else {}))
    data = {"JPEG with EXIF": jpeg, "truncated JPEG": jpeg[:-40]}.get(kind) or encode(solid("green"), kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "open", spy)
        response = await client.post("/v1/predict?top_k=1", content=data)
    assert response.status_code == (422 if kind == "truncated JPEG" else 200)
    assert threads
    assert all(name.startswith("decode") for name in threads)
