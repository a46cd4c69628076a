"""POST /v1/encode, /v1/decode and /v1/reconstruct with a tiny autoencoder."""

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from service.app import create_app
from service.settings import Settings
from service.tasks.autoencoder.coding import on_background
from service.tasks.autoencoder.operations import DecodeAnswer, EncodeAnswer, ReconstructAnswer
from tests.pictures import encode
from tests.tiny_autoencoder import decoded, write_autoencoder

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_autoencoder(folder)
    return folder


@pytest.fixture
async def client(models):
    app = create_app(Settings(models=models, device="cpu", threads=1, max_items=50))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


def picture(seed=0, edge=None):
    """4 x 4 grey pixels, dark at the edges."""
    pixels = np.random.default_rng(seed).integers(0, 90, (4, 4), dtype=np.uint8)
    if edge is not None:
        pixels[[0, -1]] = pixels[:, [0, -1]] = edge
    return pixels


def truncate(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


async def test_encoding_then_decoding_equals_reconstruction(client):
    files = [("files", (f"{seed}.png", encode(picture(seed)))) for seed in range(20)]
    encoded = (await client.post("/v1/encode", files=files)).json()
    EncodeAnswer.model_validate(encoded)
    assert [result["name"] for result in encoded["results"]] == [f"{seed}.png" for seed in range(20)]
    latents = [result["latents"] for result in encoded["results"]]
    images = (await client.post("/v1/decode", json={"latents": latents})).json()
    DecodeAnswer.model_validate(images)
    whole = (await client.post("/v1/reconstruct", files=files)).json()
    ReconstructAnswer.model_validate(whole)
    for seed, (one, other) in enumerate(zip(images["results"], whole["results"], strict=True)):
        assert one["png"] == other["png"]
        cells = picture(seed).reshape(2, 2, 2, 2).mean((1, 3)) / 255
        np.testing.assert_allclose(latents[seed], cells.ravel(), atol=1e-6)
        gap = cells.repeat(2, 0).repeat(2, 1) - picture(seed) / 255
        assert other["error"] == pytest.approx(np.square(gap).mean(), abs=1e-6)


async def test_the_picture_of_a_reconstruction_shows_both(client):
    response = await client.post("/v1/reconstruct?render=true", content=encode(picture()), headers=PNG)
    assert response.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(response.content)))
    assert pixels.shape == (32, 72)
    np.testing.assert_array_equal(pixels[::8, :32:8], picture())
    files = [("files", ("a.png", encode(picture()))), ("files", ("b.png", encode(picture())))]
    assert (await client.post("/v1/reconstruct?render=true", files=files)).status_code == 422


@pytest.mark.parametrize(
    ("invert", "edge", "inverted"),
    [("auto", 250, True), ("auto", 5, False), ("never", 250, False), ("always", 5, True)],
)
async def test_a_picture_on_white_paper_is_inverted(client, invert, edge, inverted):
    sent = picture(edge=edge)
    response = await client.post(f"/v1/encode?invert={invert}", content=encode(sent), headers=PNG)
    turned = 255 - sent if inverted else sent
    # Only `auto` knows the background's grey and maps it to black.
    taken = on_background(turned, 0.0) if invert == "auto" and inverted else turned
    expected = taken.reshape(2, 2, 2, 2).mean((1, 3)) / 255
    (result,) = response.json()["results"]
    assert result["inverted"] is inverted
    np.testing.assert_allclose(result["latents"], expected.ravel(), atol=1e-6)


async def test_a_large_colour_photograph_becomes_what_the_model_takes(client):
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[:, 300:] = 255
    answer = await client.post("/v1/encode", content=encode(pixels), headers=PNG)
    left, right, *_ = answer.json()["results"][0]["latents"]
    assert left < 0.2
    assert right > 0.8


@pytest.mark.parametrize(
    ("latents", "detail", "index"),
    [
        ([[0.0] * 4, [0.0] * 3], "a list of 4 numbers, not 3 numbers", 1),
        ([[0.0] * 4, 7], "a list of 4 numbers, not int", 1),
        ([[0.0, "a", 0, 0]], "numbers alone", 0),
        ([[0.0, True, 0, 0]], "numbers alone", 0),
        ([[0.0, 1e300, 0, 0]], "finite", 0),
        ([[0.0, 10**400, 0, 0]], "finite", 0),
        ([], "at least one", None),
    ],
)
async def test_invalid_latents_are_named(client, latents, detail, index):
    response = await client.post("/v1/decode", json={"latents": latents})
    assert response.status_code == 422
    assert detail in response.json()["detail"]
    assert response.json().get("index") == index


async def test_too_many_latents_are_refused(client):
    response = await client.post("/v1/decode", json={"latents": [[0.0] * 4] * 51})
    assert response.status_code == 413


async def test_integers_are_numbers_and_more_than_a_batch_comes_in_order(client):
    latents = [[index % 2, 0, 1, 0] for index in range(40)]
    results = (await client.post("/v1/decode", json={"latents": latents})).json()["results"]
    expected = decoded(np.array(latents, np.float32))
    for result, pixels in zip(results, expected, strict=True):
        np.testing.assert_array_equal(truncate(result["png"]), pixels[..., 0])


async def test_each_kind_of_model_reports_its_own_metrics(client):
    models = {model["name"]: model for model in (await client.get("/v1/models")).json()["models"]}
    assert models["autoencoder"]["metrics"] == {"mse": 0.001}
    assert models["encoder"]["metrics"] == {"linear_accuracy": 0.97}
    assert models["decoder"]["metrics"] == {"judge_agreement": 0.98, "judge_accuracy": 0.99, "frechet": 2.0}
