"""One request: what is sent again and when, and what becomes of answers that are no success."""

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

import quartet
from quartet import http


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited, on a clock that they move."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(http.asyncio, "sleep", sleep)
    monkeypatch.setattr(http.time, "monotonic", lambda: sum(waited))
    return waited


def answering(*answers: httpx.Response | Exception) -> tuple[quartet.AsyncClient, list[httpx.Request]]:
    """A client that gets these answers, one after the other and the last for ever, and the requests that it sent."""
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        answer = answers[min(len(sent), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return quartet.AsyncClient("quartet", retry_for=30, transport=httpx.MockTransport(handle)), sent


def refused(status: int, slug: str = "overloaded", **headers: str) -> httpx.Response:
    fields = {"type": f"/problems/{slug}", "code": slug, "title": "No", "detail": "Not now.", "future": 1}
    return httpx.Response(status, content=json.dumps(fields).encode(), headers=headers)


MODELS = httpx.Response(200, json={"models": []})


async def test_retry_after_is_honoured_with_jitter(pauses: list[float]):
    for _ in range(20):
        client, sent = answering(refused(429, **{"retry-after": "2"}), MODELS)
        assert await client.models() == []
        assert len(sent) == 2
    assert all(2 <= pause <= 3 for pause in pauses)
    assert len(set(pauses)) == 20


async def test_a_date_says_when_to_come_back_too(pauses: list[float]):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)
    client, _ = answering(refused(503, "not-ready", **{"retry-after": date}), MODELS)
    await client.models()
    assert 8 <= pauses[0] <= 15


async def test_pauses_grow_and_end_with_the_time_that_was_given(pauses: list[float]):
    client, sent = answering(refused(503, "model-broken"))
    with pytest.raises(quartet.ModelBrokenError):
        await client.models()
    assert len(sent) == len(pauses) + 1
    assert pauses[0] < 0.5
    assert max(pauses) > 4
    assert 18 < sum(pauses) <= 30


async def test_nobody_waits_longer_than_was_allowed(pauses: list[float]):
    client, _ = answering(refused(429, **{"retry-after": "31"}))
    with pytest.raises(quartet.OverloadedError) as raised:
        await client.models()
    assert raised.value.retry_after == 31
    assert pauses == []


async def test_what_cannot_change_is_not_sent_again(pauses: list[float]):
    client, sent = answering(refused(404, "unknown-model"))
    with pytest.raises(quartet.UnknownModelError, match=r"Not now\."):
        await client.models()
    assert len(sent) == 1


async def test_a_connection_that_fails_or_breaks_is_retried(pauses: list[float], caplog: pytest.LogCaptureFixture):
    refused = httpx.ConnectError("refused")
    client, sent = answering(refused, refused, httpx.ReadError(""), MODELS)
    assert await client.models() == []
    assert len(sent) == 4
    (record,) = caplog.records
    assert record.getMessage() == (
        "http://quartet cannot be reached (refused): is the server running there? Retrying for up to 30 s."
    )


async def test_the_last_attempt_comes_when_the_time_is_up(pauses: list[float]):
    client, sent = answering(httpx.ConnectError("refused"))
    with pytest.raises(quartet.UnreachableError, match="is the server running there"):
        await client.models()
    assert sum(pauses) == pytest.approx(30)
    assert len(sent) == len(pauses) + 1


@pytest.fixture
def late_server() -> Iterator[str]:
    """The URL of a server whose port opens after half a second."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "14")
            self.end_headers()
            self.wfile.write(b'{"models": []}')

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.server_bind()  # keeps the port; connections are refused until it listens

    def serve() -> None:
        time.sleep(0.5)
        server.server_activate()
        server.serve_forever(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_server_that_starts_is_waited_for(late_server: str):
    async with quartet.AsyncClient(late_server) as client:
        assert await client.models() == []


def test_a_server_that_starts_is_waited_for_without_a_loop(late_server: str):
    with quartet.Client(late_server) as client:
        assert client.models() == []


async def test_without_retries_a_refused_connection_fails_at_once(late_server: str):
    async with quartet.AsyncClient(late_server, retry_for=0) as client:
        with pytest.raises(quartet.UnreachableError, match="is the server running there"):
            await client.models()
        async with quartet.AsyncClient(late_server) as patient:  # until the port is open, for the fixture
            await patient.models()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "there is no such host"),
        (ssl.SSLCertVerificationError("self-signed certificate"), "cannot be reached .*self-signed"),
    ],
)
async def test_an_unknown_host_and_an_invalid_certificate_fail_at_once(
    failure: OSError, words: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> NoReturn:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with quartet.AsyncClient("http://quartet.example") as client:
        with pytest.raises(quartet.UnreachableError, match=words):
            await client.models()
    assert pauses == []


async def test_the_name_of_a_server_that_has_answered_may_disappear_for_a_while(pauses: list[float]):
    unknown = httpx.ConnectError("unknown")
    unknown.__cause__ = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    client, sent = answering(MODELS, unknown, MODELS)
    await client.models()
    await client.models()
    assert len(sent) == 3


async def test_a_request_that_cannot_be_sent_is_not_retried(pauses: list[float]):
    client, sent = answering(httpx.LocalProtocolError("Illegal header value"))
    with pytest.raises(quartet.UnreachableError, match="Illegal header value"):
        await client.models()
    assert (len(sent), pauses) == (1, [])


async def test_a_problem_has_its_fields(pauses: list[float]):
    client, _ = answering(refused(422, "wrong-task"))
    with pytest.raises(quartet.WrongTaskError) as raised:
        await client.models()
    problem = raised.value
    assert (problem.code, problem.type) == ("wrong-task", "/problems/wrong-task")
    assert (problem.status, problem.title, problem.detail) == (422, "No", "Not now.")
    assert problem.fields["future"] == 1


async def test_older_servers_state_the_code_in_the_type(pauses: list[float]):
    fields = {"type": "urn:quartet:problem:unknown-model", "title": "Unknown model"}
    client, _ = answering(httpx.Response(404, json=fields))
    with pytest.raises(quartet.UnknownModelError) as raised:
        await client.models()
    assert (raised.value.code, raised.value.errors) == ("unknown-model", ())


async def test_validation_errors_are_listed(pauses: list[float]):
    errors = [{"detail": "No.", "parameter": "top_k"}, {"detail": "Nor this.", "pointer": "#/rows/0/age"}]
    fields = {"type": "/problems/invalid-request", "code": "invalid-request", "title": "No", "errors": errors}
    client, _ = answering(httpx.Response(422, json=fields))
    with pytest.raises(quartet.InvalidRequestError) as raised:
        await client.models()
    assert raised.value.type == "/problems/invalid-request"
    assert raised.value.errors == (
        quartet.InvalidField("No.", parameter="top_k"),
        quartet.InvalidField("Nor this.", pointer="#/rows/0/age"),
    )


async def test_an_unknown_problem_and_a_proxys_page_are_plain_problems(pauses: list[float]):
    client, _ = answering(refused(402, "payment-due"))
    with pytest.raises(quartet.ProblemError, match=r"Not now\.") as raised:
        await client.models()
    assert type(raised.value) is quartet.ProblemError
    client, _ = answering(httpx.Response(400, text="<h1>Bad\n gateway</h1>"))
    with pytest.raises(quartet.ProblemError, match="<h1>Bad gateway</h1>") as raised:
        await client.models()
    assert (raised.value.status, raised.value.title) == (400, "Bad Request")


@pytest.mark.parametrize(
    ("status", "slug", "kind"),
    [
        (401, "unauthorized", quartet.UnauthorizedError),
        (403, "forbidden", quartet.ForbiddenError),
        (429, "rate-limited", quartet.RateLimitedError),
    ],
)
async def test_what_a_key_may_not_do_has_classes_of_its_own(
    pauses: list[float], status: int, slug: str, kind: type[quartet.ProblemError]
):
    client, sent = answering(refused(status, slug, **{"retry-after": "40"}))
    with pytest.raises(kind):
        await client.models()
    assert len(sent) == 1


async def test_the_key_is_given_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    async def sent_by(**options: Any) -> list[str]:
        sent: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            sent.append(request)
            return MODELS

        async with quartet.AsyncClient("quartet", transport=httpx.MockTransport(handle), **options) as client:
            await client.models()
        return sent[0].headers.get_list("authorization")

    assert await sent_by() == []
    assert await sent_by(api_key="k") == ["Bearer k"]
    monkeypatch.setenv("QUARTET_API_KEY", "of-the-environment\n")
    assert await sent_by() == ["Bearer of-the-environment"]
    assert await sent_by(api_key="k") == ["Bearer k"]
    assert await sent_by(api_key="") == []
    assert await sent_by(headers={"authorization": "Bearer own"}) == ["Bearer own"]


async def test_the_url_is_given_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    async def asked(*url: str) -> str:
        sent: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            sent.append(request)
            return MODELS

        async with quartet.AsyncClient(*url, transport=httpx.MockTransport(handle)) as client:
            await client.models()
        return str(sent[0].url)

    monkeypatch.delenv("QUARTET_URL", raising=False)
    assert await asked() == "http://127.0.0.1:8000/v1/models"
    monkeypatch.setenv("QUARTET_URL", "https://models.example/quartet")
    assert await asked() == "https://models.example/quartet/v1/models"
    assert await asked("other:9000") == "http://other:9000/v1/models"


async def test_a_url_that_is_none_is_said():
    with pytest.raises(ValueError, match="url='http://host:port'"):
        quartet.AsyncClient("http://host:port")


async def test_a_closed_client_says_so():
    client, _ = answering(MODELS)
    await client.close()
    await client.close()
    with pytest.raises(quartet.ClosedError, match="create another one"):
        await client.models()


async def test_a_call_may_have_a_timeout_of_its_own():
    client, sent = answering(httpx.ConnectError("refused"))
    with pytest.raises(quartet.TimedOutError, match=r"not answered within 0\.1 s"):
        await client.models(timeout=0.1)
    assert sent
    with pytest.raises(TimeoutError):
        await client.predict([b"x"], timeout=0.1)


@pytest.mark.parametrize("name", ["Problem", "UnknownModel", "Unreachable"])
def test_the_former_names_of_errors_are_accepted_with_a_warning(name: str):
    with pytest.warns(DeprecationWarning, match=f"quartet.{name}Error"):
        assert getattr(quartet, name) is getattr(quartet, f"{name}Error")


def generated(*labels: str) -> bytes:
    images = [{"label": label, "index": 0, "png": "AAAA"} for label in labels]
    return json.dumps({"model": "d", "seed": 1, "images": images}, separators=(",", ":")).encode()


class Pieces(httpx.AsyncByteStream):
    """A body in small pieces, which may be cut off."""

    def __init__(self, body: bytes, breaks: bool = False) -> None:
        self.body, self.breaks = body, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), 7):
            yield self.body[start : start + 7]
        if self.breaks:
            raise httpx.ReadError("")


async def test_images_are_read_as_they_arrive_and_once_if_the_answer_is_cut_off(pauses: list[float]):
    whole = generated("]", "}", "c", "ü")
    client, sent = answering(
        httpx.Response(200, stream=Pieces(whole[: len(whole) * 2 // 3], breaks=True)),
        httpx.Response(200, stream=Pieces(whole[: len(whole) * 3 // 4])),  # ends too early
        httpx.Response(200, stream=Pieces(whole)),
    )
    images = [image async for image in await client.generate(4, stream=True)]
    assert [image.label for image in images] == ["]", "}", "c", "ü"]
    assert len(sent) == 3
    assert len({each.url.params.get("seed") or json.loads(each.content)["seed"] for each in sent}) == 1


async def test_options_that_are_none_are_left_to_the_server(pauses: list[float]):
    answer = {"model": "m", "version": "1", "device": "cpu", "results": [{"latents": [1], "inverted": False}]}
    client, sent = answering(httpx.Response(200, json=answer))
    await client.encode(b"x", invert="never")
    assert str(sent[0].url) == "http://quartet/v1/encode?invert=never"


async def test_a_file_is_whole_or_not_there(pauses: list[float], tmp_path: Path):
    class BreaksOff(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"some"
            raise httpx.ReadError("")

    broken = [httpx.Response(200, stream=BreaksOff(), headers={"x-seed": "1"}) for _ in range(20)]
    whole = httpx.Response(200, content=b"whole", headers={"x-seed": "2"})
    client, _ = answering(broken[0], whole)
    saved = await client.generate_to(tmp_path / "x.zip")
    assert (saved.seed, saved.size, saved.path.read_bytes()) == (2, 5, b"whole")
    saved.path.unlink()
    client, _ = answering(*broken[1:])
    with pytest.raises(quartet.UnreachableError, match="broke off"):
        await client.generate_to(tmp_path / "x.zip")
    assert os.listdir(tmp_path) == []


async def test_a_path_before_the_api_and_odd_names_are_kept():
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return refused(404, "unknown-model")

    client = quartet.AsyncClient("https://host/quartet/", transport=httpx.MockTransport(handle))
    with pytest.raises(quartet.UnknownModelError):
        await client.model("a/b?c")
    assert sent[0].url.raw_path == b"/quartet/v1/models/a%2Fb%3Fc"
