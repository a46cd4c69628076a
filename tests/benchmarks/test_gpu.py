"""gpu-check on the CPU: each section through the same code, and nothing at all without a GPU."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import gpu
from tests.cuda import fake_cuda
from tests.tiny import write_model, wrong_golden


@pytest.fixture
def report() -> gpu.Report:
    return gpu.Report()


@pytest.mark.parametrize(("device", "why"), [("cuda:99", ""), ("cpu", "the device must be a GPU")])
def test_without_a_gpu_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], device: str, why: str
):
    output = tmp_path / "gpu.md"
    monkeypatch.setattr("sys.argv", ["gpu", "--device", device, "--output", str(output)])
    assert gpu.main() == 1
    assert capsys.readouterr().err.startswith(f"error: nothing was measured, and {output} was not written: {why}")
    assert not output.exists()


def test_models_and_shapes(tmp_path: Path, report: gpu.Report):
    folder = write_model(tmp_path)
    with fake_cuda() as recorded:
        gpu.check_models(report, tmp_path, "cuda", 0)
        assert len(recorded.opened) == 3
        gpu.check_shapes(report, folder, "cuda", 0)
    text = gpu.render(report)
    assert "Nothing is wrong." in text
    rows = [line for line in text.splitlines() if line.startswith("| classifier/1 | reference")]
    assert [row.split(" | ")[2] for row in rows] == ["cpu", "cuda"]
    assert "| a session for each size |" in text
    # One session takes every size as it is; those with fixed shapes see their own alone.
    assert {shape[0] for (shape,) in recorded.runs} == {1, 8, 16}


def test_a_model_that_is_no_good(tmp_path: Path, report: gpu.Report):
    write_model(tmp_path, change=wrong_golden)
    with fake_cuda():
        gpu.check_models(report, tmp_path, "cuda", 0)
    assert len(report.problems) == 2
    assert "- **classifier/1 (reference) cannot serve on cuda: output probabilities differs" in gpu.render(report)


def test_service_and_memory(tiny_models: Path, report: gpu.Report, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "_CONCURRENCIES", (8,))
    gpu.check_service(report, tiny_models, "cpu", 1)
    growing = iter(range(100, 10_000, 100))
    gpu.check_memory(report, tiny_models, "cpu", 1, lambda: next(growing))
    assert [line.split(" | ")[0] for line in report.lines if line.startswith("| 8")] == ["| 8"]
    (problem,) = report.problems
    assert "grew from" in problem


def test_the_container(report: gpu.Report, monkeypatch: pytest.MonkeyPatch):
    gpu.check_container(report, engines=["no-such-engine"])
    assert "there is none of no-such-engine here" in report.lines[-2]
    calls = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, int("run" in command), "no GPU", "")

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", run)
    gpu.check_container(report, engines=["docker"])
    assert [command[1] for command in calls] == ["build", "run"]
    assert calls[1][3:5] == ["--gpus", "all"]
    assert "ended with 1" in report.problems[0]
