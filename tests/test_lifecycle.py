"""The real server under traffic while versions are published, refused, promoted, rolled back and tried."""

import asyncio
import datetime
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.lifecycle.candidates import fail_on_others
from benchmarks.lifecycle.ledger import Ledger
from benchmarks.lifecycle.operator import Operator, until
from benchmarks.lifecycle.traffic import Kind, Traffic, results
from benchmarks.servers import Running
from benchmarks.torture.publishing import wrong_answers, wrong_digest
from benchmarks.torture.wire import head
from tests.pictures import encode
from tests.server import Server
from tests.test_workers import wait_for
from tests.tiny import solid, write_model, wrong_golden

NAME = "classifier"
GREEN = encode(solid("green"))
PNG = {"content-type": "image/png"}
PREDICT = Kind(
    "predict", NAME, head("/v1/predict", len(GREEN), "image/png") + GREEN, results(1), 1
)  # fmt: skip


def long_number(path: Path) -> None:
    path.write_text("load = " + "1" * 5000)


@asynccontextmanager
async def under_traffic(models: Path, workers: int) -> AsyncIterator[tuple[Operator, Traffic]]:
    """A server with clients, each of whose answers is checked at the end."""
    server = await asyncio.to_thread(Server, models=models, workers=workers, threads=workers)
    ledger = Ledger()
    ledger.only(NAME, "1")
    running = Running(psutil.Process(server.process.pid), server.port, 0)
    traffic = Traffic(server.port, [PREDICT], ledger, clients=4, pause=0.01)
    clients = asyncio.create_task(traffic.run())
    try:
        yield Operator(running, models, workers, ledger), traffic
    finally:
        traffic.end()
        await clients
        code = await asyncio.to_thread(server.stop)
    assert (code, traffic.met.wrong, traffic.met.told) == (0, {}, [])
    assert len(traffic.met.seconds) > 50
    # What a failing graph raises is logged with its traceback.
    assert traffic.met.excused or "Traceback" not in "".join(server.lines)


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_request_is_lost_or_answered_by_another_version(tmp_path: Path, workers: int):
    write_model(tmp_path, NAME)
    async with under_traffic(tmp_path, workers) as (operator, traffic):
        await operator.publish(NAME)
        await operator.reject(NAME, wrong_digest)
        await operator.publish(NAME)
        await operator.reject(NAME, wrong_answers)
        await operator.half_copy(NAME)
        number = await operator.offer(NAME)  # pins 3
        await operator.promote(NAME, number)
        await operator.rollback(NAME, "3", PREDICT.data)
        await operator.promote(NAME, number)

        policy = tmp_path / NAME / "serving.toml"
        good = policy.read_text()
        policy.write_text(good + "\n[aliases]\nstable =\n")
        operator.signal()

        async def reported() -> bool:
            listed = await operator.get("/v1/models")
            return "line " in listed["refused"].get(f"{NAME}/serving.toml", "")

        await until(reported, "the invalid policy is not reported")
        await operator.in_force(NAME, number)
        policy.write_text(good)
    answered = {label for label, status in traffic.met.answers if status == "200"}
    assert answered == {f"{NAME}/{version}" for version in ("1", "2", "3", number)}


async def test_a_canary_that_fails_is_withdrawn_and_a_good_one_promoted(tmp_path: Path):
    write_model(tmp_path, NAME)
    async with under_traffic(tmp_path, 1) as (operator, traffic):
        bad = await operator.offer(NAME, fail_on_others)
        operator.ledger.permit(NAME, bad)
        traffic.failing.add(NAME)
        withdraw = {"after": 10, "errors": 0.02}
        await operator.change("PUT", NAME, "canary", {"version": bad, "share": 0.5, "withdraw": withdraw})

        async def ended() -> bool:
            return (await operator.get(f"/v1/models/{NAME}/policy"))["canary"] is None

        await until(ended, "the canary has not ended")
        await operator.in_force(NAME, "1")
        traffic.failing.clear()
        state = await operator.get(f"/v1/models/{NAME}/policy")
        assert state["verdict"].startswith("withdrew the canary 2: errors 1.00 against 0.00 after")
        assert traffic.met.excused[NAME] >= 10

        shutil.rmtree(tmp_path / NAME / bad)
        good = write_model(tmp_path, NAME, "3").name
        operator.ledger.permit(NAME, good)
        await operator.change("PUT", NAME, "shadow", {"version": good})
        steps = [{"share": 0.5, "minutes": 0.005}, {"share": 1.0, "minutes": 0.005}]
        await operator.change("DELETE", NAME, "shadow")
        await operator.change("PUT", NAME, "canary", {"version": good, "steps": steps})
        await until(ended, "the canary has not ended")
        await operator.in_force(NAME, good)


def test_watched_folders_are_followed_once_they_are_complete(tmp_path: Path):
    write_model(tmp_path, NAME)
    server = Server(models=tmp_path, watch=0.1)
    with server.client() as client:
        assert version(client) == "1"
        folder = write_model(tmp_path, NAME, "2")
        wait_for(lambda: version(client) == "2")
        copied = tmp_path / NAME / "3"
        shutil.copytree(folder, copied, ignore=lambda *_: ["model.onnx"])
        wait_for(lambda: "model.onnx: is missing" in refused(client).get(f"{NAME}/3", ""))
        assert version(client) == "2"
        shutil.copy(folder / "model.onnx", copied)
        wait_for(lambda: version(client) == "3")
        (tmp_path / NAME / "serving.toml").write_text("default = 2\nload = [2")
        wait_for(lambda: "line 2" in refused(client).get(f"{NAME}/serving.toml", ""))
        assert version(client) == "3"
        (tmp_path / NAME / "serving.toml").write_text("default = 2\nload = [2]")
        wait_for(lambda: version(client) == "2")
        wait_for(lambda: not refused(client))
    assert server.stop() == 0


def test_a_restart_goes_on_with_a_canary_at_its_step(tmp_path: Path):
    for number in ("1", "2"):
        write_model(tmp_path, NAME, number)
    started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=30)
    (tmp_path / NAME / "serving.toml").write_text(
        f"default = 1\n[canary]\nversion = 2\nstarted = {started.isoformat()}\n"
        "steps = [{ share = 0.1, minutes = 20 }, { share = 0.5, minutes = 60 }, { share = 1.0, minutes = 1 }]\n"
    )
    for _ in range(2):
        server = Server(models=tmp_path)
        with server.client() as client:
            canary = client.get(f"/v1/models/{NAME}/policy").json()["canary"]
            assert (canary["version"], canary["step"], canary["share"]) == ("2", 1, 0.5)
            assert canary["next_step"] == pytest.approx(started.timestamp() + 80 * 60)
            assert version(client, **{"quartet-route": "0.4"}) == "2"
            assert version(client, **{"quartet-route": "0.6"}) == "1"
        assert server.stop() == 0


@pytest.mark.parametrize("write", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path), long_number])
def test_a_policy_that_cannot_be_read_refuses_its_model_alone(tmp_path: Path, write: Callable[[Path], object]):
    write_model(tmp_path, NAME)
    write_model(tmp_path, "other")
    write(tmp_path / "other" / "serving.toml")
    server = Server(models=tmp_path)
    with server.client() as client:
        assert version(client) == "1"
        assert list(refused(client)) == ["other/serving.toml"]
        (tmp_path / NAME / "serving.toml").write_text("load = 1")
        server.process.send_signal(signal.SIGUSR1)
        write_model(tmp_path, NAME, "2")
        server.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: version(client) == "2")
    assert server.stop() == 0


def test_an_alias_of_a_broken_version_does_not_keep_a_server_from_starting(tmp_path: Path):
    write_model(tmp_path, NAME)
    write_model(tmp_path, NAME, "2", change=wrong_golden)
    (tmp_path / NAME / "serving.toml").write_text('default = "stable"\nprevious = 1\n[aliases]\nstable = 2\nnext = 7\n')
    server = Server(models=tmp_path)
    with server.client() as client:
        assert version(client) == "1"
        assert set(refused(client)) == {f"{NAME}/2", f"{NAME}/7"}
        answer = client.post("/v1/predict?version=next", content=GREEN, headers=PNG)
        assert answer.status_code == 503
        assert "not on disk" in answer.json()["detail"]
        shutil.copytree(tmp_path / NAME / "1", tmp_path / NAME / "7")
        server.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: client.post("/v1/predict?version=next", content=GREEN, headers=PNG).status_code == 200)
        assert version(client) == "1"
    assert server.stop() == 0


def version(client: httpx.Client, **headers: str) -> str:
    answer = client.post("/v1/predict", content=GREEN, headers=PNG | headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["version"])


def refused(client: httpx.Client) -> dict[str, str]:
    return dict(client.get("/v1/models").json()["refused"])
