"""Trials of a version, from the request that starts them to the decision."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.errors import InferenceFailed
from service.inference.scope import CallScope
from service.settings import Settings
from service.stack.application import Application
from tests.gated import rerun
from tests.pictures import encode
from tests.tiny import solid, write_model

URL = "/v1/models/classifier"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Application]:
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    (tmp_path / "classifier" / "serving.toml").write_text("load = 2\ndefault = 1\n")
    application = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with application.router.lifespan_context(application):
        yield application


def fails(_: list[Any]) -> list[Any]:
    raise RuntimeError("broken")


async def predict(client: httpx.AsyncClient, count: int = 1) -> list[int]:
    return [
        (await client.post("/v1/predict", content=encode(solid(("red", "green", "blue")[number % 3])))).status_code
        for number in range(count)
    ]


async def state_when(client: httpx.AsyncClient, what: str, holds: Callable[[Any], bool]) -> Any:
    """The state of a trial or of the policy, once it is so; it becomes so in the background."""
    async with asyncio.timeout(10):
        while True:
            if holds(state := (await client.get(f"{URL}/{what}")).json()):
                return state
            await asyncio.sleep(0.02)


async def test_a_shadow_that_agrees_is_promoted(client: httpx.AsyncClient):
    assert (await client.get(f"{URL}/shadow")).json()["detail"] == "'classifier' has no shadow."
    assert (await client.put(f"{URL}/shadow", json={"version": "2"})).status_code == 200
    assert await predict(client, 12) == [200] * 12
    state = await state_when(client, "shadow", lambda state: state["compared"] == 12)
    assert (state["version"], state["against"], state["agreement"]["value"]) == ("2", "1", 1.0)
    assert {each["label"]: each["compared"] for each in state["classes"]} == {"red": 4, "green": 4, "blue": 4}
    asked = await client.post(f"{URL}/promote", json={"if_agreement": 0.9, "after": 10})
    assert asked.json()["shadow"]["promote"] == {"agreement": 0.9, "after": 10}
    state = await state_when(client, "policy", lambda state: state["default"] == "2")
    assert (state["previous"], state["shadow"]) == ("1", None)
    assert state["verdict"].startswith("promoted 2: the answers to 12 of 12 inputs agree")
    assert state["last"]["actor"] == "policy"


async def test_a_shadow_that_fails_on_every_input_is_withdrawn_and_nobody_notices(
    client: httpx.AsyncClient, app: Application
):
    rerun(app.repository.served["classifier"].loaded["2"].batcher, fails)
    promotion = {"version": "2", "if_agreement": 0.9, "after": 10}
    assert (await client.post(f"{URL}/promote", json=promotion)).status_code == 200
    assert await predict(client, 12) == [200] * 12
    state = await state_when(client, "policy", lambda state: state["shadow"] is None)
    assert state["default"] == "1"
    assert "withdrew the shadow 2: the answers to 0 of " in state["verdict"]


async def test_a_canary_that_fails_is_withdrawn(client: httpx.AsyncClient, app: Application):
    rerun(app.repository.served["classifier"].loaded["2"].batcher, fails)
    canary = {"version": "2", "share": 0.5, "withdraw": {"after": 10}}
    assert (await client.put(f"{URL}/canary", json=canary)).status_code == 200
    statuses = await predict(client, 60)
    assert 500 in statuses
    state = await state_when(client, "policy", lambda state: state["canary"] is None)
    assert "withdrew the canary 2: errors 1.00 against 0.00" in state["verdict"]
    assert await predict(client, 5) == [200] * 5


async def test_a_canary_and_the_default_side_by_side(client: httpx.AsyncClient):
    assert (await client.get(f"{URL}/canary")).status_code == 404
    await client.put(f"{URL}/canary", json={"version": "2", "share": 0.5})
    assert await predict(client, 40) == [200] * 40
    state = await state_when(client, "canary", lambda state: sum(each["requests"] for each in state["versions"]) == 40)
    default, canary = state["versions"]
    assert (default["version"], default["role"], canary["version"], canary["role"]) == ("1", "default", "2", "canary")
    assert set(canary["labels"]) <= {"red", "green", "blue"}
    assert canary["error_share"] == 0
    assert canary["latency_ms"]["p50"] > 0


async def test_the_inputs_on_which_versions_differ_can_be_shown(client: httpx.AsyncClient, app: Application):
    batcher = app.repository.served["classifier"].loaded["2"].batcher
    run = batcher.flow.run
    rerun(batcher, lambda items: [(row[0][::-1].copy(), *row[1:]) for row in run(items)])
    await client.put(f"{URL}/shadow", json={"version": "2"})
    await predict(client, 3)
    state = await state_when(client, "shadow", lambda state: len(state["examples"]) == 3)
    assert state["agreement"]["value"] == pytest.approx(1 / 3)
    first = state["examples"][0]
    assert first["answer"]["labels"][0]["label"] != first["candidate"]["labels"][0]["label"]
    shown = await client.get(f"{URL}/shadow/examples/{first['id']}")
    assert (shown.status_code, shown.headers["content-type"]) == (200, first["media_type"])
    assert (await client.post("/v1/predict", content=shown.content)).status_code == 200
    missing = await client.get(f"{URL}/shadow/examples/none")
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")


async def test_trials_of_an_unknown_model(client: httpx.AsyncClient):
    for path in ("canary", "shadow", "shadow/examples/1"):
        assert (await client.get(f"/v1/models/none/{path}")).status_code == 404


async def test_a_version_on_trial_that_fails_at_everything_ends_no_process(app: Application):
    loaded = app.repository.served["classifier"].loaded
    for number, troubled in (("2", False), ("1", True)):
        version = loaded[number]
        rerun(version.batcher, fails)
        for _ in range(12):
            async with CallScope(app.repository) as call:
                with pytest.raises(InferenceFailed):
                    await call.infer(call.lease(version.label), [solid("red")])
        await asyncio.sleep(0.1)  # the batcher tries an input that the model once answered
        assert (app.trouble() is not None) == troubled


async def test_versions_that_cannot_be_compared_are_refused_as_a_shadow(client: httpx.AsyncClient, app: Application):
    write_model(app.settings.models, version="3", labels=["circle", "square", "star"])
    refused = await client.put(f"{URL}/shadow", json={"version": "3"})
    assert refused.status_code == 422
    assert "cannot be compared" in refused.json()["detail"]
    assert "shadow" not in (app.settings.models / "classifier" / "serving.toml").read_text()
    assert [version.version for version in app.repository.versions] == ["1", "2"]
