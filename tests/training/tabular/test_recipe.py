import io
import json

import httpx
import numpy as np
import pytest
from rich.console import Console

from service.app import create_app
from service.inference.manifest import MODEL
from service.inference.session import Session
from service.settings import Settings
from service.tasks.registry import read_manifest
from service.tasks.tabular.rows import from_csv, from_records
from service.tasks.tabular.task import TabularAnswer, _usual_row
from tests.training.tabular.test_data import customers
from training.__main__ import main
from training.parser import parse
from training.tabular import boosting
from training.tabular.comparison import BOOSTING, DEFAULT, NETWORK
from training.tabular.data import load_table
from training.tabular.options import TabularOptions
from training.tabular.recipe import TabularRecipe
from training.train import train

TINY = ["--hidden", "16", "--epochs", 12, "--lr", "0.01", "--device", "cpu"]


def run(*options):
    console = Console(file=io.StringIO(), width=200)
    train(TabularRecipe(), parse(TabularOptions, list(map(str, options)), "tabular"), console)
    return console.file.getvalue()


@pytest.fixture(scope="module", autouse=True)
def few_iterations():
    """Of gradient boosting, so that the trainings take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boosting, "_ITERATIONS", 20)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder with a classifier of tumours and a regression of a made-up weight, and the console output."""
    folder = tmp_path_factory.mktemp("tabular")
    said = run(*TINY, "--run-dir", folder / "a", "--models", folder / "models", "--publish")
    random = np.random.default_rng(0)
    heights = random.normal(170, 10, 200)
    lines = ["height,noise,weight", *(f"{h:.3f},{random.normal():.3f},{h / 2 + random.normal():.3f}" for h in heights)]
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    options = [
        "--data",
        folder / "people.csv",
        "--target",
        "weight",
        "--name",
        "weight",
        "--epochs",
        60,
        "--dropout",
        0,
    ]
    run(*TINY, *options, "--run-dir", folder / "b", "--models", folder / "models", "--publish")
    return folder / "models", said


@pytest.fixture
async def client(models):
    app = create_app(Settings(models=models[0], device="cpu", threads=1, max_items=300))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


def test_versions_can_be_served_and_learned_something(models):
    folder, said = models
    card = read_manifest(folder / "tabular" / "1")
    assert card.metrics.accuracy > 0.9
    assert set(card.metrics.cross_validated) == {"this model", NETWORK, BOOSTING, DEFAULT, "logistic regression"}
    assert card.baseline.name == DEFAULT
    assert card.metrics.cross_validated["this model"].mean >= card.metrics.cross_validated[DEFAULT].mean
    assert 0 <= card.training.settings["share_of_network"] <= 1
    assert "logistic regression: 0.9" in said
    Session(folder / "tabular" / "1" / MODEL, "cpu").check(folder / "tabular" / "1", card)
    weight = read_manifest(folder / "weight" / "1")
    for each, answer in ((card, "label"), (weight, "value")):
        names = [histogram.name for histogram in each.histograms]
        assert names[: len(each.columns)] == [column.name for column in each.columns]
        assert answer in names
    assert weight.kind == "regression"
    assert weight.metrics.r2 > 0.8
    assert weight.metrics.rmse < 3


@pytest.mark.parametrize("name", ["tabular", "weight"])
def test_reports_show_what_they_link(models, name):
    report = models[0] / name / "1" / "report"
    text = (report / "README.md").read_text()
    assert {path.name for path in report.glob("*.png")} == {"learning-curves.png", "importance.png", "predictions.png"}
    assert all(f"({path.name})" in text for path in report.glob("*.png"))
    assert "| this model |" in text


async def test_test_rows_over_http_score_what_the_manifest_states(models, client):
    data = load_table(TabularOptions())
    rows = [dict(zip(data.columns, row.tolist(), strict=True)) for row in data.test.rows]
    answer = (await client.post("/v1/predict-tabular?top_k=1", json={"rows": rows})).json()
    TabularAnswer.model_validate(answer)
    assert answer["target"] == "diagnosis"
    found = np.array([result["labels"][0]["index"] for result in answer["results"]])
    accuracy = (found == data.test.targets).mean()
    assert accuracy == pytest.approx(read_manifest(models[0] / "tabular" / "1").metrics.accuracy)


async def test_numbers_from_csv_with_a_missing_one(client):
    headers = {"content-type": "text/csv"}
    content = b"height,noise,weight\n"
    response = await client.post("/v1/predict-tabular?model=weight", content=content + b"1,2,3\n", headers=headers)
    assert response.status_code == 200  # the target is not looked at
    response = await client.post(
        "/v1/predict-tabular?model=weight", content=b"noise,height\n0,180\n0,160\n,170\n", headers=headers
    )
    values = [result["value"] for result in response.json()["results"]]
    np.testing.assert_allclose(values, [90, 80, 85], atol=3)


async def test_bad_rows_are_named(client):
    response = await client.post("/v1/predict-tabular", json={"rows": [{"mean radius": 1}]})
    assert response.status_code == 422
    assert "lacks the columns 'mean texture', 'mean perimeter'" in response.json()["detail"]
    headers = {"content-type": "application/json"}
    response = await client.post(
        "/v1/predict-tabular?model=weight", content=b'{"rows": [{"height": NaN, "noise": 1}]}', headers=headers
    )
    assert response.status_code == 422
    assert "Row 0, column 'height'" in response.json()["detail"]
    response = await client.post("/v1/predict-tabular?model=weight", json={"rows": [{"height": 1, "noise": 1}] * 301})
    assert response.status_code == 413
    assert (
        await client.post("/v1/predict-tabular", content=b"x", headers={"content-type": "image/png"})
    ).status_code == 415


async def test_the_page_shows_the_real_columns(client):
    document = (await client.get("/openapi.json")).json()
    content = document["paths"]["/v1/predict-tabular"]["post"]["requestBody"]["content"]
    example = content["application/json"]["example"]
    # Two tabular models are served; the page's example is for the default one.
    data = load_table(TabularOptions())
    assert set(example["rows"][0]) == set(data.columns)
    row = np.array([example["rows"][0][name] for name in data.columns])
    assert np.isclose(data.train.rows, row, rtol=1e-5).all(1).any()  # of a training row
    assert (await client.post("/v1/predict-tabular", json=example)).status_code == 200
    headers = {"content-type": "text/csv"}
    text = content["text/csv"]["example"]
    assert (await client.post("/v1/predict-tabular", content=text, headers=headers)).status_code == 200


def test_without_publishing_a_draft_lies_in_the_run(tmp_path):
    run(*TINY, "--run-dir", tmp_path / "run", "--models", tmp_path / "models")
    assert json.loads((tmp_path / "run" / "export" / "manifest.json").read_text())["task"] == "tabular"
    assert not (tmp_path / "models").exists()


def test_a_table_of_a_few_rows(tmp_path, capsys, forget_accelerator):
    random = np.random.default_rng(0)
    lines = ["x,price", *(f"{random.normal():.3f},{2.5 * row:.2f}" for row in range(16))]
    (tmp_path / "[few].csv").write_text("\n".join(lines) + "\n")
    data = [
        "--data",
        tmp_path / "[few].csv",
        "--target",
        "price",
        "--kind",
        "regression",
        "--run-dir",
        tmp_path / "run",
    ]
    assert main([*map(str, ["tabular", *TINY, *data])]) == 0
    said = capsys.readouterr().out
    assert "[few]: 10 training, 2 validation and 4 test rows" in said
    manifest = read_manifest(tmp_path / "run" / "export")
    assert manifest.baseline is None  # an R² of one validation row is no number
    rows = np.zeros((3, 1), np.float32)
    assert Session(tmp_path / "run" / "export" / MODEL, "cpu").run({"rows": rows})[0].shape == (3, 1)


def test_a_messy_table_is_served_with_its_own_words(tmp_path):
    (tmp_path / "x.csv").write_text("\n".join(customers(150)), encoding="cp949")
    run(
        "--data", tmp_path / "x.csv", "--target", "이탈", "--name", "churn", *TINY, "--epochs", 2,
        "--run-dir", tmp_path / "run", "--models", tmp_path / "models", "--publish",
    )  # fmt: skip
    folder = tmp_path / "models" / "churn" / "1"
    card = read_manifest(folder)
    session = Session(folder / MODEL, "cpu")
    session.check(folder, card)
    row = _usual_row(card)
    assert row["도시"] in ("서울", "부산")
    assert row["흡연"] in ("예", "아니오")
    assert row["가입일"].startswith("2024.")
    unknown = row | {"도시": "평양", "고객번호": 5, "나이": "?"}
    rows = from_records([row, unknown], card.reading, 2)
    answers, _ = session.run({card.inputs[0].name: rows})
    assert np.isfinite(answers).all()
    assert card.reading.unknown(rows[1]) == ["도시"]
    text = "\n".join(customers(150)[:3])
    assert len(from_csv(text, card.reading, 5)) == 2
