"""Several processes on one port: started, counted, reloaded, lost and replaced, and ended together."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.pictures import encode
from tests.server import Server
from tests.test_shutdown import fail_to_start
from tests.tiny import solid, write_model

PATIENCE = 60  # seconds until a waiting test fails


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(url: str, count: int) -> dict[str, set[str]]:
    """Which versions each process answered with, over `count` connections."""
    found: dict[str, set[str]] = {}
    for _ in range(count):
        answer = httpx.post(f"{url}/v1/predict", content=encode(solid("green")), timeout=PATIENCE, trust_env=False)
        assert answer.status_code == 200
        assert answer.json()["results"][0]["labels"][0]["label"] == "green"
        found.setdefault(answer.headers["x-request-id"].partition("-")[0], set()).add(answer.json()["version"])
    return found


def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have some labels."""
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE, trust_env=False).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def items_of_the_last_hour(url: str) -> float:
    hour = httpx.get(f"{url}/v1/status", timeout=PATIENCE, trust_env=False).json()
    return float(sum(hour["step"] * rate for rate in hour["queue"]["items"]))


def workers(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def test_a_life_of_two_workers(tmp_path: Path):
    write_model(tmp_path)
    (tmp_path / "classifier" / "serving.toml").write_text("load = 1")  # the old version is not kept for a rollback
    server = Server(models=tmp_path, workers=2, threads=2, max_body_mb=1, self_check=0)
    url = server.url
    assert "2 workers of 1 threads" in server.lines[-1]
    assert httpx.get(f"{url}/healthz/ready", trust_env=False).status_code == 200
    assert len(answers(url, 40)) == 2
    # Each worker publishes its counts with a short delay.
    wait_for(lambda: metric(url, "quartet_requests_total", route="/v1/predict", status="200") == 40)
    # Whichever worker answers knows the counts of all.
    for _ in range(6):
        assert metric(url, "quartet_requests_total", route="/v1/predict", status="200") == 40
        assert metric(url, "quartet_batch_size_sum", model="classifier") == 40
    assert metric(url, "quartet_workers_ready") == 2
    assert metric(url, "process_resident_memory_bytes", worker="2") > 20e6

    write_model(tmp_path, version="2")
    server.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: sum(line.count("closed classifier/1") for line in server.lines) == 2)
    assert list(answers(url, 20).values()) == [{"2"}, {"2"}]
    assert metric(url, "quartet_model_info", version="2") == 1
    assert metric(url, "quartet_model_info", version="1") == 0

    lost = workers(server)[0]
    lost.kill()
    wait_for(lambda: any("ended with code -9 and is started again" in line for line in server.lines))
    assert len(answers(url, 10)) == 1
    assert httpx.get(f"{url}/healthz/ready", trust_env=False).status_code == 200
    wait_for(lambda: metric(url, "quartet_workers_ready") == 2)
    assert len(answers(url, 20)) == 2
    assert metric(url, "quartet_worker_starts_total") == 3
    # The counts of the killed worker are kept.
    wait_for(lambda: metric(url, "quartet_requests_total", route="/v1/predict", status="200") == 90)

    # Whichever process answers, its last hour has the items of both.
    wait_for(lambda: all(items_of_the_last_hour(url) >= 20 for _ in range(6)))

    before = workers(server)
    assert server.stop() == 0
    assert not any(process.is_running() for process in before)
    assert "Traceback" not in "".join(server.lines)


def test_workers_end_when_their_supervisor_is_killed(tiny_models: Path):
    server = Server(models=tiny_models, workers=2)
    before = workers(server)
    assert len(before) == 2
    os.kill(server.process.pid, signal.SIGKILL)
    assert not psutil.wait_procs(before, timeout=PATIENCE)[1]
    assert server.wait() == -signal.SIGKILL


def test_why_it_does_not_start_is_said_once(tmp_path: Path):
    code, line = fail_to_start(models=tmp_path / "nowhere", workers=2)
    assert code == 1
    assert str(tmp_path / "nowhere") in line
    assert fail_to_start(models=tmp_path, workers=0)[0] == 2


def test_a_port_that_others_share_is_busy(tiny_models: Path):
    server = Server(models=tiny_models, workers=2)
    code, line = fail_to_start(models=tiny_models, port=server.port, workers=2)
    assert code == 1
    assert f"127.0.0.1:{server.port}" in line
    assert server.stop() == 0


def test_a_worker_with_a_broken_model_is_replaced(tmp_path: Path):
    write_model(tmp_path)
    server = Server(module="tests.broken_model", models=tmp_path, workers=2)
    (tmp_path / "broken").touch()
    wait_for(lambda: any("ended with code 0 and is started again" in line for line in server.lines))
    wait_for(lambda: metric(server.url, "quartet_worker_starts_total") == 3)
    wait_for(lambda: metric(server.url, "quartet_workers_ready") == 2)
    assert server.stop() == 0
