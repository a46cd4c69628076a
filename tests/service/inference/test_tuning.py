"""The file of what was measured: read, merged, written in one step; a bad one is no obstacle."""

from pathlib import Path

import pytest

from service.inference import tuning
from service.inference.machine import Cpu, Driver, Gpu
from service.inference.performance import Performance
from service.inference.tuning import TunedGraph, Tuning, machine_key, read_tuning, write_tuning


def graph(rates: dict[int, float], max_batch: int = 8) -> TunedGraph:
    return TunedGraph(
        model="classifier/1",
        variant="int8",
        max_batch=max_batch,
        seconds=0.01,
        alone=0.002,
        inline=False,
        items_per_second=rates,
        p99_ms=30,
    )


def test_what_is_written_is_read(tmp_path: Path):
    path = tmp_path / "tuning.json"
    first = Tuning().with_graphs("A", {"1": graph({1: 10, 2: 19})})
    write_tuning(path, first)
    assert read_tuning(path) == first
    # Further graphs and machines leave what is there.
    second = read_tuning(path).with_graphs("B", {"1": graph({2: 7})}).with_graphs("A", {"2": graph({2: 3})})
    write_tuning(path, second)
    assert {machine: [*graphs] for machine, graphs in read_tuning(path).machines.items()} == {
        "A": ["1", "2"],
        "B": ["1"],
    }
    assert read_tuning(path).machines["A"]["1"].performance == Performance(8, 0.01, 0.002)
    assert [file.name for file in tmp_path.iterdir()] == ["tuning.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no json", "Invalid JSON"),
        ('{"format": 2, "machines": {}}', "format"),
        ('{"machines": {"A": {"1": {"max_batch": 0}}}}', "Field required"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str, says: str, caplog: pytest.LogCaptureFixture):
    (tmp_path / "tuning.json").write_text(content)
    assert read_tuning(tmp_path / "tuning.json") == Tuning()
    assert says in caplog.text
    assert "python -m service tune" in caplog.text


def test_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert read_tuning(tmp_path / "tuning.json") == Tuning()
    assert not caplog.text


def test_a_folder_in_its_stead(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert read_tuning(tmp_path) == Tuning()
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ([], None),
        ([{1: 10, 2: 19, 4: 18}], 2),
        ([{1: 10, 2: 20, 4: 15}, {1: 10, 2: 11, 4: 30}], 4),
        # Of equals the most, so that a lone batch has as many cores.
        ([{2: 100.0, 4: 100.2}], 4),
        ([{2: 100.2, 4: 100.0}], 4),
        # Of one that was measured with other numbers, those that both have.
        ([{1: 10, 2: 19, 4: 30}, {2: 3}], 2),
    ],
)
def test_the_number_of_threads(rates: list[dict[int, float]], best: int | None):
    graphs = {str(number): graph(each) for number, each in enumerate(rates)}
    assert Tuning().with_graphs("A", graphs).threads("A") == best
    assert Tuning().with_graphs("A", graphs).threads("B") is None


def test_machines_of_a_kind_have_one_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tuning, "read_cpu", lambda: Cpu("Xeon", 8, ("AVX2", "AVX-512 VNNI")))
    monkeypatch.setattr(tuning, "available_cpus", lambda: 4)
    monkeypatch.setattr(tuning.ort, "__version__", "1.31.1")
    gpus = (Gpu(0, "T4", 16_000, "7.5", "0:1"), Gpu(1, "NVIDIA H100", 81_559, "9.0", "0:2"))
    monkeypatch.setattr(tuning, "read_driver", lambda: Driver("580.65", "13.0", gpus))
    assert machine_key("cpu") == "Xeon (AVX2, AVX-512 VNNI), 4 CPUs, ONNX Runtime 1.31.1"
    assert machine_key("cuda:1").startswith("NVIDIA H100, Xeon")
    assert machine_key("cuda:1") != machine_key("cuda")
