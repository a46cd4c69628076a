"""Metrics of the state of the service: what they say is so when they are asked for."""

import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from quartet import __version__
from service.access.keys import KeyRing
from service.app import create_app
from service.observe.state import State, _gpus
from service.settings import Settings
from tests.tiny import write_model, wrong_golden


def samples(text: str) -> dict[tuple[str, str], float]:
    """Values by the name of the sample and its model, if it has one."""
    return {
        (sample.name, sample.labels.get("model", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_models(tmp_path: Path):
    write_model(tmp_path)
    write_model(tmp_path, version="2", change=wrong_golden)
    before = time.time()
    app = create_app(Settings(models=tmp_path, device="cpu"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        text = (await client.get("/metrics")).text
        found = samples(text)
        assert found["quartet_model_ready", "classifier"] == 1
        assert found["quartet_versions_refused", "classifier"] == 1
        assert before <= found["quartet_last_load_timestamp_seconds", ""] <= time.time()
        assert found["quartet_loads_failed_total", ""] == 0
        assert found["quartet_requests_in_flight", ""] == 1  # the one for the metrics
        assert f'version="{__version__}"' in text
        (version,) = app.repository.versions
        await app.repository.take_out(version, "its answers are wrong")
        assert samples((await client.get("/metrics")).text)["quartet_model_ready", "classifier"] == 0


def test_keys_with_an_end(tmp_path: Path):
    path = tmp_path / "keys.toml"
    path.write_text(
        f'[alice]\nsha256 = "{"a" * 64}"\nexpires = 2100-01-01T00:00:00Z\n'
        f'[bob]\nsha256 = "{"b" * 64}"\nprevious = {{ sha256 = "{"c" * 64}", until = 2100-01-01T00:00:00Z }}\n'
    )
    ring = KeyRing(path)
    assert ring.ends() == {"alice": 4_102_444_800.0}
    found = [sample for each in State(ring).collect() for sample in each.samples]
    assert [sample.labels["key"] for sample in found if "key" in sample.labels] == ["alice"]


def test_before_the_start_there_are_no_models():
    assert {each.name for each in State(None).collect()} == {
        "quartet_build",
        "quartet_memory_available_bytes",
    }


@pytest.mark.parametrize("devices", [{"cpu"}, {"cuda:0"}])
def test_a_gpu_whose_memory_is_unknown_is_left_out(devices: set[str]):
    assert list(_gpus(devices)) == []
