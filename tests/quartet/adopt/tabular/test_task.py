"""Pipelines as skl2onnx exports them, adopted and asked through the service."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from quartet.adopt.command_line import main
from quartet.adopt.graph import open_session
from service.app import create_app
from service.inference.cards import ManifestBase
from service.settings import Settings
from service.tasks.registry import read_manifest
from tests.quartet.adopt.tabular.pipelines import MATRICES, NETWORK, STRICT, SURVIVAL, TREE, WORDS, parse

ROWS: list[dict[str, Any]] = [
    {"age": 30, "fare": 20.5, "sex": "female", "port": "Busan"},
    {"age": 71.5, "fare": 40, "sex": "male", "port": "Inchon"},
    {"age": None, "fare": 20, "sex": "MALE", "port": None},
    {"age": 30, "fare": None, "sex": "other", "port": "Pohang"},
]


def adopt(folder: Path, text: str, *options: str) -> int:
    onnx.save(parse(text), folder / "given.onnx")
    common = ("--name", "survived", "--models", str(folder / "models"), "--task", "tabular")
    return main(["adopt", str(folder / "given.onnx"), *common, *options])


def manifest_of(folder: Path) -> ManifestBase:
    return read_manifest(folder / "models" / "survived" / "1")


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(models=folder / "models", device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


async def ask(client: httpx.AsyncClient, rows: list[dict[str, Any]]) -> Any:
    answer = await client.post("/v1/predict-tabular?model=survived", json={"rows": rows})
    return answer.json()["results"] if answer.status_code == 200 else answer.json()["detail"]


def probabilities(results: list[dict[str, Any]]) -> np.ndarray:
    ordered = [sorted(result["labels"], key=lambda label: label["index"]) for result in results]
    return np.array([[label["probability"] for label in labels] for labels in ordered])


async def test_a_pipeline_answers_as_it_did_before(tmp_path, capsys):
    assert adopt(tmp_path, SURVIVAL) == 0
    assert "from skl2onnx 1.20.0" in capsys.readouterr().out
    columns = {
        "age": np.array([[30], [71.5], [np.nan], [30]], np.float32),
        "fare": np.array([[20.5], [40], [20], [np.nan]], np.float32),
        "sex": np.array([["female"], ["male"], ["male"], ["other"]]),
        "port": np.array([["Busan"], ["Inchon"], ["nan"], ["Pohang"]]),
    }
    _, expected = open_session(parse(SURVIVAL), "given").run(columns)
    async with serving(tmp_path) as client:
        results = await ask(client, ROWS)
        np.testing.assert_allclose(probabilities(results), expected, atol=1e-6)
        assert [result.get("unknown") for result in results] == [None, None, None, ["sex", "port"]]
        assert results[0]["labels"][0]["label"] == "yes"
        csv = "port,sex,fare,age\nBusan,female,20.5,30\n,male,20,\n"
        headers = {"Content-Type": "text/csv"}
        answer = await client.post("/v1/predict-tabular?model=survived", content=csv, headers=headers)
        np.testing.assert_allclose(probabilities(answer.json()["results"]), expected[[0, 2]], atol=1e-6)


async def test_what_the_graph_cannot_take_is_an_error_of_the_request(tmp_path):
    assert adopt(tmp_path, STRICT) == 0
    manifest = manifest_of(tmp_path)
    assert manifest.labels == ("2", "5")
    deck, sex, age = manifest.columns
    assert (deck.kind, deck.values, deck.closed, deck.required) == ("category", ("3", "5", "8"), True, True)
    assert (sex.values, sex.closed, sex.required) == (("f", "m"), True, True)
    assert (age.kind, age.integer, age.required) == ("number", True, True)
    good = {"deck": 3, "sex": "m", "age": 40}
    async with serving(tmp_path) as client:
        assert (await ask(client, [good]))[0]["labels"][0]["label"] == "5"
        assert (await ask(client, [good | {"deck": "3"}])) == (await ask(client, [good | {"deck": 3.0}]))
        for changed, said in (
            ({"deck": 4}, "column 'deck': the model does not know '4'; it knows '3', '5', '8'"),
            ({"sex": "x"}, "column 'sex': the model does not know 'x'"),
            ({"sex": None}, "column 'sex': a value is missing, which the model cannot take; send one, such as 'f'"),
            ({"age": 40.5}, "column 'age': 40.5 is not an integer"),
            ({"age": 2**25}, "column 'age': 33554432 is not an integer from -16777216 to 16777216"),
            ({"age": None}, "column 'age': a value is missing"),
        ):
            assert said in await ask(client, [good | changed])
        for values, said in (
            ([3, 0, 40], "must be from 0 to 2"),
            ([0, -1, 40], "must be from 0 to 1"),
            ([0, 0, 1e9], "must be from -1.67772e+07 to 1.67772e+07"),
        ):
            tensor = {"name": "rows", "shape": [1, 3], "datatype": "FP32", "data": values}
            answer = await client.post("/v2/models/survived/infer", json={"inputs": [tensor]})
            assert (answer.status_code, said in answer.json()["error"]) == (400, True)
        described = {"name": "rows", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
        header = json.dumps({"inputs": [described]}).encode()
        answer = await client.post(
            "/v2/models/survived/infer",
            content=header + np.array([0, 0, np.nan], np.float32).tobytes(),
            headers={"Inference-Header-Content-Length": str(len(header))},
        )
        assert answer.json() == {"error": "input 'rows': the value at [0, 2] must not be NaN."}
        assert answer.status_code == 400


async def test_the_document_of_the_api_states_what_each_column_takes(tmp_path):
    assert adopt(tmp_path, STRICT) == 0
    async with serving(tmp_path) as client:
        document = (await client.get("/openapi.json")).json()
        content = document["paths"]["/v1/predict-tabular"]["post"]["requestBody"]["content"]["application/json"]
        request = document["components"]["schemas"]["PredictTabularRequest"]
        row = request["properties"]["rows"]["items"]["properties"]
        assert row["deck"] == {"enum": ["3", "5", "8", 3, 5, 8]}
        number = {"type": ["integer"], "minimum": -(2**24), "maximum": 2**24}
        assert row["age"] == {"anyOf": [number, {"type": "string", "examples": ["0"]}]}
        assert await ask(client, content["example"]["rows"])


async def test_a_regression_over_a_matrix_answers_with_a_number(tmp_path):
    assert adopt(tmp_path, TREE, "--columns", "age,dose", "--target", "effect") == 0
    async with serving(tmp_path) as client:
        rows = [{"age": age, "dose": dose} for age, dose in ((35, 9), (45, 1), (65, 4), (65, 6), (None, 0))]
        assert [result["value"] for result in await ask(client, rows)] == [1, 3, 3, 4, 2]
    manifest = manifest_of(tmp_path)
    assert (manifest.kind, manifest.target, manifest.labels) == ("regression", "effect", ())
    # Rows are drawn where the tree tells them apart.
    with np.load(tmp_path / "models" / "survived" / "1" / "golden.npz") as golden:
        assert {1, 3, 4} <= set(golden[manifest.outputs[0].name].flat)


async def test_a_network_ends_in_scores(tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("low\nmiddle\nhigh\n")
    assert adopt(tmp_path, NETWORK, "--columns", "x,y", "--labels", str(tmp_path / "labels.txt")) == 0
    assert "softmax makes probabilities of it" in capsys.readouterr().out
    scores = np.array([1.1 + 0.4, -1 + 0.6, 0.4 - 0.8])
    async with serving(tmp_path) as client:
        results = await ask(client, [{"x": 1, "y": 2}])
    assert probabilities(results)[0] == pytest.approx(np.exp(scores) / np.exp(scores).sum(), abs=1e-6)
    assert adopt(tmp_path, NETWORK, "--columns", "x,y") == 1
    assert "name these classes with --labels FILE" in capsys.readouterr().err
    (tmp_path / "labels.txt").write_text("low\nhigh\n")
    assert adopt(tmp_path, NETWORK, "--columns", "x,y", "--labels", str(tmp_path / "labels.txt")) == 1
    assert "has 2 labels; the graph has 3 classes" in capsys.readouterr().err


async def test_matrices_of_numbers_and_of_words_are_put_together(tmp_path):
    assert adopt(tmp_path, MATRICES, "--columns", "age,dose,sex,ward") == 0
    age, dose, sex, ward = manifest_of(tmp_path).columns
    assert (age.typical, dose.typical, sex.values, ward.values) == (50, 3, ("f", "m"), ("a", "b"))
    # Without an imputer, a missing number would make everything NaN.
    assert (age.required, sex.required) == (True, False)
    without_zip_map = MATRICES.replace("seq(map(string, float[])) probability", "double[N,2] probabilities")
    without_zip_map = "\n".join(line for line in without_zip_map.splitlines() if "ZipMap" not in line)
    columns = {"numbers": np.array([[45, 2], [60.5, 7]]), "words": np.array([["f", "b"], ["m", "?"]])}
    _, expected = open_session(parse(without_zip_map), "given").run(columns)
    async with serving(tmp_path) as client:
        rows = [
            {"age": 45, "dose": 2, "sex": "f", "ward": "b"},
            {"age": 60.5, "dose": 7, "sex": "m", "ward": "c"},
        ]
        results = await ask(client, rows)
    np.testing.assert_allclose(probabilities(results), expected, atol=1e-6)
    assert [result.get("unknown") for result in results] == [None, ["ward"]]


async def test_sample_rows_give_statistics_names_and_golden_rows(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("effect;age;dose;name\n1;30;2;Kim\n2;50;;Lee\n3;70;8;Park\n")
    assert adopt(tmp_path, TREE, "--columns", "age,dose", "--samples", str(table)) == 0
    manifest = manifest_of(tmp_path)
    age, dose = manifest.columns
    assert (age.mean, age.low, age.high, age.typical, age.missing) == (50, 30, 70, 50, 0)
    assert (dose.mean, dose.missing) == (5, pytest.approx(1 / 3))
    assert manifest.ignored == ("effect", "name")
    assert (manifest.golden.rows, manifest.adopted.samples) == (3, "given")
    async with serving(tmp_path) as client:
        assert len(await ask(client, [{"age": 30, "dose": 2, "name": "Choi"}])) == 1


def test_an_adopted_table_has_no_figures(tmp_path):
    adopt(tmp_path, SURVIVAL)
    manifest = manifest_of(tmp_path)
    assert (manifest.headline, manifest.main_figure, manifest.data) == ({}, None, None)
    age = manifest.columns[0]
    assert (age.mean, age.low, age.typical, age.example) == (None, None, 50, 50)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (TREE, (), "takes a matrix (X) without names: name its 2 columns with --columns"),
        (TREE, ("--columns", "a"), "takes 2 columns: give as many distinct names"),
        (TREE, ("--columns", "a,a"), "takes 2 columns: give as many distinct names"),
        (WORDS, (), "The column 'review' is free text"),
        (SURVIVAL, ("--range", "age=0:9"), "--range is of plain tensors"),
        (SURVIVAL.replace('"LOGISTIC"', '"NONE"'), (), "holds scores, not probabilities"),
        (
            SURVIVAL.replace('strings = ["female", "male"]', 'strings = ["nan", "nan"]'),
            (),
            "holds no words of the column 'sex': give rows that have them all with --samples",
        ),
        (TREE.replace("float[N,2] X", "float[N,K] X"), ("--columns", "a,b"), "with a stated number of columns"),
    ],
)
def test_what_is_no_table_is_refused_with_what_to_do(tmp_path, capsys, text, options, said):
    assert adopt(tmp_path, text, *options) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").rglob("*.onnx"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("age\n1\n", "lacks the column 'dose'"),
        ("age,dose\n1\n", "line 2 has 1 cells, not 2"),
        ("age,dose\n", "at least one row"),
        ("age,dose\n1,old\n", "Row 0, column 'dose': 'old' is not a number"),
    ],
)
def test_sample_rows_that_do_not_fit_are_refused(tmp_path, capsys, rows, said):
    (tmp_path / "rows.csv").write_text(rows)
    assert adopt(tmp_path, TREE, "--columns", "age,dose", "--samples", str(tmp_path / "rows.csv")) == 1
    assert said in capsys.readouterr().err


def test_labels_in_a_wrong_order_are_noticed(tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("yes\nno\n")
    assert adopt(tmp_path, SURVIVAL, "--labels", str(tmp_path / "labels.txt")) == 1
    assert "the labels may be in another order" in capsys.readouterr().err
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    assert adopt(tmp_path, SURVIVAL, "--labels", str(tmp_path / "labels.txt")) == 0
