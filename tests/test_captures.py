"""Captures and feedback through the application: what is kept, what is not, and what people say of it."""

import asyncio
import base64
import json
import signal
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from quartet.command_line import main
from service.capture.store import Store
from tests.captured import ALL, RED, ask, folder_of, items, kept, serving
from tests.keyed import bearer, write_keys
from tests.pictures import encode
from tests.server import Server
from tests.shadowed import until
from tests.tiny import solid, write_model
from tests.tiny_detector import write_detector
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics

BLUE = encode(solid("blue"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_model(folder)
    return folder


async def test_without_a_policy_nothing_is_kept(models: Path):
    async with serving(models, "") as client:
        response = await ask(client)
        said = {"feedback": [{"request": response.headers["x-request-id"], "right": True}]}
        answer = await client.post("/v1/feedback", json=said)
        assert answer.json() == {"counted": 0, "results": [{"state": "unknown"}]}
    assert not folder_of(models).exists()


async def test_an_item_is_kept_with_its_answer(models: Path):
    async with serving(models, ALL) as client:
        response = await ask(client, X_Request_ID="mine")
        (item,) = await kept(models, 1)
        assert (item.request, item.index, item.model, item.version) == ("mine", 0, "classifier", "1")
        assert (item.operation, item.strategy, item.key, item.variant) == ("predict", "random", None, "reference")
        assert item.answer == response.json()["results"][0]
        assert (item.media_type, item.content) == ("image/png", RED)
        assert item.expires == item.time + 30 * 86_400
        metrics = (await client.get("/metrics")).text
        assert 'quartet_captured_items_total{model="classifier",strategy="random"} 1.0' in metrics
        assert 'quartet_captured_bytes{model="classifier"}' in metrics


async def test_every_item_of_a_request_has_its_index(models: Path):
    images = [base64.b64encode(each).decode() for each in (RED, BLUE, RED)]
    async with serving(models, ALL) as client:
        response = await ask(client, {"images": images})
        found = await kept(models, 3)
    assert [(each.index, each.answer["labels"][0]["label"]) for each in found] == [(0, "red"), (1, "blue"), (2, "red")]
    assert {each.request for each in found} == {response.headers["x-request-id"]}
    assert [each.content for each in found] == [RED, BLUE, RED]


async def test_clients_and_keys_opt_out(models: Path, tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", alice={}, bob="capture = false")
    async with serving(models, ALL, keys=keys) as client:
        await ask(client, Quartet_No_Capture="1", **bearer("alice"))
        await ask(client, **bearer("bob"))
        await ask(client, X_Request_ID="last", **bearer("alice"))
        found = await kept(models, 1)
    assert [(each.request, each.key) for each in found] == [("last", "alice")]


async def test_refused_requests_and_pictures_are_not_kept(models: Path):
    async with serving(models, ALL) as client:
        assert (await client.post("/v1/predict", content=b"no image")).status_code == 422
        await ask(client, X_Request_ID="last")
        assert [each.request for each in await kept(models, 1)] == ["last"]


async def test_the_policy_is_followed_while_the_server_runs(models: Path):
    async with serving(models, "") as client:
        await ask(client, X_Request_ID="before")
        (models / "classifier" / "serving.toml").write_text(ALL)
        await client.app.repository.load_all()
        await ask(client, X_Request_ID="during")
        await kept(models, 1)
        (models / "classifier" / "serving.toml").write_text("")
        await client.app.repository.load_all()
        await ask(client, X_Request_ID="after")
    assert [each.request for each in items(models)] == ["during"]


async def test_what_cannot_match_is_logged_once(models: Path, caplog: pytest.LogCaptureFixture):
    async with serving(models, "[capture.untypical]\nbelow = 0.1\n") as client:
        await client.app.repository.load_all()
    assert [record.message for record in caplog.records if "capture" in record.message] == [
        "capture of classifier/1 never matches: untypical: its answers have no p-values"
    ]


async def test_texts_and_rows_are_kept_as_records(tmp_path: Path):
    models = tmp_path / "models"
    write_topics(models)
    write_tabular(models)
    (models / "tabular" / "serving.toml").write_text(ALL)
    async with serving(models, ALL, model="topics") as client:
        await ask(client, {"text": "oil prices rose"}, path="/v1/classify-text")
        sample = (await client.get("/v1/models/tabular/1/samples/0")).json()
        await ask(client, sample, path="/v1/predict-tabular")
        (text,) = await kept(models, 1, model="topics")
        (row,) = await kept(models, 1, model="tabular")
    assert (text.media_type, json.loads(text.content)) == ("application/json", {"text": "oil prices rose"})
    assert json.loads(row.content) == sample["rows"][0]
    assert "target" in row.answer


async def test_disagreement_with_the_shadow(models: Path):
    write_model(models, version="2", labels=["red", "blue", "green"])
    policy = (
        'load = ["1", "2"]\ndefault = "1"\n[shadow]\nversion = "2"\n[capture]\nmin_free_mb = 0\n'
        "[capture.disagreement]\nhourly = 10\n"
    )
    async with serving(models, policy) as client:
        await ask(client, RED, X_Request_ID="same")
        await ask(client, BLUE, X_Request_ID="differs")
        (item,) = await kept(models, 1)
    assert (item.request, item.strategy, item.content) == ("differs", "disagreement", BLUE)


async def test_hourly_limits_end_a_strategy(models: Path):
    async with serving(models, ALL.replace("hourly = 10000", "hourly = 3")) as client:
        for _ in range(10):
            await ask(client)
        await kept(models, 3)
    assert len(items(models)) == 3


async def test_a_slow_disk_delays_no_answer(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.capture.writer._MOST_WAITING", 4)
    slow = threading.Event()
    write = Store.write

    def wait_and_write(*arguments: object, **more: object):
        assert slow.wait(30)
        return write(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write", wait_and_write)
    async with serving(models, ALL) as client:
        await ask(client)
        await asyncio.sleep(0.2)  # the writer has taken it
        async with asyncio.timeout(10):
            await asyncio.gather(*(ask(client) for _ in range(40)))
        await asyncio.sleep(0.2)
        metrics = (await client.get("/metrics")).text
        assert 'quartet_captured_dropped_total{model="classifier",reason="queue"}' in metrics
        slow.set()
        assert len(await kept(models, 5)) == 5


async def test_a_full_disk_pauses_captures(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.capture.writer.free_bytes", lambda _: 999_000_000)
    async with serving(models, ALL.replace("min_free_mb = 0", "min_free_mb = 1000")) as client:
        await ask(client)
        for _ in range(100):
            metrics = (await client.get("/metrics")).text
            if found := 'quartet_captured_dropped_total{model="classifier",reason="disk"} 1.0' in metrics:
                break
            await asyncio.sleep(0.05)
        assert found
    assert items(models) == []


async def test_a_folder_that_cannot_be_written_fails_no_request(models: Path, caplog: pytest.LogCaptureFixture):
    folder_of(models).write_text("a file is in the way")
    async with serving(models, ALL) as client:
        await ask(client)
        await until(lambda: any("cannot be written" in record.message for record in caplog.records))
        await ask(client)
        answer = await client.post("/v1/feedback", json={"feedback": [{"request": "x", "right": True}]})
        assert answer.json()["results"] == [{"state": "unknown"}]
    folder_of(models).unlink()


# Feedback


async def say(client: httpx.AsyncClient, *entries: dict, **headers: str) -> list[str]:
    answer = await client.post("/v1/feedback", json={"feedback": list(entries)}, headers=headers)
    assert answer.status_code == 200, answer.text
    return [each["state"] for each in answer.json()["results"]]


async def test_feedback_is_counted_for_answers_that_nobody_has_kept(models: Path):
    async with serving(models, "feedback = true\n") as client:
        for number in range(4):
            await ask(client, RED, X_Request_ID=f"r{number}")
        await asyncio.sleep(0.1)
        said = [
            {"request": "r0", "right": True},
            {"request": "r1", "truth": "red"},
            {"request": "r2", "truth": "blue"},
            {"request": "r3", "right": False},
            {"request": "r4", "right": True},
            {"request": "r0", "index": 1, "right": True},
            {"request": "r0", "truth": 5},
        ]
        states = ["counted"] * 4 + ["unknown"] * 2 + ["invalid"]
        assert await say(client, *said) == states
        assert await say(client, {"request": "r3", "right": True}) == ["counted"]  # on second thoughts
        quality = (await client.get("/v1/models/classifier/quality")).json()
        (version,) = quality["versions"]
        assert (version["version"], version["figure"], version["count"], version["value"]) == ("1", "accuracy", 4, 0.75)
        assert 0.3 < version["low"] < 0.75 < version["high"] < 0.96
        assert [each["count"] for each in version["windows"]] == [4]
        metrics = (await client.get("/metrics")).text
        assert 'quartet_feedback_total{model="classifier",outcome="right",version="1"} 3.0' in metrics
    assert items(models) == []


async def test_feedback_reaches_items_after_a_restart(models: Path):
    async with serving(models, ALL) as client:
        await ask(client, RED, X_Request_ID="old")
    async with serving(models, ALL) as client:
        assert await say(client, {"request": "old", "truth": "green"}) == ["counted"]
        quality = (await client.get("/v1/models/classifier/quality?window=1&windows=400")).json()
        assert quality["versions"][0]["value"] == 0


async def test_feedback_is_for_the_key_that_got_the_answer(models: Path, tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", alice={}, bob={}, carol={"models": ["other"]}, root={"scopes": ["admin"]})
    async with serving(models, ALL, keys=keys) as client:
        await ask(client, X_Request_ID="hers", **bearer("alice"))
        await kept(models, 1)
        entry = {"request": "hers", "right": False}
        assert await say(client, entry, **bearer("bob")) == ["unknown"]
        assert await say(client, entry, **bearer("carol")) == ["unknown"]
        assert await say(client, entry, **bearer("alice")) == ["counted"]
        assert await say(client, entry, **bearer("root")) == ["counted"]
        assert (await client.get("/v1/models/classifier/quality", headers=bearer("carol"))).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"feedback": []},
        {"feedback": [{"request": "r"}]},
        {"feedback": [{"request": "r", "right": True, "truth": "red"}]},
        {"feedback": [{"request": "../../etc/passwd", "right": True}]},
        {"feedback": [{"request": "r", "right": True, "index": -1}]},
        {"feedback": [{"request": "r", "rigth": True}]},
        {"feedback": [{"request": "r", "right": True}] * 1001},
    ],
)
async def test_malformed_feedback_is_refused(models: Path, body: dict):
    async with serving(models, "feedback = true\n") as client:
        answer = await client.post("/v1/feedback", json=body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


async def test_large_feedback_is_refused(models: Path):
    async with serving(models, "feedback = true\n") as client:
        boxes = {"feedback": [{"request": "r", "truth": ["x" * 300_000]}]}
        assert (await client.post("/v1/feedback", json=boxes)).status_code == 413


# The real server


def post(url: str, path: str, body: bytes | dict, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        if isinstance(body, dict):
            return client.post(path, json=body, headers=headers)
        return client.post(path, content=body, headers={"content-type": "image/png", **headers})


def test_several_workers_share_captures_limits_and_feedback(models: Path, tmp_path: Path):
    (models / "classifier" / "serving.toml").write_text(ALL.replace("hourly = 10000", "hourly = 12"))
    server = Server(models=models, captures=folder_of(models), workers=2, threads=2)
    for number in range(30):
        assert post(server.url, "/v1/predict", RED, **{"x-request-id": f"r{number}"}).status_code == 200
    wait = threading.Event()
    states = []
    for number in range(30):  # some answers are only known to the other worker
        entry = {"request": f"r{number}", "truth": "red"}
        states.append(post(server.url, "/v1/feedback", {"feedback": [entry]}).json()["results"][0]["state"])
    assert set(states) <= {"counted", "waiting"}
    for _ in range(100):
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            versions = client.get("/v1/models/classifier/quality").json()["versions"]
        if versions and versions[0]["count"] == 30:
            break
        wait.wait(0.1)
    assert versions[0]["count"] == 30
    assert server.stop() == 0
    assert len(items(models)) == 12


def test_after_a_kill_the_captures_are_readable(models: Path):
    (models / "classifier" / "serving.toml").write_text(ALL)
    server = Server(models=models, captures=folder_of(models))
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for number in range(200):
            headers = {"content-type": "image/png", "x-request-id": f"r{number}"}
            client.post("/v1/predict", content=RED, headers=headers)
    server.process.send_signal(signal.SIGKILL)
    server.wait()
    found = items(models)
    # Those of the last moments were not written yet.
    assert [each.request for each in found] == [f"r{number}" for number in range(len(found))]
    assert all(each.content == RED for each in found)
    server = Server(models=models, captures=folder_of(models))
    assert post(server.url, "/v1/predict", BLUE, **{"x-request-id": "again"}).status_code == 200
    assert server.stop() == 0
    assert len(items(models)) == len(found) + 1


def test_feedback_from_a_file(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (models / "classifier" / "serving.toml").write_text("feedback = true\n")
    server = Server(models=models, captures=folder_of(models))
    for number in range(3):
        post(server.url, "/v1/predict", RED, **{"x-request-id": f"r{number}"})
    file = tmp_path / "said.csv"
    file.write_text("request,right,truth\nr0,true,\nr1,,blue\nr2,no,\nr9,yes,\n")
    threading.Event().wait(0.2)
    assert main(["feedback", str(file), "--server", server.url]) == 1
    assert "line 5: the server does not know an answer 'r9'\n3 of 4 count." in capsys.readouterr().err
    lines = tmp_path / "said.jsonl"
    lines.write_text('{"request": "r1", "truth": "red"}\n\n{"request": "r2", "right": true}\n')
    assert main(["feedback", str(lines), "--server", server.url]) == 0
    with server.client() as client:
        (version,) = client.get("/v1/models/classifier/quality").json()["versions"]
    assert (version["count"], version["value"]) == (3, 1)
    for content, words in {
        "request,rihgt\nr0,true\n": "line 2: unknown column 'rihgt'",
        "request,right\nr0,perhaps\n": "line 2: right is 'perhaps'",
        "request,right\nr0\n": "line 2: it has 1 cells",
        "request,index,right\nr0,x,yes\n": "line 2: the index 'x'",
        "right\nyes\n": "line 2: the request is missing",
    }.items():
        file.write_text(content)
        assert main(["feedback", str(file), "--server", server.url]) == 1
        assert words in capsys.readouterr().err
    assert server.stop() == 0


async def test_boxes_are_scored(tmp_path: Path):
    models = tmp_path / "models"
    write_detector(models)
    image = encode(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    async with serving(models, ALL, model="detector") as client:
        response = await ask(client, image, path="/v1/detect?confidence=0.01", X_Request_ID="d")
        boxes = response.json()["results"][0]["boxes"]
        (item,) = await kept(models, 1)
        assert item.answer["width"] == 80
        truth = [{name: box[name] for name in ("label", "x_min", "y_min", "x_max", "y_max")} for box in boxes]
        assert await say(client, {"request": "d", "truth": truth}) == ["counted"]
        (version,) = (await client.get("/v1/models/detector/quality")).json()["versions"]
        assert (version["figure"], version["value"], version["low"]) == ("F1 at an IoU of 0.5", 1, None)
        assert await say(client, {"request": "d", "truth": [{"label": "x"}]}) == ["invalid"]
