"""POST /v1/generate with a tiny decoder."""

import asyncio
import base64
import csv
import io
import zipfile

import httpx
import numpy as np
import pytest
from PIL import Image

from service.app import create_app
from service.settings import Settings
from service.tasks.autoencoder.generate import GenerateAnswer
from tests.gated import rerun
from tests.tiny import write_model
from tests.tiny_autoencoder import decoded, density, write_autoencoder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder)
    write_autoencoder(folder)
    return folder


@pytest.fixture
async def app(models):
    application = create_app(Settings(models=models, device="cpu", threads=1, max_batch=16, max_queue=512))
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def client(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client:
        yield client


async def generate(client, **wanted):
    return await client.post("/v1/generate", params=wanted)


def scope_of(app):
    return {
        "type": "http", "method": "POST", "path": "/v1/generate", "raw_path": b"/v1/generate", "query_string": b"",
        "headers": [(b"content-type", b"application/json")], "app": app, "http_version": "1.1", "scheme": "http",
        "server": ("quartet", 80), "client": ("test", 1),
    }  # fmt: skip


def tiles(content, count):
    """The images of a sheet."""
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    columns = int(np.ceil(np.sqrt(count)))
    return np.stack([
        pixels[1 + index // columns * 5 :][:4, 1 + index % columns * 5 :][:, :4] for index in range(count)
    ])[..., None]  # fmt: skip


async def test_a_sheet_shows_what_the_seed_gives(client):
    response = await generate(client, count=20, seed=42)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-seed"] == "42"
    np.testing.assert_array_equal(tiles(response.content, 20), decoded(density().draw(20, seed=42)[0]))


async def test_a_label_is_what_all_images_have(client):
    light = tiles((await generate(client, count=9, seed=1, label="light")).content, 9)
    dark = tiles((await generate(client, count=9, seed=1, label="dark")).content, 9)
    assert light.min() > 120 > dark.max()


@pytest.mark.parametrize("count", [1, 16, 17, 100])
async def test_every_format_holds_the_same_images(client, count):
    latents, labels = density().draw(count, seed=5)
    expected = decoded(latents)
    sheet = await generate(client, count=count, seed=5, format="grid")
    np.testing.assert_array_equal(tiles(sheet.content, count), expected)

    arrays = np.load(io.BytesIO((await generate(client, count=count, seed=5, format="npz")).content))
    np.testing.assert_array_equal(arrays["images"], expected)
    np.testing.assert_array_equal(arrays["labels"], labels)
    np.testing.assert_array_equal(arrays["latents"], latents)

    answer = await generate(client, count=count, seed=5, format="json")
    document = GenerateAnswer.model_validate(answer.json())
    assert [image.index for image in document.images] == labels.tolist()
    for image, pixels in zip(document.images, expected, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(image.png)))
        np.testing.assert_array_equal(np.asarray(shown), pixels[..., 0])

    packed = await generate(client, count=count, seed=5, format="zip")
    assert packed.headers["content-disposition"] == 'attachment; filename="generated.zip"'
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert archive.testzip() is None
        rows = list(csv.DictReader(io.StringIO(archive.read("latents.csv").decode())))
        assert archive.namelist() == [*(row["file"] for row in rows), "latents.csv"]
        assert len(rows) == count
        for row, pixels, vector in zip(rows, expected, latents, strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(archive.open(row["file"]))), pixels[..., 0])
            np.testing.assert_array_equal([np.float32(row[f"z{i}"]) for i in range(4)], vector)


async def test_without_a_seed_every_answer_differs_and_states_its_seed(client):
    one, two = await generate(client, count=4), await generate(client, count=4)
    assert one.headers["x-seed"] != two.headers["x-seed"]
    again = await generate(client, count=4, seed=int(one.headers["x-seed"]))
    assert again.content == one.content


async def test_the_same_seed_gives_the_same_images_among_other_requests(client):
    alone = (await generate(client, count=30, seed=9, format="npz")).content
    together = await asyncio.gather(
        *(generate(client, count=30, seed=seed, format="npz") for seed in (1, 9, 2, 9, 3)),
        *(client.post("/v1/decode", json={"latents": [[0.1] * 4] * 5}) for _ in range(5)),
    )
    assert together[1].content == together[3].content == alone


async def test_an_empty_body_takes_the_defaults(client):
    response = await client.post("/v1/generate")
    assert response.status_code == 200
    assert tiles(response.content, 16).shape == (16, 4, 4, 1)


@pytest.mark.parametrize(
    ("wanted", "detail"),
    [
        ({"count": 0}, "count"),
        ({"count": 10_001}, "count"),
        ({"label": "grey"}, "'grey' is none of the labels: dark, light"),
        ({"label": "2"}, "'2' is none of the labels"),
        ({"seed": -1}, "seed"),
        ({"temperature": 9}, "temperature"),
        ({"format": "gif"}, "format"),
        ({"cuont": 4}, "'cuont'; there are "),
    ],
)
async def test_invalid_options_are_refused(client, wanted, detail):
    for response in (await generate(client, **wanted), await client.post("/v1/generate", json=wanted)):
        assert response.status_code == 422
        assert detail in response.json()["detail"]


async def test_options_in_the_body(client):
    """As before they were part of the query."""
    sent = {"count": 4, "seed": 1, "label": "light", "format": "npz", "temperature": 0.5}
    wanted = await generate(client, **sent)
    assert (await client.post("/v1/generate", json=sent)).content == wanted.content
    query = {"seed": sent.pop("seed"), "label": sent.pop("label")}
    assert (await client.post("/v1/generate", params=query, json=sent)).content == wanted.content
    twice = await client.post("/v1/generate?count=4&seed=1", json={"count": 4, "seed": 2, "format": "npz"})
    assert twice.status_code == 422
    assert {error["parameter"] for error in twice.json()["errors"]} == {"count", "seed"}
    assert "is in the query and in the body: send it in the query (and 1 other error)." in twice.json()["detail"]


async def test_a_label_may_be_its_index(client):
    wanted = await generate(client, label="light", seed=3)
    assert (await generate(client, label="1", seed=3)).content == wanted.content
    assert (await client.post("/v1/generate", json={"label": 1, "seed": 3})).content == wanted.content
    assert (await client.post("/v1/generate", json={"label": True})).status_code == 422


async def test_a_server_may_make_fewer_images_in_a_request(models):
    application = create_app(Settings(models=models, device="cpu", threads=1, max_items=5))
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://quartet") as client,
    ):
        assert (await generate(client, count=5)).status_code == 200
        response = await generate(client, count=6)
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")
    assert response.json()["detail"] == "The request asks for 6 items; at most 5 are accepted: send several requests."


async def test_other_bodies_and_models_are_refused(client):
    response = await client.post("/v1/generate", content=b"{", headers={"content-type": "application/json"})
    assert response.status_code == 422
    response = await client.post("/v1/generate", content=b"x", headers={"content-type": "image/png"})
    assert response.status_code == 415
    response = await client.post("/v1/generate?model=encoder", json={})
    assert response.json()["type"].endswith("wrong-task")


async def test_a_large_count_keeps_few_in_flight_and_lets_others_through(app, client):
    batcher = app.repository.models["decoder"].batcher
    depths = []
    submit = batcher.submit

    def spy(items, reservation):
        depths.append(batcher.depth)
        return submit(items, reservation)

    batcher.submit = spy
    large = asyncio.create_task(generate(client, count=2000, seed=1, format="npz"))
    answer = await client.post("/v1/decode", json={"latents": [[0.5] * 4]})
    assert answer.status_code == 200
    arrays = np.load(io.BytesIO((await large).content))
    np.testing.assert_array_equal(arrays["images"], decoded(density().draw(2000, seed=1)[0]))
    assert max(depths) <= 32  # two parts of 16


async def test_a_model_that_fails_before_the_first_part_is_a_problem(app, client):
    def fails(items):
        raise RuntimeError("no")

    rerun(app.repository.models["decoder"].batcher, fails)
    response = await generate(client, count=4)
    assert response.status_code == 500
    assert response.json()["type"].endswith("inference-failed")


async def test_a_model_that_fails_later_ends_the_connection(app, client):
    batcher = app.repository.models["decoder"].batcher
    run, calls = batcher.flow.run, []

    def fails_later(items):
        calls.append(len(items))
        if len(calls) > 3:
            raise RuntimeError("no")
        return run(items)

    rerun(batcher, fails_later)
    with pytest.raises(Exception, match="no"):
        await generate(client, count=200)


async def test_generation_stops_when_the_client_disconnects(app):
    """Calls the application directly, since httpx would read to the end."""
    batcher = app.repository.models["decoder"].batcher
    gone, sent, made = asyncio.Event(), [], []
    run = batcher.flow.run
    rerun(batcher, lambda items: made.append(len(items)) or run(items))
    body = iter([{"type": "http.request", "body": b'{"count": 10000}', "more_body": False}])

    async def receive():
        message = next(body, None)
        if message is None:
            await gone.wait()
            return {"type": "http.disconnect"}
        return message

    async def send(message):
        sent.append(message)
        if len(sent) == 3:
            gone.set()
        await asyncio.sleep(0.001)

    await app(scope_of(app), receive, send)
    assert sum(made) < 1000
    assert sent[-1].get("more_body", True)


async def test_the_density_is_read_before_the_first_request(tmp_path):
    write_autoencoder(tmp_path)
    application = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with application.router.lifespan_context(application):
        for path in (tmp_path / "decoder" / "1").iterdir():
            path.unlink()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://quartet") as client:
            assert (await generate(client, count=2)).status_code == 200
