"""An endpoint: its query, its answers, and its description in OpenAPI."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from service.errors import Abandoned, InvalidRequest
from service.stack.application import Dispatch
from service.stack.endpoint import parse_query
from service.stack.problems import MEDIA_TYPE, Problem
from service.tasks.classification.task import PredictAnswer, PredictOptions
from service.tasks.samples import CAT
from tests.gated import rerun
from tests.pictures import encode
from tests.tiny import LABELS, solid

PNG = {"content-type": "image/png"}


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = "x"
    count: int = 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", Options()),
        (b"count=3", Options(count=3)),
        (b"name=a%20b+c&count=2", Options(name="a b c", count=2)),
        (b"name=", Options(name="")),
        (b"name=%C3%A4", Options(name="ä")),
    ],
)
def test_a_query(query: bytes, expected: Options):
    assert parse_query(Options, query) == expected


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"conut=3", "no parameter 'conut'; there are name, count"),
        (b"count=many", "count=many"),
        (b"count", "name=value"),
        (b"count=1&name=x&count=1", "'count' is given twice"),
        (b"&".join(b"a%d=" % i for i in range(65)), "Max number of fields exceeded"),
        (b"&&", "name=value"),
        (b"\xff=1", "cannot be read"),
    ],
)
def test_an_invalid_query(query: bytes, says: str):
    with pytest.raises(InvalidRequest, match=says):
        parse_query(Options, query)


async def test_a_success_is_what_it_declares(client: httpx.AsyncClient):
    for query in ("", "?top_k=1", "?coverage=0.9", "?model=classifier&top_k=3&coverage=0.95"):
        answer = await client.post("/v1/predict" + query, content=encode(solid("blue")), headers=PNG)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.content)
        model = PredictAnswer.model_validate_json(answer.content, strict=True)
        assert model.results[0].labels[0].label == "blue"
        assert (model.results[0].label_set is not None) == ("coverage" in query)


async def test_top_k_cuts_and_coverage_covers(client: httpx.AsyncClient):
    for k in (1, 2, 3, 1000):
        answer = await client.post(f"/v1/predict?top_k={k}", content=encode(solid("red")), headers=PNG)
        assert len(answer.json()["results"][0]["labels"]) == min(k, 3)
    answer = await client.post("/v1/predict?coverage=0.95&top_k=1", content=encode(solid("red")), headers=PNG)
    (result,) = answer.json()["results"]
    assert len(result["labels"]) == 1
    assert result["label_set"] == ["red", "blue", "green"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("top_k=0", "top_k=0"),
        ("top_k=1000000", "top_k=1000000"),
        ("coverage=0", "coverage=0"),
        ("coverage=1", "coverage=1"),
        ("coverage=0.96", "the highest that classifier was calibrated for is 0.95"),
        ("topk=1", "'topk'; there are model, version, strict, level, top_k, coverage"),
    ],
)
async def test_an_option_out_of_range(client: httpx.AsyncClient, query: str, says: str):
    answer = await client.post(f"/v1/predict?{query}", content=encode(solid("red")), headers=PNG)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


async def test_a_cached_query_is_the_same_answer(client: httpx.AsyncClient):
    answers = [
        (await client.post("/v1/predict?top_k=2", content=encode(solid("red")), headers=PNG)).json() for _ in range(3)
    ]
    assert answers[0] == answers[1] == answers[2]


async def test_long_queries_are_not_remembered(app: FastAPI, client: httpx.AsyncClient):
    (endpoint,) = (route.endpoint for route in app.routes if getattr(route, "path", "") == "/v1/predict")
    image = encode(solid("red"))
    for query in ("model=classifier", "model=classifier&top_k=" + "0" * 300 + "2"):
        for _ in range(3):
            assert (await client.post(f"/v1/predict?{query}", content=image, headers=PNG)).status_code == 200
    for number in range(3):
        assert (await client.post(f"/v1/predict?x{number}=1", content=image, headers=PNG)).status_code == 422
    remembered = endpoint._parse_cached.cache_info()
    assert (remembered.currsize, remembered.hits) == (1, 2)


async def test_server_timing(client: httpx.AsyncClient):
    answer = await client.post("/v1/predict", content=encode(solid("red")), headers=PNG)
    parts = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert set(parts) == {"decode", "queue", "inference"}
    assert all(float(value) >= 0 for value in parts.values())


async def test_openapi_describes_it(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/predict"]["post"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert set(parameters) == set(PredictOptions.model_fields)
    assert all(parameter["in"] == "query" and parameter["description"] for parameter in parameters.values())
    assert not any(parameter["required"] for parameter in parameters.values())
    content = operation["requestBody"]["content"]
    assert {"application/json", "multipart/form-data", "image/*"} <= set(content)
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/PredictAnswer")
    refusals = {"401", "403", "404", "413", "414", "415", "422", "429", "500", "503", "504"}
    assert set(operation["responses"]) == {"200", *refusals}
    for status in refusals:
        problem = document["components"]["responses"][f"Problem{status}"]["content"][MEDIA_TYPE]
        assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert problem["examples"]
        for code, example in problem["examples"].items():
            shown = Problem.model_validate(example["value"])
            assert (shown.status, shown.code) == (int(status), code)
    assert set(document["components"]["schemas"]["Problem"]["properties"]) == set(Problem.model_fields)
    assert content["application/json"]["example"] == {"images": [CAT]}
    answer = await client.post("/v1/predict", json=content["application/json"]["example"])
    assert answer.status_code == 200
    assert {label["label"] for label in answer.json()["results"][0]["labels"]} == set(LABELS)


async def test_openapi_names_the_headers_of_an_answer(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    answer = await client.post("/v1/predict", json={"images": [CAT]})
    responses = document["paths"]["/v1/predict"]["post"]["responses"]
    assert set(responses["200"]["headers"]) == {"X-Request-ID", "Server-Timing"}
    assert all(name in answer.headers for name in responses["200"]["headers"])
    problems = document["components"]["responses"]
    assert set(problems["Problem429"]["headers"]) == {"X-Request-ID", "Retry-After"}
    assert set(problems["Problem422"]["headers"]) == {"X-Request-ID"}
    assert set(document["paths"]["/v1/generate"]["post"]["responses"]["200"]["headers"]) == {"X-Request-ID", "X-Seed"}


async def test_every_reference_of_openapi_leads_somewhere(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()

    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    for reference in references(document):
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


async def test_a_number_that_json_does_not_have_is_an_error(app: FastAPI, client: httpx.AsyncClient):
    batcher = app.repository.models["classifier"].batcher
    rerun(batcher, lambda items: [(np.full(3, np.nan, np.float32),) for _ in items])
    answer = await client.post("/v1/predict", content=encode(solid("red")), headers=PNG)
    assert (answer.status_code, answer.json()["code"]) == (500, "inference-failed")
    rerun(batcher, lambda items: [(np.full(3, 1 / 3, np.float32),) for _ in items])
    named = await client.post("/v1/predict", files=[("files", ("NaN and Infinity.png", encode(solid("red"))))])
    assert named.json()["results"][0]["name"] == "NaN and Infinity.png"


async def test_an_ordinary_route_whose_client_hangs_up_is_no_internal_error(app: FastAPI, client: httpx.AsyncClient):
    async def leave() -> None:
        raise Abandoned

    app.add_api_route("/leave", leave)
    assert (await client.get("/leave")).status_code == 499


async def test_probes_do_not_wait_for_other_routes():
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])

    dispatch = Dispatch(app, [])
    async with dispatch._turn:
        waiting = asyncio.ensure_future(dispatch(scope_of("/openapi.json"), None, None))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        await dispatch(scope_of("/healthz/live"), None, None)  # type: ignore[arg-type]
        assert asked == ["/healthz/live"]
    await waiting
    assert asked == ["/healthz/live", "/openapi.json"]


def scope_of(path: str) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path}
