"""Whether there is memory for another version: what it needs, what is free."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.inference import cuda, footprint
from service.inference.footprint import Footprints, available_memory, estimate, fits
from service.inference.loading import Loader
from service.inference.opener import Opener
from service.tasks.registry import BUILT_IN
from tests.server import ROOT
from tests.tiny import write_model

MB = 1_000_000


def test_the_estimate_grows_with_the_graph():
    assert estimate(0) == 64 * MB
    assert estimate(16 * MB) == 128 * MB
    assert estimate(16 * MB, on_gpu=True) == 160 * MB


def test_what_loading_took_before_is_the_better_estimate():
    assert estimate(16 * MB, before=(16 * MB, 40 * MB)) == 50 * MB
    assert estimate(32 * MB, before=(16 * MB, 40 * MB)) == 100 * MB
    assert estimate(8 * MB, before=(16 * MB, 40 * MB)) == 50 * MB
    assert estimate(8 * MB, before=(0, 40 * MB)) > 50 * MB


def test_some_memory_is_left_for_requests():
    assert fits(90, 100)
    assert not fits(91, 100)
    assert not fits(1, 0)


@pytest.mark.parametrize(
    ("most", "current", "statistics", "free"),
    [
        ("max\n", "100\n", "", None),
        ("", "", "", None),
        ("1000\n", "", "", None),
        ("1000\n", "300\n", "", 700),
        ("1000\n", "300\n", "anon 200\ninactive_file 100\nactive_file 7\n", 800),
        ("1000\n", "1300\n", "", 0),
    ],
)
def test_the_free_memory_of_a_control_group(most: str, current: str, statistics: str, free: int | None):
    assert footprint._free_in_group(most, current, statistics) == free


def write_system(folder: Path, monkeypatch: pytest.MonkeyPatch, group: str = "/pod/container") -> Path:
    """A process in a control group; returns the folder of the groups."""
    groups = folder / "cgroup"
    (groups / group[1:]).mkdir(parents=True)
    process = folder / "process"
    process.mkdir()
    (process / "cgroup").write_text(f"0::{group}\n")
    monkeypatch.setattr(footprint, "_CGROUPS", groups)
    monkeypatch.setattr(footprint, "_PROCESS", process)
    return groups


def limit(group: Path, most: int, current: int) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{current}\n")


def test_the_tightest_of_all_limits_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    groups = write_system(tmp_path, monkeypatch)
    machine = available_memory()
    limit(groups / "pod", 5 * MB, MB)
    assert available_memory() == 4 * MB
    limit(groups / "pod" / "container", 5 * MB, 2 * MB)
    assert available_memory() == 3 * MB
    limit(groups, 2 * MB, MB)
    assert available_memory() == MB
    assert machine is None or machine > 5 * MB


@pytest.mark.parametrize("group", ["/", "/../..", "/gone/from/here"])
def test_a_group_that_is_not_visible_is_no_error(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    groups = write_system(tmp_path, monkeypatch)
    (tmp_path / "process" / "cgroup").write_text(f"0::{group}\n")
    limit(groups, 2 * MB, MB)
    assert available_memory() == MB


def test_a_system_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(footprint, "_PROCESS", tmp_path)
    monkeypatch.setattr(footprint, "_CGROUPS", tmp_path)
    available_memory()


def test_a_version_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_model(tmp_path)
    footprints = Footprints("cpu")
    for free, answer in ((80 * MB, True), (60 * MB, False), (None, True)):
        monkeypatch.setattr(footprint, "available_memory", lambda free=free: free)
        assert footprints.fits(folder) is answer


def test_the_memory_of_the_gpu_counts_where_the_version_runs_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    monkeypatch.setattr(cuda, "free_memory", lambda index: asked.append(index) or 60 * MB)
    assert not Footprints("cuda:1").fits(write_model(tmp_path))
    assert asked == [1]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
def test_loading_is_measured(tmp_path: Path):
    folder = write_model(tmp_path, "m")
    graph = (folder / "model.onnx").stat().st_size
    # In a process of its own: garbage that other tests leave may be freed meanwhile and hide what is taken here.
    script = f"""
import shutil
from pathlib import Path
from service.inference.footprint import Footprints

footprints = Footprints("cpu")
with footprints.measured(Path({str(folder)!r})):
    bytearray(b"x") * {50 * MB}
    shutil.rmtree({str(folder)!r})  # as an operator does who has published the next one
print(*footprints._took["m"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    size, took = map(int, done.stdout.split())
    assert size == graph
    assert 40 * MB < took < 100 * MB


def test_a_version_without_a_graph_says_nothing_about_the_next_one(tmp_path: Path):
    footprints = Footprints("cpu")
    with footprints.measured(tmp_path / "m" / "1"):
        bytearray(b"x") * (50 * MB)
    assert footprints._took == {}


def test_versions_that_are_loaded_at_the_same_time_are_not_measured(tmp_path: Path):
    footprints = Footprints("cpu")
    with footprints.measured(tmp_path / "a" / "1"), footprints.measured(tmp_path / "b" / "1"):
        pass
    assert footprints._took == {}
    assert footprints._loading == 0


def test_a_version_that_is_refused_says_nothing_about_the_next_one(tmp_path: Path):
    footprints = Footprints("cpu")

    def load() -> None:
        with footprints.measured(tmp_path / "m" / "1"):
            bytearray(b"x") * (50 * MB)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        load()
    assert footprints._took == {}


def test_the_opener_remembers_what_a_version_took(tmp_path: Path):
    opener = Opener(Loader(BUILT_IN.kinds, "cpu", 1, 64))
    folder = write_model(tmp_path)
    assert opener.fits(folder)
    opener.open(folder).result(30)
    assert opener._footprints._took.keys() <= {"classifier"}
    assert opener.fits(folder)


def test_without_a_driver_the_free_memory_of_a_gpu_is_unknown(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(cuda.ctypes, "CDLL", missing)
    assert cuda.free_memory(0) is None
