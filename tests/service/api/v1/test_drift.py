"""Drift over HTTP: what a model with histograms tells, and one without."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.drift import observer
from service.settings import Settings
from service.stack.application import Application
from tests.pictures import encode
from tests.service.drift.drifting import images, written_histograms
from tests.service.drift.test_observer import ended
from tests.shadowed import until
from tests.tiny import write_model

URL = "/v1/models/classifier/drift"


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    monkeypatch.setattr(observer, "_REPORT_SECONDS", 0.01)
    write_model(tmp_path, histograms=written_histograms())
    write_model(tmp_path, name="plain")
    application = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with application.router.lifespan_context(application):
        yield application


async def test_requests_are_compared_with_validation(client: httpx.AsyncClient, app: Application):
    empty = (await client.get(URL)).json()
    assert (empty["version"], empty["items"], empty["since"], empty["drifted"]) == ("1", 0, None, None)
    for _ in range(3):  # observers begin to look after the first one
        await client.post("/v1/predict", content=encode(images(1)[0]))
        app.observers.flush()
    assert (await client.get(URL)).json()["items"] >= 2
    for seed in range(25):
        app.lifecycle.drifts.observe([ended(50, seed, brightness=0.5)])
    state = (await client.get(URL, params={"version": "1"})).json()
    assert "brightness" in state["drifted"]
    assert [each["kind"] for each in state["features"]] == ["number", "number", "category", "number"]
    assert state["features"][2]["categories"] == ["red", "green", "blue"]
    assert state["accuracy"]["test"] == 1.0

    await until(lambda: app.lifecycle.drifts.reports["classifier", "1"]["drifted"] or [])
    lines = (await client.get("/metrics")).text.splitlines()
    known = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("quartet_")}
    version = 'model="classifier",version="1"'
    assert known[f"quartet_drift_items{{{version}}}"] == state["items"]
    assert known[f"quartet_drifted_features{{{version}}}"] == len(state["drifted"])
    distance = known['quartet_drift_distance{feature="brightness",model="classifier",part="input",version="1"}']
    assert distance == pytest.approx(state["features"][0]["distance"])
    assert known[f"quartet_estimated_accuracy{{{version}}}"] == pytest.approx(state["accuracy"]["estimate"])


async def test_a_model_without_histograms_says_how_to_get_them(client: httpx.AsyncClient):
    answer = await client.get("/v1/models/plain/drift")
    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "plain/1 has no histograms of its validation split: `quartet drift plain --data …` publishes a version with "
        "them."
    )
    for path in ("/v1/models/none/drift", f"{URL}?version=7"):
        assert (await client.get(path)).json()["code"] == "unknown-model"
