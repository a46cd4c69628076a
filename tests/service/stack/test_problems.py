"""Every failure is a problem document, of endpoints and of FastAPI's routes."""

import json
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI, Response

from service.app import create_app
from service.errors import BodyTooLarge, InferenceFailed, InvalidRequest, Overloaded, QuartetError
from service.settings import Settings
from service.stack.failures import response_to
from service.stack.problems import MEDIA_TYPE, Problem, problem_json
from service.tasks.samples import CAT
from tests.gated import rerun
from tests.pictures import encode
from tests.tiny import solid

SCOPE = {"path": "/v1/predict", "quartet.id": "abc-1"}


def problem(error: QuartetError, **more: object) -> Response:
    app = SimpleNamespace(error_formats={"/v1": problem_json})
    return response_to(error, {**SCOPE, "app": app, **more})


def test_a_problem():
    answer = problem(InvalidRequest("Say it right.", index=0))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.body) == {
        "type": "/problems/invalid-request",
        "code": "invalid-request",
        "title": "Invalid request",
        "status": 422,
        "detail": "Say it right.",
        "instance": "/v1/predict",
        "request_id": "abc-1",
        "index": 0,
    }
    assert not {"index", "errors"} & json.loads(problem(InvalidRequest("Say it right.")).body).keys()


def test_the_type_leads_to_a_page_below_the_prefix_of_the_server():
    assert json.loads(problem(InvalidRequest("No."), root_path="/below/").body)["type"] == (
        "/below/problems/invalid-request"
    )


@pytest.mark.parametrize(
    ("agent", "type_"),
    [
        (b"quartet/0.1.0", "urn:quartet:problem:invalid-request"),
        (b"quartet/0.2.0", "/problems/invalid-request"),
        (b"quartet/0.10.0", "/problems/invalid-request"),
        (b"curl/8", "/problems/invalid-request"),
    ],
)
def test_clients_of_the_version_before_get_the_type_that_they_know(agent: bytes, type_: str):
    headers = [(b"host", b"x"), (b"user-agent", agent)]
    document = json.loads(problem(InvalidRequest("No."), headers=headers).body)
    assert (document["type"], document["code"]) == (type_, "invalid-request")


@pytest.mark.parametrize(("wait", "header"), [(0.0, "1"), (0.4, "1"), (2.6, "3"), (75.0, "75")])
def test_retry_after_is_whole_seconds_and_never_none(wait: float, header: str):
    answer = problem(Overloaded("Later.", retry_after=wait))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == header


def test_a_body_too_large_ends_the_connection():
    assert problem(BodyTooLarge("Less.")).headers["connection"] == "close"


def check(answer: httpx.Response, status: int, slug: str) -> Problem:
    assert answer.headers["content-type"] == MEDIA_TYPE
    document = Problem.model_validate_json(answer.content)
    assert (answer.status_code, document.status, document.code) == (status, status, slug)
    assert document.instance == answer.request.url.path
    assert document.request_id == answer.headers["x-request-id"]
    assert document.title
    assert document.detail
    return document


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/predictions", "/v1/predict/x"])
async def test_no_route(client: httpx.AsyncClient, path: str):
    document = check(await client.get(path), 404, "not-found")
    assert path in document.detail


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/predict", "POST"),
        ("DELETE", "/v1/predict", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/healthz/ready", "GET"),
    ],
)
async def test_another_method(client: httpx.AsyncClient, method: str, path: str, allowed: str):
    answer = await client.request(method, path)
    check(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


async def test_an_unknown_model_names_those_there_are(client: httpx.AsyncClient):
    for answer in (
        await client.post("/v1/predict?model=nope", content=encode(solid("red"))),
        await client.get("/v1/models/nope"),
    ):
        assert "there are classifier" in check(answer, 404, "unknown-model").detail


async def test_every_wrong_parameter_is_listed(client: httpx.AsyncClient):
    answer = await client.post("/v1/predict?top_k=0&strict=maybe&colour=1&top_k=0", content=encode(solid("red")))
    document = check(answer, 422, "invalid-request")
    assert document.detail == "The parameter 'top_k' is given twice (and 3 other errors)."
    assert [error.parameter for error in document.errors] == ["top_k", "strict", "top_k", "colour"]
    assert document.errors[2].detail == "top_k=0: Input should be greater than or equal to 1."
    assert "there are model, version, strict, level, top_k" in document.errors[3].detail
    (error,) = answer.json()["errors"][:1]
    assert error == {"detail": "The parameter 'top_k' is given twice.", "parameter": "top_k"}
    many = await client.post("/v1/predict?" + "&".join(f"a{number}=" for number in range(60)))
    assert len(check(many, 422, "invalid-request").errors) == 20
    assert "(and 19 or more other errors)" in many.json()["detail"]


async def test_every_wrong_image_of_a_document_is_listed(client: httpx.AsyncClient):
    answer = await client.post("/v1/predict", json={"images": ["%", CAT, 7]})
    document = check(answer, 422, "invalid-request")
    assert document.index == 0
    assert [error.pointer for error in document.errors] == ["#/images/0", "#/images/2"]


async def test_every_wrong_field_of_a_change_is_listed(client: httpx.AsyncClient):
    url = "/v1/models/classifier/promote"
    document = check(await client.post(url, json={"version": 2, "after": 0, "colour": 1}), 422, "invalid-request")
    assert [error.pointer for error in document.errors] == ["#/version", "#/after", "#/colour"]
    assert document.errors[2].detail == "There is no field 'colour'."
    document = check(await client.post(url, content=b"{"), 422, "invalid-request")
    assert [error.pointer for error in document.errors] == ["#"]
    document = check(await client.get("/v1/models/classifier/1/samples/-1"), 422, "invalid-request")
    assert [error.parameter for error in document.errors] == ["index"]


LONG = "x" * 7_000
LONGEST = "x" * 30_000


@pytest.mark.parametrize(
    ("method", "path", "content_type", "body", "status"),
    [
        ("GET", f"/v1/models/{LONG}", "", b"", 404),
        ("POST", f"/v1/predict?model={LONG}", "image/png", b"", 404),
        ("POST", f"/v1/predict?model=classifier/{LONG}", "image/png", b"", 404),
        ("POST", f"/v1/predict?{LONG}=1", "image/png", b"", 422),
        ("POST", f"/v1/predict?{LONG[:3_000]}=1&{LONG[:3_000]}=2", "image/png", b"", 422),
        ("POST", f"/v1/predict?top_k={LONG}", "image/png", b"", 422),
        ("POST", "/v1/predict", LONGEST, b"", 415),
        ("POST", "/v1/predict", f"application/json; charset={LONGEST}", b"", 415),
        ("POST", "/v1/predict", f"multipart/form-data; boundary={LONGEST}", b"--", 422),
        ("GET", f"/{LONG}", "", b"", 404),
        (LONG, "/v1/predict", "", b"", 405),
        ("GET", f"/{LONGEST}", "", b"", 414),
        ("POST", f"/v1/predict?{'&'.join(f'a{i}=' for i in range(2_000))}&a0=", "image/png", b"", 414),
    ],
    ids=[
        "name", "model", "version", "parameter", "twice", "value", "content type", "charset", "boundary", "path",
        "method", "longest path", "longest query",
    ],
)  # fmt: skip
async def test_what_was_sent_is_not_echoed_whole(
    client: httpx.AsyncClient, method: str, path: str, content_type: str, body: bytes, status: int
):
    answer = await client.request(method, path, headers={"content-type": content_type}, content=body)
    assert answer.status_code == status
    assert Problem.model_validate_json(answer.content).status == status
    assert len(answer.content) < 1000


async def test_the_item_at_fault(client: httpx.AsyncClient):
    good, bad = ("files", ("good.png", encode(solid("red")))), ("files", ("bad.png", b"bad"))
    answer = await client.post("/v1/predict", files=[good] * 20 + [bad] + [good])
    assert check(answer, 422, "undecodable-image").index == 20


async def test_fastapis_own_validation(app: FastAPI, client: httpx.AsyncClient):
    @app.get("/square")
    async def square(x: int) -> int:
        return x * x

    assert (await client.get("/square?x=3")).json() == 9
    assert "x" in check(await client.get("/square?x=three"), 422, "invalid-request").detail


async def test_a_route_that_breaks(app: FastAPI):
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a secret")

    # As with a real server, the exception does not reach the client.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        answer = await client.get("/broken")
    check(answer, 500, "internal-error")
    assert "secret" not in answer.text


async def test_a_thin_route_that_breaks(app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(app, "threads", None)
    answer = await client.post("/v1/predict", content=encode(solid("red")))
    check(answer, 500, "internal-error")
    assert "NoneType" not in answer.text


async def test_a_model_that_fails(app: FastAPI, client: httpx.AsyncClient):
    def run(items: list) -> list:
        raise RuntimeError("out of memory")

    rerun(app.repository.models["classifier"].batcher, run)
    answer = await client.post("/v1/predict", files=[("files", ("a", encode(solid("red"))))] * 40)
    assert check(answer, 500, InferenceFailed.slug).index == 0


async def test_a_full_queue(app: FastAPI, client: httpx.AsyncClient):
    app.repository.models["classifier"].batcher.admission._max_queue = 0
    answer = await client.post("/v1/predict", content=encode(solid("red")))
    check(answer, 429, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1


async def test_not_ready(app: FastAPI, client: httpx.AsyncClient):
    app.ready = False
    check(await client.get("/healthz/ready"), 503, "not-ready")
    assert (await client.get("/healthz/live")).status_code == 200


async def test_draining(app: FastAPI, client: httpx.AsyncClient):
    await app.repository.close()
    check(await client.post("/v1/predict", content=encode(solid("red"))), 503, "not-ready")


def test_an_error_without_a_slug_is_an_internal_error():
    assert problem(QuartetError("Oh.")).status_code == 500


async def test_a_model_that_hangs_or_only_fails_shows_in_the_probes(
    app: FastAPI, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
):
    batcher = app.repository.models["classifier"].batcher
    batcher._failed_batches, batcher._broken = 11, True
    for probe in ("live", "ready"):
        document = check(await client.get(f"/healthz/{probe}"), 503, "model-broken")
        assert document.detail.startswith("A model is not responding, and only a restart helps")
        assert "'classifier/1' is not responding: the last 11 batches failed whole" in caplog.text
        caplog.clear()


async def test_a_model_without_a_version_that_can_answer_shows_in_the_readiness_probe(
    app: FastAPI, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
):
    (version,) = app.repository.versions
    await app.repository.take_out(version, "its answers differ")
    document = check(await client.get("/healthz/ready"), 503, "model-broken")
    assert document.detail == "A model has no version that can answer: the log says which one and why."
    assert "classifier/1 serves no longer: its answers differ" in caplog.text


async def test_every_problem_is_counted_and_logged(settings: Settings, capsys: pytest.CaptureFixture):
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        await client.get("/nowhere")
        await client.get("/v1/predict")
        text = (await client.get("/metrics")).text
    assert 'quartet_problems_total{problem="not-found",route="other"} 1.0' in text
    assert 'problem="method-not-allowed"' in text
    assert "GET /nowhere status=404" in (first := capsys.readouterr().err.splitlines()[0])
    assert first.endswith(" problem=not-found")


def test_openapi_offers_problems_as_problem_json_alone(settings: Settings):
    for problem in create_app(settings).openapi()["components"]["responses"].values():
        assert list(problem["content"]) == [MEDIA_TYPE]
