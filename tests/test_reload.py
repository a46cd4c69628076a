"""SIGUSR1: new versions on disk are served without an interruption."""

import signal
import time
from pathlib import Path

import httpx

from tests.pictures import encode
from tests.server import Server
from tests.tiny import solid, write_model, wrong_golden

PATIENCE = 60  # seconds until a waiting test fails


def predict(client: httpx.Client) -> str:
    """The version that answers; checks that the answer is right."""
    answer = client.post("/v1/predict?top_k=1", content=encode(solid("green")), headers={"content-type": "image/png"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["labels"][0]["label"] == "green"
    return str(answer.json()["version"])


def test_a_reload_serves_what_is_new_and_refuses_what_is_bad(tmp_path: Path):
    write_model(tmp_path)
    server = Server(models=tmp_path, timeout=1)
    with server.client() as client:
        assert predict(client) == "1"
        write_model(tmp_path, version="2")
        write_model(tmp_path, name="other")
        server.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + PATIENCE
        while predict(client) != "2":
            assert time.monotonic() < end
        while client.get("/v1/models/other").status_code != 200:
            assert time.monotonic() < end
        write_model(tmp_path, version="3", change=wrong_golden)
        server.process.send_signal(signal.SIGUSR1)
        while "classifier/3" not in client.get("/v1/models").json()["refused"]:
            assert time.monotonic() < end
        assert predict(client) == "2"
        served = [line for line in client.get("/metrics").text.splitlines() if line.startswith("quartet_model_info{")]
        # Version 1 is kept for a rollback.
        loaded = [("classifier", "1"), ("classifier", "2"), ("other", "1")]
        assert len(served) == len(loaded)
        for name, version in loaded:
            assert sum(f'model="{name}"' in line and f'version="{version}"' in line for line in served) == 1
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.lines)


def test_a_reload_without_a_folder_changes_nothing(tmp_path: Path):
    write_model(tmp_path)
    server = Server(models=tmp_path)
    (tmp_path / "classifier").rename(tmp_path.with_name("elsewhere"))
    tmp_path.rmdir()
    with server.client() as client:
        server.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + PATIENCE
        while not any("no models reloaded" in line for line in server.lines):
            assert time.monotonic() < end
            assert predict(client) == "1"
    assert server.stop() == 0
