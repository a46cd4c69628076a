"""The real server with the committed tabular model: rows of numbers, and the examples on its API page."""

import csv
import io

import httpx
import numpy as np
import pytest

from service.tasks.registry import read_manifest
from tests.server import ROOT, Server

FOLDER = ROOT / "models" / "tabular" / "1"
MANIFEST = read_manifest(FOLDER)
NAMES = [column.name for column in MANIFEST.columns]
GOLDEN = np.load(FOLDER / "golden.npz")
ROWS = GOLDEN[MANIFEST.inputs[0].name]
ANSWERS = GOLDEN[MANIFEST.outputs[0].name]


@pytest.fixture
def client(everything: Server):
    with everything.client() as client:
        yield client


def records() -> list[dict[str, float | None]]:
    return [
        {name: None if np.isnan(value) else float(value) for name, value in zip(NAMES, row, strict=True)}
        for row in ROWS
    ]


def probabilities(results: list[dict]) -> np.ndarray:
    return np.array([
        [label["probability"] for label in sorted(result["labels"], key=lambda label: label["index"])]
        for result in results
    ])  # fmt: skip


def test_rows_as_json_and_as_csv_get_the_model_s_answers(client: httpx.Client):
    document = client.post("/v1/predict-tabular", json={"rows": records()}).json()
    assert document["target"] == MANIFEST.target
    np.testing.assert_allclose(probabilities(document["results"]), ANSWERS, atol=1e-4)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(reversed(NAMES)))
    writer.writeheader()
    writer.writerows(records())
    sent = client.post("/v1/predict-tabular", content=text.getvalue(), headers={"content-type": "text/csv"})
    np.testing.assert_allclose(probabilities(sent.json()["results"]), ANSWERS, atol=1e-4)


def test_the_docs_example_has_the_models_columns_and_works(client: httpx.Client):
    page = client.get("/openapi.json").json()
    content = page["paths"]["/v1/predict-tabular"]["post"]["requestBody"]["content"]
    example = content["application/json"]["example"]
    assert list(example["rows"][0]) == NAMES
    assert client.post("/v1/predict-tabular", json=example).status_code == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({NAMES[0]: "large"}, f"Row 1, column '{NAMES[0]}'"),
        ({"weight": 3.0}, "Row 1 has the unknown column 'weight'"),
        ({NAMES[2]: ...}, f"Row 1 lacks the column '{NAMES[2]}'"),
    ],
)
def test_a_bad_row_is_named(client: httpx.Client, change: dict, said: str):
    rows = records()[:3]
    rows[1] = {name: value for name, value in {**rows[1], **change}.items() if value is not ...}
    response = client.post("/v1/predict-tabular", json={"rows": rows})
    assert response.status_code == 422
    assert said in response.json()["detail"]
    assert response.json()["index"] == 1


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_non_finite_number_is_named(client: httpx.Client, number: str):
    body = (
        '{"rows": [{'
        + ", ".join(f'"{name}": {number if index == 4 else 1.0}' for index, name in enumerate(NAMES))
        + "}]}"
    )
    response = client.post("/v1/predict-tabular", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"Row 0, column '{NAMES[4]}'")
