"""The OpenAPI document is true: what it allows is accepted, what it forbids is refused, every answer is as declared."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.schema_hooks import MAX_ITEMS
from tests.server import ROOT, Server
from tests.service.drift.drifting import written_histograms
from tests.tiny import write_model
from tests.tiny_autoencoder import write_autoencoder
from tests.tiny_detector import write_detector
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics

# So that every route of the serving policy has something to show or to change.
POLICY = """
load = 2
default = 1
previous = 2
aliases = { stable = 1, candidate = 2 }
canary = { version = 2, share = 0.05 }
shadow = { version = 2 }
"""


@pytest.fixture
def tiny_server(tmp_path: Path) -> Iterator[Server]:
    """The real server with a tiny model for every operation."""
    for version in ("1", "2"):
        write_model(tmp_path, version=version, histograms=written_histograms())
    (tmp_path / "classifier" / "serving.toml").write_text(POLICY)
    write_detector(tmp_path)
    write_autoencoder(tmp_path)
    write_topics(tmp_path)
    write_tabular(tmp_path)
    write_tabular(tmp_path, "sum", kind="regression")
    running = Server(models=tmp_path, max_items=MAX_ITEMS, max_body_mb=4)
    yield running
    assert running.stop() == 0, "".join(running.lines)
    assert not [line for line in running.lines if "Traceback" in line]


def test_the_document_is_true(tiny_server: Server, request: pytest.FixtureRequest):
    run = subprocess.run(
        [
            sys.executable,
            *("-m", "schemathesis.cli", "--config-file", "tests/schemathesis.toml", "--no-color"),
            *("run", f"{tiny_server.url}/openapi.json"),
            *("--max-examples", str(request.config.getoption("--schema-examples"))),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert found, run.stdout
    assert found[1] == found[2]
    assert int(found[1]) > 500
    with tiny_server.client() as client:
        routes = {
            (method.upper(), path)
            for path, item in client.get("/openapi.json").json()["paths"].items()
            for method in item
        }
        answered = re.findall(
            r'^quartet_requests_total\{method="(.*?)",route="(.*?)",status="200"\}', client.get("/metrics").text, re.M
        )
    # Each was asked, and not all that it answered were errors. What an example is called is not to be guessed, nor
    # which version is loaded and can be unloaded.
    guessed = {("GET", "/v1/models/{name}/shadow/examples/{id}"), ("POST", "/v1/models/{name}/unload")}
    assert routes - guessed <= set(answered)
