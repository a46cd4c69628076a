"""Dashboard and alerts ask for metrics that the service has; Prometheus itself runs them, where it is installed."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.servers import free_port
from service.app import create_app
from service.settings import Settings
from tests.deploy.test_compose import COMPOSE
from tests.pictures import encode
from tests.server import ROOT, Server
from tests.tiny import solid, write_model

FOLDER = ROOT / "deploy" / "observability"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "quartet.json").read_text())
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]
PANELS = {
    panel["title"]: [target["expr"] for target in panel["targets"]]
    for panel in DASHBOARD["panels"]
    if "targets" in panel
}
# Nothing has happened that they count: no canary, no shadow, no histograms, no failure, no GPU.
EMPTY = {
    "Shares of a canary", "Agreement with a shadow", "Out-of-distribution inputs", "Requests by key", "Drift",
    "Estimated accuracy",
}  # fmt: skip
needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="Prometheus is not installed")


def queries() -> Iterator[str]:
    for exprs in PANELS.values():
        yield from exprs
    yield from (rule["expr"] for rule in RULES)


def in_range(query: str) -> str:
    """A query of the dashboard with its variables filled in."""
    return query.replace("$__rate_interval", "10s").replace("$instance", ".*").replace("$model", ".*")


async def test_every_metric_of_a_query_exists(tmp_path: Path):
    write_model(tmp_path)
    app = create_app(Settings(models=tmp_path, device="cpu"))
    async with app.router.lifespan_context(app):
        app.measure()
        families = list(app.metrics.registry.collect())
    known = {
        "quartet_key_expiry_timestamp_seconds",
        "quartet_gpu_memory_free_bytes",
        "quartet_tls_certificate_expiry_timestamp_seconds",
    }  # none has an end; there is no GPU and no certificate
    for family in families:
        known |= {family.name, *(f"{family.name}_{end}" for end in ("total", "bucket", "sum", "count", "info"))}
    asked = {name for query in queries() for name in re.findall(r"\b(?:quartet|process)_\w+", query)}
    assert asked - known == set()
    assert {name for name in asked if name.startswith("quartet_")}


def test_every_alert_says_what_to_do():
    for rule in RULES:
        if "alert" in rule:
            assert rule["annotations"].keys() == {"summary", "action"}
            assert rule["labels"]["severity"] in ("page", "ticket")


def test_compose_mounts_the_files_that_are_here():
    for name in ("prometheus", "grafana"):
        mounts = [each for each in COMPOSE["services"][name]["volumes"] if each.startswith("./")]
        assert mounts
        assert all((ROOT / each.partition(":")[0]).exists() for each in mounts)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize(
    "command", [("check", "rules", "deploy/observability/rules.yml"), ("test", "rules", "tests/deploy/rules_test.yml")]
)
def test_rules_with_promtool(command: tuple[str, ...]):
    done = subprocess.run(["promtool", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[httpx.Client]:
    """Prometheus with the rules, which has watched a server that answered and refused requests."""
    write_model(tmp_path / "models")
    server = Server(models=tmp_path / "models")
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / "rules.yml")]
    (job,) = config["scrape_configs"]
    del job["authorization"]
    job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    process = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, headers={"content-type": "image/png"}) as client:
            while not ended.wait(0.1):
                for body in (encode(solid("red")), b"no image"):
                    client.post("/v1/predict", content=body)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1", transport=httpx.HTTPTransport(retries=5)
        ) as client:
            end = time.monotonic() + 60
            while client.get(f"http://127.0.0.1:{port}/-/ready").status_code != 200 and time.monotonic() < end:
                time.sleep(0.2)
            yield client
    finally:
        ended.set()
        asking.join()
        process.terminate()
        process.wait(20)
        server.stop()


@needs_prometheus
def test_prometheus_answers_every_query(prometheus: httpx.Client):
    def ask(query: str) -> list[Any]:
        answer = prometheus.get("/query", params={"query": in_range(query)}).json()
        assert answer["status"] == "success", (query, answer)
        found: list[Any] = answer["data"]["result"]
        return found

    wanted, end = {title: exprs for title, exprs in PANELS.items() if title not in EMPTY}, time.monotonic() + 60
    while wanted and time.monotonic() < end:  # a rate needs two scrapes
        wanted = {title: exprs for title, exprs in wanted.items() if not any(map(ask, exprs))}
        time.sleep(0.5)
    assert wanted == {}
    for title in EMPTY:
        assert not any(map(ask, PANELS[title])), title
    for rule in RULES:
        ask(rule["expr"])
    loaded = prometheus.get("/rules").json()["data"]["groups"]
    assert [rule["health"] for group in loaded for rule in group["rules"]] == ["ok"] * len(RULES)
    firing = [each["labels"]["alertname"] for each in prometheus.get("/alerts").json()["data"]["alerts"]]
    assert firing == []
