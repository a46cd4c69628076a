"""The service on a local Ray: its answers, a replica that is killed, one to three replicas and back, new models."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from quartet.offline.scoring.engine import Job
from quartet.offline.scoring.score import score
from service.app import create_app
from service.settings import Settings
from tests.pictures import encode
from tests.server import ROOT
from tests.tiny import solid, write_model
from tests.tiny_text import write_topics

# Ray is imported where it is used: that takes seconds, and warns of itself.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
PATIENCE = 60  # seconds until a waiting test fails
AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 3,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 1,
    "look_back_period_s": 1,
    "metrics_interval_s": 0.5,
}


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    ray = pytest.importorskip("ray")
    from ray import serve

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ray.init(
        num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}}
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def deploy(models: Path, **options: Any) -> None:
    from ray import serve

    from deploy.ray.serving import DEPLOYMENT

    serve.delete("quartet")
    wait_for(lambda: not replicas())
    application = DEPLOYMENT.options(**options).bind(
        {"models": str(models), "device": "cpu", "threads": 1, "open": True}
    )
    serve.run(application, name="quartet")


def replicas() -> set[int]:
    """The processes of the replicas."""
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if " ".join(process.info["cmdline"] or ()).startswith("ray::ServeReplica:quartet")
    }


@contextmanager
def load(url: str, clients: int) -> Iterator[Counter[Any]]:
    """Sends requests one after the other, from several clients; counts their versions, or statuses where they fail."""
    outcomes: Counter[Any] = Counter()
    ended = threading.Event()

    def run() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            while not ended.is_set():
                try:
                    answer = client.post("/v1/predict", content=encode(solid("green")))
                except httpx.TransportError as error:
                    outcomes[type(error).__name__] += 1
                    continue
                good = answer.status_code == 200 and answer.json()["results"][0]["labels"][0]["label"] == "green"
                outcomes[f"version {answer.json()['version']}" if good else answer.status_code] += 1

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        ended.set()
        for thread in threads:
            thread.join(PATIENCE)


async def test_the_answers_are_those_of_the_service(url: str, tmp_path: Path):
    for name in ("classifier", "tabular"):
        (tmp_path / name).symlink_to(ROOT / "models" / name)
    write_topics(tmp_path)
    deploy(tmp_path)
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    photograph = encode(solid("red", 40), "JPEG")
    columns = json.loads((ROOT / "models" / "tabular" / "1" / "manifest.json").read_text())["columns"]
    requests = [
        ("/v1/predict?top_k=3", {"content": photograph}),
        ("/v1/classify-text", {"json": {"texts": ["oil prices", "grain"]}}),
        ("/v1/predict", {"content": b"no image"}),
        ("/v1/predict?top=3", {"content": photograph}),
        ("/v1/predict-tabular", {"json": {"rows": [{column["name"]: column["mean"] for column in columns}]}}),
    ]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as ours,
        httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as theirs,
    ):
        for path, request in requests:
            expected, answer = await ours.post(path, **request), await theirs.post(path, **request)
            assert answer.status_code == expected.status_code
            assert answer.headers["content-type"] == expected.headers["content-type"]
            documents = [each.json() for each in (answer, expected)]
            for document in documents:
                document.pop("request_id", None)
            assert documents[0] == documents[1]


def test_a_replica_that_is_killed_costs_what_it_held(url: str, tmp_path: Path):
    write_model(tmp_path)
    deploy(tmp_path, autoscaling_config=None, num_replicas=2)
    wait_for(lambda: len(replicas()) == 2)
    with load(url, 4) as outcomes:
        wait_for(lambda: outcomes["version 1"] > 50)
        lost = replicas().pop()
        os.kill(lost, signal.SIGKILL)
        before = outcomes["version 1"]
        wait_for(lambda: len(replicas() - {lost}) == 2)
        wait_for(lambda: outcomes["version 1"] > before + 100)
    failed = {outcome: count for outcome, count in outcomes.items() if outcome != "version 1"}
    assert set(failed) <= {500, 503}
    assert sum(failed.values()) <= 4


def apply(config: dict[str, Any]) -> None:
    """What `serve deploy` does with a file, through Ray's dashboard."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config), _blocking=True)


def test_new_models_reach_every_replica_without_a_restart(url: str, tmp_path: Path):
    from ray import serve

    write_model(tmp_path)
    serve.delete("quartet")
    wait_for(lambda: not replicas())
    config = yaml.safe_load((ROOT / "deploy" / "ray" / "serve.yaml").read_text())
    del config["http_options"], config["proxy_location"]
    arguments = config["applications"][0]["args"]
    arguments |= {"models": str(tmp_path), "open": True, "watch": 0}
    del arguments["keys"]
    deployment = config["applications"][0]["deployments"][0]
    deployment |= {"autoscaling_config": None, "num_replicas": 2, "ray_actor_options": {"num_cpus": 1}}
    apply(config)
    wait_for(lambda: len(replicas()) == 2)
    before = replicas()
    with load(url, 2) as outcomes:
        wait_for(lambda: outcomes["version 1"] > 20)
        write_model(tmp_path, version="2")
        deployment["user_config"] = {"revision": "2"}
        apply(config)

        def settled() -> bool:
            old, new = outcomes["version 1"], outcomes["version 2"]
            wait_for(lambda: outcomes.total() > old + new + 100)
            return outcomes["version 1"] == old

        wait_for(settled)
    assert set(outcomes) == {"version 1", "version 2"}
    assert replicas() == before


def test_replicas_follow_the_load(url: str, tmp_path: Path):
    write_model(tmp_path, slow=20, max_batch=1)
    deploy(tmp_path, autoscaling_config=AUTOSCALING)
    wait_for(lambda: len(replicas()) == 1)
    with load(url, 12) as outcomes:
        wait_for(lambda: len(replicas()) == 3)
        wait_for(lambda: outcomes["version 1"] > 100)
    wait_for(lambda: len(replicas()) == 1)
    assert set(outcomes) == {"version 1"}


def test_scoring_gives_the_rows_of_a_local_run(tmp_path: Path, url: str):
    from ray import serve

    from quartet.offline.scoring.on_ray import score_on_ray

    serve.delete("quartet")  # its replicas hold the cores
    models = tmp_path / "models"
    write_topics(models)
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": f"oil {row}" if row % 99 else ""}) + "\n" for row in range(40_000)))
    settings = Settings(models=models, device="cpu", threads=1)
    asyncio.run(score(Job("topics"), source, tmp_path / "local.parquet", settings))
    summary = score_on_ray(Job("topics"), source, tmp_path / "ray.parquet", settings)
    assert (summary.rows, summary.errors) == (40_000, 405)
    assert pq.read_table(tmp_path / "ray.parquet").equals(pq.read_table(tmp_path / "local.parquet"))
