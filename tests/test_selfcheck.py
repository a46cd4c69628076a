"""The real server finds a weight that is damaged while it serves, and takes the version out."""

import signal
import time
from pathlib import Path

from tests.pictures import encode
from tests.server import Server
from tests.tiny import solid, write_model

PATIENCE = 60  # seconds until a waiting test fails
PNG = {"content-type": "image/png"}


def test_a_version_with_a_damaged_weight_is_taken_out(tmp_path: Path):
    write_model(tmp_path)
    server = Server(module="tests.corrupted", models=tmp_path, self_check=0.1)
    with server.client() as client:
        body = encode(solid("green"))
        assert client.post("/v1/predict", content=body, headers=PNG).status_code == 200
        assert client.get("/healthz/ready").status_code == 200
        server.process.send_signal(signal.SIGUSR2)
        end = time.monotonic() + PATIENCE
        while client.get("/healthz/ready").status_code != 503:
            assert time.monotonic() < end
        assert client.post("/v1/predict", content=body, headers=PNG).status_code == 503
        failed = [line for line in client.get("/metrics").text.splitlines() if "self_check_failed_total{" in line]
        assert any('model="classifier"' in line and line.endswith(" 1.0") for line in failed)
    assert server.stop() == 0
    log = "".join(server.lines)
    assert "classifier/1 is taken out of service: output probabilities differs from golden.npz's by 0.15" in log
    assert "Traceback" not in log
