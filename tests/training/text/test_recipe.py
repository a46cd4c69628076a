import io
import json
from dataclasses import replace

import httpx
import pytest
from rich.console import Console

from service.app import create_app
from service.inference.manifest import MODEL
from service.inference.session import Session
from service.settings import Settings
from service.tasks.registry import read_manifest
from tests.training.text.conftest import KOREAN, make_texts, write_csv, write_parquet
from training.options import BackboneFitOptions, PublishOptions
from training.text import recipe
from training.text.options import NetworkSettings, TextOptions, TokenSettings, usual_epochs
from training.text.recipe import TextRecipe
from training.train import train

FIT = BackboneFitOptions(epochs=6, batch_size=16, lr=0.02, ema=0.8)
NETWORK = NetworkSettings(embedding=16, hidden=12, dropout=0.1)


def run(data, folder, *, publish=False, **options):
    """Trains with the runs and models in `folder`; returns the console output."""
    options = {"fit": FIT, "network": NETWORK, "publishing": PublishOptions(models=folder / "models"), **options}
    console = Console(file=io.StringIO(), width=200)
    chosen = TextOptions(data=str(data), device="cpu", run_dir=folder / "run", publish=publish, **options)
    train(TextRecipe(), chosen, console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A version trained on the English texts, and the console output."""
    folder = tmp_path_factory.mktemp("topics")
    source = write_parquet(folder / "data", train=160, test=60)
    said = run(source, folder, publish=True)
    return folder / "models" / "topics" / "1", said


def test_the_version_can_be_served_and_learned_something(published):
    folder, said = published
    manifest = read_manifest(folder)
    assert manifest.task == "text"
    assert manifest.labels == ("crude", "grain")
    assert manifest.metrics.accuracy > 0.9
    assert "tokenizer.json" in manifest.files
    Session(folder / MODEL, "cpu").check(folder, manifest)
    assert "accuracy of a linear classifier on training texts held out: " in said
    assert "validation accuracy" in said.partition("linear classifier: ")[2]
    assert f"test accuracy {manifest.metrics.accuracy:.4f}, macro F1" in said
    assert manifest.baseline.name.startswith("logistic regression on tf-idf")
    assert "linear" in manifest.training.settings
    names = ["length", "unknown words", "label", "confidence", "unfamiliar"]
    assert [each.name for each in manifest.histograms] == names


def test_the_report_shows_what_it_links(published):
    report = published[0] / "report"
    text = (report / "README.md").read_text()
    names = {path.name for path in report.glob("*.png")}
    assert names == {"learning-curves.png", "lengths.png", "calibration.png", "confusion.png"}
    assert all(f"({name})" in text for name in names)
    assert "## The most confident mistakes" in text


async def test_a_korean_set_in_a_csv_trains_exports_and_serves(tmp_path):
    source = write_csv(tmp_path / "reviews.csv", KOREAN, ("좋다", "나쁘다"), count=200)
    run(source, tmp_path, publish=True)
    app = create_app(Settings(models=tmp_path / "models", device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        texts, labels = make_texts(KOREAN, 40, seed=9)
        answer = (await client.post("/v1/classify-text?top_k=1", json={"texts": texts})).json()
        found = [result["labels"][0]["label"] for result in answer["results"]]
        right = sum(one == ("좋다", "나쁘다")[label] for one, label in zip(found, labels, strict=True))
        assert right > 35
        headers = {"content-type": "text/plain; charset=utf-8"}
        content = "정말 배우가, 지루하다!".encode()
        (result,) = (await client.post("/v1/classify-text?explain=true", content=content, headers=headers)).json()[
            "results"
        ]
        assert result["labels"][0]["label"] == "나쁘다"
        assert [word["word"] for word in result["words"]] == ["정말", "배우가", "지루하다"]
        assert max(result["words"], key=lambda word: word["weight"])["word"] == "지루하다"


def test_without_publishing_a_draft_lies_in_the_run(tmp_path):
    source = write_parquet(tmp_path / "data", train=60, test=20)
    said = run(source, tmp_path, linear=False, tokens=TokenSettings(vocabulary="words"))
    draft = json.loads((tmp_path / "run" / "export" / "manifest.json").read_text())
    assert draft["description"].endswith("bidirectional GRU")
    assert "linear classifier" not in said
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("vocabulary", ["words", "bpe", "unigram", None])
def test_texts_without_letters_do_not_lose_the_training(tmp_path, vocabulary):
    path = tmp_path / "x.csv"
    write_csv(path, count=100)
    path.write_text(path.read_text() + "!!!,crude\n8.5,grain\n\u2026,grain\n\u2603,crude\n" * 8)
    run(path, tmp_path, fit=replace(FIT, epochs=1), tokens=TokenSettings(vocabulary=vocabulary), quantize=True)
    assert (tmp_path / "run" / "export" / "report" / "README.md").exists()
    assert not (tmp_path / "run" / "failures.txt").exists()


def test_a_resumed_run_keeps_its_vocabulary(tmp_path):
    source = write_parquet(tmp_path / "data", train=60, test=20)
    run(source, tmp_path, fit=replace(FIT, epochs=1))
    tokenizer = (tmp_path / "run" / "tokenizer.json").read_text()
    said = run(source, tmp_path, fit=replace(FIT, epochs=2), resume=True)
    assert "training texts held out" not in said
    assert (tmp_path / "run" / "tokenizer.json").read_text() == tokenizer


def test_very_long_texts_have_no_linear_classifier(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "MOST_TOKENS", 2)
    source = write_parquet(tmp_path / "data", train=60, test=20)
    said = run(source, tmp_path, fit=replace(FIT, epochs=1), tokens=TokenSettings(vocabulary="words"))
    assert "texts are longer than 2 tokens: without the linear classifier" in said
    uses = json.loads((tmp_path / "run" / "export" / "manifest.json").read_text())["history"][0]["uses"]
    assert "weight of the linear classifier" not in {use["purpose"] for use in uses}


def test_the_column_of_the_texts_is_remembered(published):
    assert read_manifest(published[0]).text_column == "text"


def test_larger_sets_need_fewer_epochs():
    assert [usual_epochs(texts) for texts in (100, 6_000, 12_000, 1_000_000)] == [16, 16, 8, 4]
