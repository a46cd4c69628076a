"""The outermost layer: ids, log lines, and counts by route."""

import re
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Send

from service.app import create_app
from service.observe.events import RequestEnded
from service.settings import Settings
from service.stack.context import RequestContext
from tests.pictures import encode
from tests.tiny import solid

PNG = {"content-type": "image/png"}


@pytest.mark.parametrize("given", ["a", "5f3a9c-2b", "A.b_c:d-1", "x" * 64])
async def test_a_valid_id_is_kept(client: httpx.AsyncClient, given: str):
    for answer in (
        await client.post("/v1/predict", content=encode(solid("red")), headers={**PNG, "x-request-id": given}),
        await client.get("/healthz/live", headers={"x-request-id": given}),
        await client.get("/nowhere", headers={"x-request-id": given}),
    ):
        assert answer.headers.get_list("x-request-id") == [given]
    assert answer.json()["request_id"] == given


@pytest.mark.parametrize("given", [b"", b"x" * 65, b"a b", b"a\nb", b"a\x00", b"a\x1b[31m", "ä".encode(), b"a;b"])
async def test_an_invalid_id_is_replaced(client: httpx.AsyncClient, given: bytes):
    answer = await client.get("/healthz/live", headers=[(b"x-request-id", given)])
    (replaced,) = answer.headers.get_list("x-request-id")
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", replaced)


async def test_ids_differ(client: httpx.AsyncClient):
    ids = {(await client.get("/healthz/live")).headers["x-request-id"] for _ in range(50)}
    assert len(ids) == 50


def counts(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a counter: from label values, in the order of the label names, to the count."""
    return {
        tuple(re.findall(r'="([^"]*)"', labels)): float(value)
        for labels, value in re.findall(rf"^{name}\{{(.*?)\}} (\S+)$", text, re.MULTILINE)
    }


async def test_requests_are_counted_by_route_and_status(client: httpx.AsyncClient):
    await client.post("/v1/predict", content=encode(solid("red")), headers=PNG)
    await client.post("/v1/predict", content=encode(solid("red")), headers=PNG)
    await client.post("/v1/predict", content=b"no image", headers=PNG)
    await client.post("/v1/predict?top_k=0", content=b"", headers=PNG)
    await client.get("/v1/predict")
    await client.get("/v1/models/classifier")
    await client.get("/v1/models/nope")
    for number in range(20):
        await client.get(f"/nowhere/{number}")
        await client.get(f"/wp-login.php?{number}")
    text = (await client.get("/metrics")).text
    requests = counts(text, "quartet_requests_total")
    assert requests["POST", "/v1/predict", "200"] == 2
    assert requests["POST", "/v1/predict", "422"] == 2
    assert requests["GET", "/v1/predict", "405"] == 1
    assert requests["GET", "/v1/models/{name}", "200"] == 1
    assert requests["GET", "/v1/models/{name}", "404"] == 1
    assert requests["GET", "other", "404"] == 40
    assert not any("nowhere" in route or "php" in route for _, route, _ in requests)
    refused = counts(text, "quartet_problems_total")
    # The order of the labels is problem, route.
    assert refused["undecodable-image", "/v1/predict"] == 1
    assert refused["invalid-request", "/v1/predict"] == 1
    assert refused["unknown-model", "/v1/models/{name}"] == 1
    assert counts(text, "quartet_request_seconds_count")["/v1/predict",] >= 4


async def test_unknown_methods_share_a_label(app: FastAPI, client: httpx.AsyncClient):
    for method in ("BREW", "PROPFIND", "X" * 50):
        assert (await client.request(method, "/v1/predict")).status_code == 405
    requests = counts((await client.get("/metrics")).text, "quartet_requests_total")
    assert requests["other", "/v1/predict", "405"] == 3


async def test_every_answer_keeps_browsers_from_guessing_its_type(client: httpx.AsyncClient):
    for answer in (
        await client.post("/v1/predict", content=encode(solid("red")), headers=PNG),
        await client.post("/v1/predict", content=b"no", headers=PNG),
        await client.get("/v1/models"),
        await client.get("/nowhere"),
        await client.get("/metrics"),
        await client.get("/docs"),
        await client.get("/docs/static/swagger-ui.css"),
    ):
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


async def test_a_request_is_logged(settings: Settings, capsys: pytest.CaptureFixture):
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        await client.post("/v1/predict", content=encode(solid("red")), headers={**PNG, "x-request-id": "one"})
        await client.post("/v1/predict", content=b"no", headers={**PNG, "x-request-id": "two"})
    first, second = capsys.readouterr().err.splitlines()
    assert re.search(
        r" id=one POST /v1/predict status=200 ms=\d+\.\d\d model=classifier/1 variant=reference items=1 "
        r"queue_ms=\d+\.\d+ inference_ms=\d+\.\d+$",
        first,
    )
    assert " id=two " in second
    assert " status=422 " in second
    assert second.endswith(" problem=undecodable-image")


async def test_a_stream_that_breaks_off_counts_as_a_failure():
    async def broken(scope: object, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("the other half")

    ended: list[RequestEnded] = []
    layer = RequestContext(broken, SimpleNamespace(publish=ended.append))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(layer), base_url="http://quartet") as client:
        with pytest.raises(RuntimeError):
            await client.get("/half")
    assert [(event.status, event.facts) for event in ended] == [(200, {"problem": "internal-error"})]
