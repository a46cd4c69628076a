"""Processes behind HAProxy are replaced under load, and no request is lost."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.fleet import HAPROXY, Fleet
from benchmarks.rollout import MODELS, roll_out
from service.settings import Settings
from tests.compatibility.record import MODELS as SMALL

needs_haproxy = pytest.mark.skipif(
    not (shutil.which("haproxy") and shutil.which("curl")), reason="HAProxy or curl is not installed"
)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in MODELS:
        (folder / name).symlink_to(SMALL / name)
    return folder


@needs_haproxy
def test_no_request_is_lost_in_two_rollouts(models: Path, tmp_path: Path):
    with Fleet(models, tmp_path) as fleet:
        kinds, _ = roll_out(fleet, 2)
    assert fleet.replaced == 4
    for name, came in kinds.items():
        assert not came.lost, name
        assert len(came.seconds) > 4, name


@needs_haproxy
def test_a_process_that_does_not_start_ends_the_rollout(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Fleet(models, tmp_path) as fleet:
        fleet.wait_until_up()
        monkeypatch.setattr("benchmarks.fleet._READY_SECONDS", 5)
        fleet._settings["max_batch"] = "0"  # no process starts with it
        with pytest.raises(subprocess.CalledProcessError):
            fleet.roll_out()
        assert fleet.replaced == 1
        fleet.wait_until_up()  # the other process has not been touched


@pytest.mark.skipif(not shutil.which("haproxy"), reason="HAProxy is not installed")
def test_haproxy_accepts_its_configuration():
    done = subprocess.run(["haproxy", "-c", "-f", HAPROXY / "haproxy.cfg"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_times_of_haproxy_and_systemd_are_those_that_the_service_needs():
    seconds = {
        name: float(value)
        for name, value in re.findall(
            r"^ +timeout ([\w-]+) (\d+)s$", (HAPROXY / "haproxy.cfg").read_text(), re.MULTILINE
        )
    }
    fields = Settings.model_fields
    assert seconds["server"] > fields["timeout"].default
    assert seconds["http-keep-alive"] < 75
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", (HAPROXY / "quartet@.service").read_text(), re.MULTILINE)
    assert float(stop) > fields["drain_seconds"].default + fields["shutdown_timeout"].default
