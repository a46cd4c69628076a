"""The routes of the serving policy, on two real versions of the tiny classifier."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.policy.file import FILE, edit_policy, read_policy
from service.settings import Settings
from service.stack.application import Application
from tests.pictures import encode
from tests.tiny import solid, write_model, wrong_golden

URL = "/v1/models/classifier"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for version in ("1", "2"):
        write_model(tmp_path / "models", version=version)
    return Settings(models=tmp_path / "models", device="cpu", threads=1)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Application]:
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


async def answering(client: httpx.AsyncClient, **query: str) -> tuple[str, str | None]:
    """Version and alias of an answer."""
    response = await client.post("/v1/predict", params=query, content=encode(solid("red")))
    assert response.status_code == 200, response.text
    answer = response.json()
    assert response.headers["quartet-model"].startswith(f"classifier/{answer['version']}; ")
    return answer["version"], answer.get("alias")


async def change(client: httpx.AsyncClient, method: str, path: str, **body: Any) -> dict[str, Any]:
    response = await client.request(method, f"{URL}/{path}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def shares(state: dict[str, Any]) -> dict[str, float]:
    return {each["version"]: each["share"] for each in state["versions"] if each["status"] == "serving"}


async def test_promote_and_roll_back(client: httpx.AsyncClient, settings: Settings):
    assert await answering(client) == ("2", None)
    state = await change(client, "POST", "promote", version="1")
    assert (state["default"], state["previous"], shares(state)) == ("1", "2", {"1": 1.0})
    assert (settings.models / "classifier" / FILE).read_text() == 'default = "1"\nprevious = "2"\n'
    assert await answering(client) == ("1", None)
    assert await answering(client, version="2") == ("2", None)
    state = await change(client, "POST", "rollback")
    assert (state["default"], state["last"]["action"], state["last"]["actor"]) == ("2", "rollback", "loopback")
    assert await answering(client) == ("2", None)
    entries = (await client.get(f"{URL}/audit")).json()["entries"]
    assert [entry["action"] for entry in entries] == ["rollback", "promote 1"]


async def test_aliases_answer_and_are_in_answers_and_metrics(client: httpx.AsyncClient):
    await change(client, "PUT", "aliases/stable", version="1")
    await change(client, "PUT", "aliases/candidate", version="2")
    assert await answering(client, version="stable") == ("1", "stable")
    assert await answering(client, model="classifier/candidate") == ("2", "candidate")
    metrics = (await client.get("/metrics")).text
    assert 'quartet_batch_size_count{alias="stable",model="classifier",variant="reference",version="1"} 1.0' in metrics
    state = await change(client, "DELETE", "aliases/stable")
    assert state["aliases"] == {"candidate": "2"}
    refused = await client.post("/v1/predict?version=stable", content=encode(solid("red")))
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown-model")


async def test_a_canary_is_sticky_and_becomes_the_default(client: httpx.AsyncClient, app: Application):
    state = await change(client, "PUT", "canary", version="1", share=0.5)
    assert (shares(state), state["canary"]["version"]) == ({"1": 0.5, "2": 0.5}, "1")
    for position, version in (("0.100000", "1"), ("0.900000", "2")):
        response = await client.post("/v1/predict", content=encode(solid("red")), headers={"quartet-route": position})
        assert (response.json()["version"], response.headers["quartet-route"]) == (version, position)
    assert {(await client.get(URL)).json()["version"] for _ in range(8)} == {"2"}  # the default, not its canary
    await change(client, "DELETE", "canary")
    response = await client.post("/v1/predict", content=encode(solid("red")))
    assert "quartet-route" not in response.headers
    steps = [{"share": 0.5, "minutes": 60}, {"share": 1}]
    withdraw = {"after": 20}
    state = await change(client, "PUT", "canary", version="1", steps=steps, sticky="X-User", withdraw=withdraw)
    users = {}
    for user in ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"] * 2:
        response = await client.post("/v1/predict", content=encode(solid("red")), headers={"x-user": user})
        users.setdefault(user, set()).add(response.json()["version"])
    assert {len(versions) for versions in users.values()} == {1}
    assert set().union(*users.values()) == {"1", "2"}
    await app.lifecycle.administration.advance(state["canary"]["next_step"] - 1)
    assert (await client.get(f"{URL}/policy")).json()["default"] == "2"
    # It has not answered enough calls.
    await app.lifecycle.administration.advance(state["canary"]["next_step"] + 1)
    assert (await client.get(f"{URL}/policy")).json()["default"] == "2"
    for _ in range(20):
        await answering(client, version="1")
    app.observers.flush()
    await app.lifecycle.administration.advance(state["canary"]["next_step"] + 1)
    state = (await client.get(f"{URL}/policy")).json()
    assert (state["default"], state["previous"], state["canary"]) == ("1", "2", None)
    assert state["verdict"] == "promoted 1: the last step of its canary has ended"


async def test_load_and_unload(client: httpx.AsyncClient, app: Application):
    state = await change(client, "POST", "load", version="1")
    assert {each["version"]: each["status"] for each in state["versions"]} == {"1": "loaded", "2": "serving"}
    await change(client, "POST", "unload", version="1")
    await app.lifecycle.administration.settled()
    assert [version.version for version in app.repository.versions] == ["2"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "promote", {"version": "7"}, 409, "classifier/7 cannot be served"),
        ("POST", "promote", {"version": "none"}, 409, "'none' is neither a version nor an alias"),
        ("POST", "promote", {}, 409, "neither a shadow nor a canary"),
        ("POST", "promote", {"version": "1", "if_agreement": 2}, 422, "if_agreement"),
        ("POST", "unload", {"version": "2"}, 409, "answers by default"),
        ("POST", "unload", {"version": "7"}, 409, "Version 7 is not loaded"),
        ("PUT", "shadow", {"version": "2"}, 409, "is the default already"),
        ("PUT", "canary", {"version": "1"}, 422, "either a share or steps"),
        ("PUT", "canary", {"version": "1", "share": 0}, 422, "share"),
        ("PUT", "canary", {"version": "1", "shares": 1}, 422, "shares"),
        ("PUT", "aliases/latest", {"version": "1"}, 409, "cannot be an alias"),
        ("DELETE", "aliases/none", {}, 409, "There is no alias"),
        ("POST", "load", {"version": "x" * 65}, 422, "version"),
        ("POST", "load", {"version": True}, 422, "version"),
    ],
)
async def test_what_is_not_possible(
    client: httpx.AsyncClient, settings: Settings, method: str, path: str, body: Any, status: int, says: str
):
    response = await client.request(method, f"{URL}/{path}", json=body)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert says in response.json()["detail"]
    assert not (settings.models / "classifier" / FILE).exists()


async def test_a_large_body_is_refused_before_it_is_parsed(client: httpx.AsyncClient):
    response = await client.post(f"{URL}/promote", content=b'{"version": [' + b"[]," * 10_000 + b"[]]}")
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


async def test_thousands_of_versions_are_not_all_listed(client: httpx.AsyncClient, settings: Settings):
    for number in range(100, 400):
        (settings.models / "classifier" / str(number)).mkdir()
    versions = (await client.get(f"{URL}/policy")).json()["versions"]
    assert [each["version"] for each in versions] == [*(str(number) for number in range(399, 299, -1)), "2"]


async def test_many_changes_at_the_same_time(client: httpx.AsyncClient, app: Application):
    await change(client, "POST", "load", version="1")
    changes = [change(client, "PUT", f"aliases/a{number}", version=str(1 + number % 2)) for number in range(50)]
    changes += [change(client, "POST", "promote", version=str(1 + number % 2)) for number in range(10)]
    await asyncio.gather(*changes)
    await app.lifecycle.administration.settled()
    state = (await client.get(f"{URL}/policy")).json()
    assert state["aliases"] == {f"a{number}": str(1 + number % 2) for number in range(50)}
    served = app.repository.served["classifier"]
    assert read_policy(Path(state["policy"]["file"])) == served.policy
    assert state["default"] == served.policy.default


async def test_a_process_that_has_not_followed_yet_changes_what_is_on_disk(
    client: httpx.AsyncClient, settings: Settings
):
    await change(client, "POST", "load", version="1")
    # Another process promotes version 1, which this one does not know yet.
    path = settings.models / "classifier" / FILE
    edit_policy(path, lambda policy: policy.model_copy(update={"default": "1", "previous": "2"}))
    state = await change(client, "POST", "rollback")
    assert (state["default"], state["previous"]) == ("2", "1")


async def test_a_version_that_cannot_be_served_is_not_promoted(client: httpx.AsyncClient, settings: Settings):
    write_model(settings.models, version="3", change=wrong_golden)
    response = await client.post(f"{URL}/promote", json={"version": "3"})
    assert response.status_code == 409
    assert "differs" in response.json()["detail"]
    assert await answering(client) == ("2", None)


async def test_loading_a_newer_version_does_not_make_it_answer(client: httpx.AsyncClient, settings: Settings):
    write_model(settings.models, version="3")
    state = await change(client, "POST", "load", version="3")
    assert (state["default"], shares(state)) == ("2", {"2": 1.0})
    assert await answering(client) == ("2", None)


async def test_a_rollback_after_a_new_version_loads_nothing(
    client: httpx.AsyncClient, app: Application, settings: Settings
):
    write_model(settings.models, version="5")
    write_model(settings.models, version="3", change=wrong_golden)
    await app.repository.load_all()
    assert await answering(client) == ("5", None)
    async with app.repository._loading:  # another model is being loaded
        async with asyncio.timeout(10):
            assert (await change(client, "POST", "rollback"))["default"] == "2"
        assert await answering(client) == ("2", None)


async def test_a_version_that_is_kept_for_a_rollback_can_be_loaded_for_good(
    client: httpx.AsyncClient, app: Application, settings: Settings
):
    write_model(settings.models, version="3")
    await app.repository.load_all()
    assert app.repository.served["classifier"].asked == ["3"]
    await change(client, "POST", "load", version="2")
    await app.lifecycle.administration.settled()
    served = app.repository.served["classifier"]
    assert (served.policy.load, served.policy.default, sorted(served.asked)) == (("3", "2"), "3", ["2", "3"])


async def test_a_rollback_skips_versions_that_cannot_be_served(client: httpx.AsyncClient, settings: Settings):
    await change(client, "POST", "promote", version="1")
    (settings.models / "classifier" / FILE).write_text("")
    write_model(settings.models, version="5")
    await change(client, "POST", "pin", version="5")
    for number in ("3", "4"):
        write_model(settings.models, version=number, change=wrong_golden)
    (settings.models / "classifier" / FILE).write_text("default = 5")
    assert (await change(client, "POST", "rollback"))["default"] == "2"
    (settings.models / "classifier" / FILE).write_text("default = 5\nprevious = 4")
    response = await client.post(f"{URL}/rollback")
    assert (response.status_code, "classifier/4 cannot be served" in response.json()["detail"]) == (409, True)


async def test_a_rollback_from_a_version_that_was_taken_out(client: httpx.AsyncClient, app: Application):
    await change(client, "PUT", "aliases/stable", version="1")
    await change(client, "POST", "pin", version="2")
    await app.repository.take_out(app.repository.models["classifier"], "it was wrong")
    assert await answering(client) == ("1", "stable")
    state = await change(client, "POST", "rollback")
    assert (state["default"], state["previous"], shares(state)) == ("1", None, {"1": 1.0})


async def test_what_changes_nothing_is_neither_logged_nor_told(
    client: httpx.AsyncClient, app: Application, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "service.lifecycle.admin")
    told: list[str] = []
    app.lifecycle.administration.notify = lambda: told.append("changed")
    await app.lifecycle.administration.decide("classifier", lambda policy, _: policy, "promoted 2", "they agree")
    await change(client, "DELETE", "canary")
    assert (caplog.messages, told) == ([], [])
    await change(client, "PUT", "aliases/stable", version="2")
    assert (caplog.messages, told) == (["classifier: alias stable for 2, by loopback"], ["changed"])


async def test_an_unknown_model(client: httpx.AsyncClient):
    for method, path in (("GET", "policy"), ("GET", "audit"), ("POST", "rollback"), ("DELETE", "canary")):
        response = await client.request(method, f"/v1/models/none/{path}")
        assert (response.status_code, response.json()["code"]) == (404, "unknown-model")


async def test_a_policy_that_cannot_be_written_names_the_file(client: httpx.AsyncClient, settings: Settings):
    (settings.models / "classifier" / ".serving.lock").mkdir()
    response = await client.post(f"{URL}/pin", json={})
    assert response.status_code == 409
    assert "classifier/serving.toml cannot be written" in response.json()["detail"]
    assert (await client.get(f"{URL}/policy")).json()["policy"]["exists"] is False


async def test_the_list_says_what_answers(client: httpx.AsyncClient):
    await change(client, "PUT", "aliases/stable", version="1")
    models = (await client.get("/v1/models")).json()["models"]
    said = {each["version"]: (each["aliases"], each["default"], each["share"]) for each in models}
    assert said == {"1": (["stable"], False, 0.0), "2": ([], True, 1.0)}
    assert (await client.get(f"{URL}")).json()["version"] == "2"
    assert (await client.get(f"{URL}?version=stable")).json()["version"] == "1"
    assert (await client.get(f"{URL}/stable")).json()["version"] == "1"


async def test_policies_are_in_the_openapi_document(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    assert {"get", "put", "delete"} & document["paths"]["/v1/models/{name}/canary"].keys() >= {"put", "delete"}
    assert "alias" in json.dumps(document["components"]["schemas"]["PredictAnswer"])
