"""POST /v1/classify-text with a model that counts words."""

import time

import httpx
import pytest
from tokenizers import Regex
from tokenizers.normalizers import Replace

from service.app import create_app
from service.settings import Settings
from service.tasks.text.task import ClassifyTextAnswer
from tests.gated import rerun
from tests.tiny_text import LONGEST, write_topics


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_topics(folder)
    return folder


@pytest.fixture
async def client(models):
    app = create_app(Settings(models=models, device="cpu", threads=1, max_items=100, max_body_mb=2))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


async def classify(client, texts, **query):
    return await client.post("/v1/classify-text", json={"texts": texts}, params=query)


async def test_topics_with_probabilities_and_token_counts(client):
    response = await classify(client, ["The CAT, the dog!", "fern"])
    assert response.status_code == 200
    document = response.json()
    ClassifyTextAnswer.model_validate(document)
    assert (document["model"], document["version"]) == ("topics", "1")
    first, second = document["results"]
    assert first["labels"][0] == {"label": "animals", "index": 0, "probability": pytest.approx(0.880797)}
    assert (first["tokens"], first["unknown"], first["cut_off"]) == (6, 2, 0)  # the comma and the exclamation mark
    assert second["labels"][0]["label"] == "plants"
    assert "label_set" not in first
    assert "words" not in first


async def test_one_text_as_json_or_plain(client):
    one = await client.post("/v1/classify-text", json={"text": "oak"})
    plain = await client.post("/v1/classify-text", content=b"oak", headers={"content-type": "text/plain"})
    assert one.json() == plain.json()
    assert one.json()["results"][0]["labels"][0]["label"] == "plants"


async def test_options_as_for_images(client):
    (result,) = (await classify(client, ["cat"], top_k=1, coverage=0.95)).json()["results"]
    assert len(result["labels"]) == 1
    assert result["label_set"] == ["animals", "plants"]


async def test_each_word_has_its_influence_on_the_answer(client):
    (result,) = (await classify(client, ["The cat, an oak"], explain="true")).json()["results"]
    words = {word["word"]: word["weight"] for word in result["words"]}
    assert list(words) == ["The", "cat", ",", "an", "oak"]
    assert words["cat"] == pytest.approx(1, abs=1e-3)
    assert words["oak"] == pytest.approx(-1, abs=1e-3)
    assert words["The"] == words["an"] == 0
    assert [word["start"] for word in result["words"]] == [0, 4, 7, 9, 12]


async def test_long_and_short_texts_in_one_request_get_the_same_answers_as_alone(client):
    texts = ["cat", "oak " * 11, "the " * 50 + "cat", "dog fern fern", "unheard of"] * 8
    together = (await classify(client, texts)).json()["results"]
    for text, result in zip(texts[:5], together[:5], strict=True):
        assert (await classify(client, [text])).json()["results"] == [result]
    assert together[2]["cut_off"] == 39
    assert together[2]["tokens"] == LONGEST
    assert together[4]["unknown"] == together[4]["tokens"] == 2
    assert together[:5] * 8 == together


async def test_a_megabyte_of_text_is_read_up_to_its_length(client):
    (result,) = (await classify(client, ["cat " * 250_000])).json()["results"]
    assert result["cut_off"] == 250_000 - LONGEST


async def test_a_text_that_would_take_seconds_is_refused(client, monkeypatch):
    monkeypatch.setattr("service.tasks.text.task._MOST_CHARACTERS", 100)
    response = await classify(client, ["cat", "cat " * 30])
    assert response.status_code == 413
    assert response.json()["index"] == 1
    assert "has 120 characters; at most 100" in response.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "detail", "index"),
    [
        (b"{", "application/json", 422, "not valid JSON", None),
        (b'{"texts": []}', "application/json", 422, 'must be {"texts"', None),
        (b'{"texts": ["cat"], "more": 1}', "application/json", 422, 'must be {"texts"', None),
        (b'{"texts": ["cat", 7]}', "application/json", 422, "must be a string", 1),
        (b'{"texts": ["cat", "  "]}', "application/json", 422, "is empty", 1),
        (b'{"text": ""}', "application/json", 422, "is empty", 0),
        (b"", "text/plain", 422, "is empty", 0),
        (b"caf\xe9", "text/plain", 422, "not valid UTF-8 (unexpected end of data at byte 3)", None),
        (b'{"text": "caf\xe9"}', "application/json", 422, "not valid JSON", None),
        (b"cat", "image/png", 415, "send application/json or text/plain", None),
        (b'{"texts": [' + b'"cat", ' * 100 + b'"cat"]}', "application/json", 413, "holds 101 texts", None),
    ],
)
async def test_unreadable_texts_are_refused(client, content, kind, status, detail, index):
    response = await client.post("/v1/classify-text", content=content, headers={"content-type": kind})
    assert response.status_code == status
    assert detail in response.json()["detail"]
    assert response.json().get("index") == index


async def test_a_text_without_words_has_no_label(client):
    client._transport.app.repository.models["topics"].companion.normalizer = Replace(Regex("[^a-z ]"), "")
    response = await classify(client, ["cat", "1 2 …", "oak"], explain="true", coverage=0.9)
    first, nothing, last = response.json()["results"]
    assert [first["labels"][0]["label"], last["labels"][0]["label"]] == ["animals", "plants"]
    assert nothing == {"labels": [], "label_set": [], "tokens": 0, "unknown": 0, "cut_off": 0, "words": []}


async def test_explanations_of_many_texts_are_refused(client):
    response = await classify(client, ["cat"] * 9, explain="true")
    assert response.status_code == 422
    assert "at most 8 texts" in response.json()["detail"]


async def test_explanations_that_turn_out_too_slow_end_early(models):
    app = create_app(Settings(models=models, device="cpu", threads=1, timeout=3))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        batcher = app.repository.models["topics"].batcher
        run = batcher.flow.run
        explained = 0

        def slow(items):
            nonlocal explained
            explained += len(items)
            time.sleep(0.05 * len(items))
            return run(items)

        rerun(batcher, slow)
        batcher.flow.seconds_per_item = 1e-6  # what an item cost until now
        response = await classify(client, ["cat " * LONGEST] * 8, explain="true")
    assert response.status_code == 504
    assert "more words would take about" in response.json()["detail"]
    assert explained < 4 * LONGEST  # of eight texts
