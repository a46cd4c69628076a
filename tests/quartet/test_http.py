"""One request: what is sent again and when, and what becomes of answers that are no success."""

import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

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
    fields = {"type": f"urn:quartet:problem:{slug}", "title": "No", "detail": "Not now.", "future": 1}
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
    with pytest.raises(quartet.ModelBroken):
        await client.models()
    assert len(sent) == len(pauses) + 1
    assert pauses[0] < 0.5
    assert max(pauses) > 4
    assert 18 < sum(pauses) <= 30


async def test_nobody_waits_longer_than_was_allowed(pauses: list[float]):
    client, _ = answering(refused(429, **{"retry-after": "31"}))
    with pytest.raises(quartet.Overloaded) as raised:
        await client.models()
    assert raised.value.retry_after == 31
    assert pauses == []


async def test_what_cannot_change_is_not_sent_again(pauses: list[float]):
    client, sent = answering(refused(404, "unknown-model"))
    with pytest.raises(quartet.UnknownModel, match=r"Not now\."):
        await client.models()
    assert len(sent) == 1


async def test_a_server_that_goes_away_is_waited_for_but_not_one_that_never_was(pauses: list[float]):
    gone = httpx.ConnectError("refused")
    client, sent = answering(gone)
    with pytest.raises(quartet.Unreachable, match="is the server running there"):
        await client.models()
    assert len(sent) == 1
    client, sent = answering(MODELS, gone, httpx.ReadError(""), MODELS)
    await client.models()
    await client.models()
    assert len(sent) == 4


async def test_a_problem_has_its_fields(pauses: list[float]):
    client, _ = answering(refused(422, "wrong-task"))
    with pytest.raises(quartet.WrongTask) as raised:
        await client.models()
    problem = raised.value
    assert (problem.status, problem.title, problem.detail) == (422, "No", "Not now.")
    assert problem.fields["future"] == 1


async def test_an_unknown_problem_and_a_proxys_page_are_plain_problems(pauses: list[float]):
    client, _ = answering(refused(402, "payment-due"))
    with pytest.raises(quartet.Problem, match=r"Not now\.") as raised:
        await client.models()
    assert type(raised.value) is quartet.Problem
    client, _ = answering(httpx.Response(400, text="<h1>Bad\n gateway</h1>"))
    with pytest.raises(quartet.Problem, match="<h1>Bad gateway</h1>") as raised:
        await client.models()
    assert (raised.value.status, raised.value.title) == (400, "Bad Request")


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
    with pytest.raises(quartet.Unreachable, match="broke off"):
        await client.generate_to(tmp_path / "x.zip")
    assert os.listdir(tmp_path) == []


async def test_a_path_before_the_api_and_odd_names_are_kept():
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return refused(404, "unknown-model")

    client = quartet.AsyncClient("https://host/quartet/", transport=httpx.MockTransport(handle))
    with pytest.raises(quartet.UnknownModel):
        await client.model("a/b?c")
    assert sent[0].url.raw_path == b"/quartet/v1/models/a%2Fb%3Fc"
