"""The way of images through a model: in order, in parts, with the place of whatever fails."""

import asyncio
import gc
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from service.api.exchange import Exchange
from service.api.uploads import Upload
from service.errors import ClientDisconnected, DeadlineExceeded, Overloaded
from service.tasks.classification import prepare
from service.tasks.images import EncodedImage
from tests.gated import Gated, rerun
from tests.pictures import encode, photograph
from tests.tiny import LABELS, answer, solid


def files(images: list[bytes]) -> list:
    return [("files", (str(index), image)) for index, image in enumerate(images)]


async def test_more_than_a_batch_comes_back_in_order(client: httpx.AsyncClient):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)  # the model takes 16 at a time
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


@pytest.mark.parametrize("place", [0, 15, 16, 40, 49])
@pytest.mark.parametrize("size", [8, 400])
async def test_the_place_of_an_image_that_cannot_be_decoded(client: httpx.AsyncClient, place: int, size: int):
    images = [encode(solid("red"))] * 50
    whole = encode(photograph(size, size))
    images[place] = whole[: len(whole) - 40]
    response = await client.post("/v1/predict", files=files(images))
    assert response.status_code == 422
    assert response.json()["index"] == place


@pytest.mark.parametrize("place", [0, 17, 49])
async def test_the_place_of_an_image_that_the_model_fails_on(app: FastAPI, client: httpx.AsyncClient, place: int):
    batcher = app.state.repository.get("classifier").batcher
    run = batcher.runner._run

    def fails_on_blue(items: list) -> list:
        if any(item[0, 0, 2] > 200 for item in items):
            raise RuntimeError("too blue")
        return run(items)

    rerun(batcher, fails_on_blue)
    images = [encode(solid("red"))] * 50
    images[place] = encode(solid("blue"))
    response = await client.post("/v1/predict", files=files(images))
    assert response.status_code == 500
    assert response.json()["index"] == place
    assert "too blue" in response.json()["detail"]


async def test_too_many_pixels_name_the_image(client: httpx.AsyncClient):
    images = [encode(solid("red")), encode(solid("red", 1001))]
    response = await client.post("/v1/predict", files=files(images))
    assert (response.status_code, response.json()["index"]) == (422, 1)
    assert "at most 1000000" in response.json()["detail"]


async def test_a_request_too_slow_for_its_deadline(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.state.repository.get("classifier").batcher
    model = Gated()
    rerun(batcher, model)
    app.state.settings = app.state.settings.model_copy(update={"timeout": 0.02})
    response = await client.post("/v1/predict", files=files([encode(solid("red"))] * 40))
    model.release(100)
    assert response.status_code == 504
    assert response.json()["type"] == "urn:quartet:problem:deadline-exceeded"


async def test_a_request_that_is_cancelled_leaves_nothing_behind(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.state.repository.get("classifier").batcher
    run, model = batcher.runner._run, Gated()
    rerun(batcher, model)
    request = asyncio.create_task(client.post("/v1/predict", files=files([encode(solid("red"))] * 80)))
    await model.entered()
    request.cancel()
    await asyncio.wait([request])
    assert request.cancelled()
    batcher.runner._run = run
    model.release(1)
    response = await client.post("/v1/predict", content=encode(solid("green")))
    assert response.json()["results"][0]["labels"][0]["label"] == "green"
    assert sum(map(len, model.batches)) <= 16  # the batch that ran; the rest never did
    assert batcher.depth == 0


async def test_a_client_that_hangs_up_gives_up_every_part(app: FastAPI):
    model = app.state.repository.get("classifier")
    gated = Gated()
    rerun(model.batcher, gated)
    complaints: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    gone, watched = asyncio.Event(), asyncio.Semaphore(0)

    async def receive() -> dict:
        watched.release()
        await gone.wait()
        return {"type": "http.disconnect"}

    exchange = Exchange({"type": "http", "app": app, "headers": [], "quartet.facts": {}}, receive)
    uploads = [Upload(None, encode(solid("red")))] * 64
    request = asyncio.create_task(
        app.state.images.run(exchange, model, partial(prepare, manifest=model.manifest), uploads)
    )
    async with asyncio.timeout(30):
        for _ in range(2):  # both parts that are in flight
            await watched.acquire()
        gone.set()
        with pytest.raises(ClientDisconnected):
            await request
    gated.release(10)
    await model.batcher.close()
    assert len(gated.batches) == 1
    # The part that nobody awaits must not leave "Future exception was never retrieved" in the log.
    del request
    model.batcher._sweep()
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_what_the_queue_has_no_room_for_is_not_even_decoded(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.state.repository.get("classifier").batcher
    batcher._max_queue = 3
    response = await client.post("/v1/predict", files=files([b"no image"] * 4))
    assert response.status_code == 429
    response = await client.post("/v1/predict", files=files([b"no image"] * 3))
    assert response.status_code == 422


async def test_a_large_request_that_has_begun_waits_for_room(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.state.repository.get("classifier").batcher
    enqueue, refusals = batcher.enqueue, []

    def full_at_times(items: list, **options: object) -> object:
        if len(refusals) < 5 and len(items) < 16:  # the last part, after three of 16
            refusals.append(len(items))
            raise Overloaded("Full.", retry_after=0.0)
        return enqueue(items, **options)

    batcher.enqueue = full_at_times
    response = await client.post("/v1/predict?top_k=1", files=files([encode(solid("blue"))] * 50))
    assert len(response.json()["results"]) == 50
    assert refusals == [2] * 5


async def test_patience_ends_with_the_deadline(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.state.repository.get("classifier").batcher
    enqueue = batcher.enqueue

    def full_later(items: list, **options: object) -> object:
        if len(items) < 16:
            raise Overloaded("Full.", retry_after=0.0)
        return enqueue(items, **options)

    batcher.enqueue = full_later
    app.state.settings = app.state.settings.model_copy(update={"timeout": 0.1})
    response = await client.post("/v1/predict", files=files([encode(solid("blue"))] * 50))
    assert response.status_code == 429


def exchange_that(app: FastAPI, gone: asyncio.Event) -> Exchange:
    async def receive() -> dict:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Exchange({"type": "http", "app": app, "headers": [], "quartet.facts": {}}, receive)


def slow(seconds: float, decoded: list) -> Callable:
    def prepare(image: EncodedImage) -> tuple[np.ndarray, None]:
        time.sleep(seconds)
        decoded.append(image)
        return np.zeros((8, 8, 3), np.uint8), None

    return prepare


async def test_decoding_ends_with_the_deadline(app: FastAPI):
    app.state.settings = app.state.settings.model_copy(update={"timeout": 0.2})
    decoded: list = []
    uploads = [Upload(None, encode(solid("red", 400)))] * 16
    with pytest.raises(DeadlineExceeded, match="Decoding took longer"):
        await app.state.images.run(
            exchange_that(app, asyncio.Event()), app.state.repository.get("classifier"), slow(0.05, decoded), uploads
        )
    assert len(decoded) < 16


async def test_decoding_ends_when_the_client_hangs_up(app: FastAPI):
    decoded: list = []
    gone = asyncio.Event()
    uploads = [Upload(None, encode(solid("red", 400)))] * 16
    exchange = exchange_that(app, gone)
    asyncio.get_running_loop().call_later(0.3, gone.set)
    with pytest.raises(ClientDisconnected):
        await app.state.images.run(exchange, app.state.repository.get("classifier"), slow(0.1, decoded), uploads)
    exchange.end()
    assert 0 < len(decoded) < 16


async def test_many_bytes_of_few_pixels_are_read_beside_the_event_loop(app: FastAPI, client: httpx.AsyncClient):
    empty = b"\x00\x00\x00\x00teSt" + zlib.crc32(b"teSt").to_bytes(4)
    small = encode(solid("green"))
    large = small[:33] + empty * 20_000 + small[33:]  # behind the header
    threads = set()
    opened = EncodedImage.open

    def spy(*arguments: object) -> EncodedImage:
        threads.add(threading.current_thread().name)
        return opened(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncodedImage, "open", spy)
        response = await client.post("/v1/predict?top_k=1", content=large)
    assert response.json()["results"][0]["labels"][0]["label"] == "green"
    assert all(name.startswith("decode") for name in threads)
