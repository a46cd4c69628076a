"""The real server with the committed autoencoder and its parts: reconstruction, encoding and generation of digits."""

import csv
import io
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from service.tasks.registry import read_manifest
from tests.pictures import encode
from tests.server import ROOT, Server

DIGITS = np.load(ROOT / "models" / "autoencoder" / "1" / "golden.npz")["images"]


@pytest.fixture
def client(everything: Server):
    with everything.client() as client:
        yield client


def upload(images: Iterable[np.ndarray]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{number}.png", encode(image.squeeze()))) for number, image in enumerate(images)]


def images_of(client: httpx.Client, **wanted: object) -> np.ndarray:
    response = client.post("/v1/generate", json={**wanted, "format": "npz"})
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content))["images"]


def test_a_sheet_of_sevens_is_a_picture_of_white_strokes_on_black(client: httpx.Client):
    response = client.post("/v1/generate", json={"count": 25, "label": "7", "seed": 42})
    assert response.headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(io.BytesIO(response.content)))
    assert picture.shape == (5 * 29 + 1, 5 * 29 + 1)
    tiles = np.stack([picture[1 + row * 29 :, 1 + column * 29 :][:28, :28] for row in range(5) for column in range(5)])
    # Each digit has strokes in the middle and none at its edges.
    assert (tiles.max((1, 2)) > 200).all()
    assert np.median(tiles[:, [0, -1]]) < 10


def test_a_seed_gives_the_same_images_however_busy_the_server_is(client: httpx.Client):
    alone = images_of(client, count=300, seed=7)
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(images_of, client, count=150 + number, seed=number) for number in range(7)]
        beside = pool.submit(images_of, client, count=300, seed=7)
        assert all(len(other.result()) == 150 + number for number, other in enumerate(others))
    np.testing.assert_array_equal(beside.result(), alone)
    np.testing.assert_array_equal(images_of(client, count=11, seed=7), alone[:11])


def test_a_thousand_sevens_arrive_whole(client: httpx.Client):
    response = client.post("/v1/generate", json={"count": 1000, "label": "7", "seed": 1, "format": "zip"})
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("latents.csv"), "utf-8")))
        first = np.asarray(Image.open(archive.open(names[0])))
    assert len(names) == 1001
    assert [row["file"] for row in rows] == names[:-1]
    assert {row["label"] for row in rows} == {"7"}
    np.testing.assert_array_equal(first, images_of(client, count=1, label="7", seed=1)[0, ..., 0])


def test_encoding_and_decoding_is_reconstructing(client: httpx.Client):
    results = client.post("/v1/encode", files=upload(DIGITS)).json()["results"]
    latents = [result["latents"] for result in results]
    decoded = client.post("/v1/decode", json={"latents": latents}).json()["results"]
    restored = client.post("/v1/reconstruct", files=upload(DIGITS)).json()["results"]
    assert len(latents) == len(DIGITS)
    assert [image["png"] for image in decoded] == [image["png"] for image in restored]


def test_the_reconstruction_error_is_about_that_of_the_manifest(client: httpx.Client):
    results = client.post("/v1/reconstruct", files=upload(DIGITS)).json()["results"]
    errors = [result["error"] for result in results]
    stated = read_manifest(ROOT / "models" / "autoencoder" / "1").metrics.mse
    # The mean over sixteen of ten thousand digits may be off by a half.
    assert np.mean(errors) == pytest.approx(stated, rel=0.5)


def test_dark_ink_on_white_paper_is_inverted_to_white_on_black(client: httpx.Client):
    paper = np.pad(
        255 - DIGITS[:1].repeat(8, 1).repeat(8, 2), ((0, 0), (40, 40), (40, 40), (0, 0)), constant_values=245
    )
    (turned,) = client.post("/v1/encode", files=upload(paper)).json()["results"]
    assert turned["inverted"] is True
    (straight,) = client.post("/v1/encode", files=upload(DIGITS[:1])).json()["results"]
    assert straight["inverted"] is False
