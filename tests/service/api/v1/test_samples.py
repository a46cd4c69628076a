"""Every sample is a body that the model's route reads."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.settings import Settings
from tests.tiny import write_model
from tests.tiny_autoencoder import write_autoencoder
from tests.tiny_detector import write_detector
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics

ROUTES = {
    "classifier": "predict",
    "detector": "detect",
    "autoencoder": "reconstruct",
    "encoder": "encode",
    "decoder": "decode",
    "topics": "classify-text",
    "tabular": "predict-tabular",
}
LABELS = ["red", "green", "blue", "red"]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    for write in (write_detector, write_autoencoder, write_topics, write_tabular):
        write(tmp_path)
    write_model(tmp_path, golden={"rows": len(LABELS), "atol": 1e-4, "labels": LABELS})
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


async def test_every_task_has_samples_that_its_route_takes(client: httpx.AsyncClient):
    for model, route in ROUTES.items():
        described = (await client.get(f"/v1/models/{model}/1/samples")).json()
        assert described["data"], model
        assert described["media_types"], model
        for index, media_type in enumerate(described["media_types"]):
            sample = await client.get(f"/v1/models/{model}/1/samples/{index}")
            assert sample.headers["content-type"].partition(";")[0] == media_type
            answer = await client.post(f"/v1/{route}", content=sample.content, headers={"content-type": media_type})
            assert answer.status_code == 200, (model, answer.text)
        beyond = await client.get(f"/v1/models/{model}/1/samples/{len(described['media_types'])}")
        assert beyond.status_code == 404


async def test_samples_have_their_true_labels_where_they_are_known(client: httpx.AsyncClient):
    assert (await client.get("/v1/models/classifier/1/samples")).json()["labels"] == LABELS
    assert (await client.get("/v1/models/detector/1/samples")).json()["labels"] is None


async def test_a_version_is_described_as_its_model_is(client: httpx.AsyncClient):
    for model in ROUTES:
        by_name = (await client.get(f"/v1/models/{model}")).json()
        assert (await client.get(f"/v1/models/{model}/1")).json() == by_name
        assert (await client.get(f"/v1/models/{model}/2")).status_code == 404


async def test_a_decoder_tells_where_its_classes_and_directions_lie(client: httpx.AsyncClient):
    decoder = (await client.get("/v1/models/decoder")).json()
    latent = decoder["manifest"]["latent"]
    space = decoder["details"]
    assert len(space["mean"]) == latent
    assert [len(each) for each in space["classes"]] == [latent] * decoder["labels"]
    vectors = np.array([each["vector"] for each in space["directions"]])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-3)
    explained = [each["explained"] for each in space["directions"]]
    assert explained == sorted(explained, reverse=True)
    assert (await client.get("/v1/models/encoder")).json()["details"] is None
