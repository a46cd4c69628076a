"""doctor: what it reports, advises and returns, on machines that are made up."""

import argparse
from pathlib import Path

import pytest

from quartet.command_line import main
from quartet.offline import doctor
from quartet.offline.examination import Finding, examine
from quartet.offline.machine import Cpu, Driver, Gpu
from service.inference.variants import Selection
from service.settings import Settings, read_settings
from service.tasks.registry import BUILT_IN
from tests.cuda import LOST, fake_cuda
from tests.tiny import write_model, wrong_golden

CPU = Cpu("Xeon", 8, ("AVX2", "AVX-512 VNNI"))
OLD = Cpu("Pentium", 2, ())
H100 = Gpu(0, "NVIDIA H100", 81_559, "9.0", "0000:01:00.0")
DRIVER = Driver("580.65.06", "13.0", (H100,))
OPTIONS = argparse.Namespace(names=[], seconds=0)


def run(monkeypatch: pytest.MonkeyPatch, models: Path, **settings: str) -> int:
    for name, value in {"models": str(models), "threads": "1", **settings}.items():
        monkeypatch.setenv(f"QUARTET_{name.upper()}", value)
    return doctor.run(BUILT_IN, read_settings(), OPTIONS)


def test_a_good_model_on_the_cpu(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, tiny_models, device="cpu") == 0
    output = capsys.readouterr()
    assert "1 models can serve on cpu." in output.out
    (line,) = (line for line in output.out.splitlines() if line.startswith("classifier "))
    assert line.split()[:5] == ["classifier", "1", "reference", "cpu", "yes"]
    assert line.endswith("in batches of 16")
    assert not output.err


def test_a_device_that_cannot_serve(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(doctor, "cuda_problem", lambda index: f"there is no GPU {index}")
    assert run(monkeypatch, tiny_models, device="cuda:3") == 1
    output = capsys.readouterr()
    assert "error: cuda:3 cannot serve: there is no GPU 3" in output.err
    assert "classifier" in output.out  # what it would be on the CPU
    assert run(monkeypatch, tiny_models, device="auto") == 0


def test_a_gpu_that_serves(tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(doctor, "cuda_problem", lambda index: None)
    monkeypatch.setattr(doctor, "read_driver", lambda: DRIVER)
    with fake_cuda():
        assert run(monkeypatch, tiny_models, device="auto") == 0
    output = capsys.readouterr().out
    assert "GPU 0      NVIDIA H100, 81,559 MB, compute capability 9.0" in output
    assert [line.split()[3] for line in output.splitlines() if line.startswith("classifier ")] == ["cpu", "cuda"]
    assert "With QUARTET_DEVICE=cuda the service refuses" in output


def test_a_gpu_that_is_lost_meanwhile(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(doctor, "cuda_problem", lambda index: None)
    with fake_cuda() as recorded:
        recorded.errors = [RuntimeError(LOST)]
        assert run(monkeypatch, tiny_models, device="cuda") == 1
    assert "error: cuda is unusable after CUDA error 700" in capsys.readouterr().err


def test_a_model_that_is_no_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    write_model(tmp_path)
    write_model(tmp_path, version="2", change=wrong_golden)
    (tmp_path / "empty").mkdir()
    assert run(monkeypatch, tmp_path, device="cpu") == 1
    output = capsys.readouterr()
    assert [line.split()[1:5:3] for line in output.out.splitlines() if line.startswith("classifier ")] == [
        ["2", "NO"],
        ["1", "yes"],
    ]
    assert "error: classifier/2 (reference) cannot serve on cpu: output probabilities differs" in output.err


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_nothing_to_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: str
):
    assert run(monkeypatch, tmp_path / folder, device="cpu") == 1
    assert "set QUARTET_MODELS" in capsys.readouterr().err


def test_an_unusable_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("QUARTET_DEVICE", "tpu")
    assert main(["doctor"]) == 2
    assert "QUARTET_DEVICE=tpu: must be auto, cpu, cuda" in capsys.readouterr().err


def test_examination_replays_the_golden_file_once(tiny_models: Path):
    with fake_cuda() as recorded:
        (finding,) = examine(tiny_models, BUILT_IN.kinds, ["cuda"], threads=1, max_batch=8, gpu_memory_mb=0, seconds=0)
    assert finding.good
    assert finding.difference is not None
    assert finding.difference.acceptable
    batches = [shape[0] for (shape,) in recorded.runs]
    warm, replayed, alone, large = [8, 1], [8, 1, 1, 1, 1], [1, 1], [8, 8]
    assert batches == warm + replayed + alone + large


def finding(graph: str = "reference", problem: str | None = None, device: str = "cpu") -> Finding:
    return Finding("classifier", "1", graph, device, problem)


def test_what_is_asked_for_and_cannot_serve():
    findings = [finding(), finding("int8", "it saturates"), finding(device="cuda", problem="no")]
    assert doctor.find_failures(findings, "cpu", Selection()) == []
    assert doctor.find_failures(findings, "cpu", Selection("int8")) == [
        "classifier/1 (int8) cannot serve on cpu: it saturates"
    ]
    assert doctor.find_failures(findings, "cuda", Selection()) == ["classifier/1 (reference) cannot serve on cuda: no"]
    assert "no variant float16 for cpu" in doctor.find_failures(findings, "cpu", Selection("float16"))[0]


def test_two_builds_of_the_runtime_are_one_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.31.1")
    advice = doctor.advise(CPU, None, "no driver", Settings(), [])
    assert any("onnxruntime and onnxruntime-gpu are both installed" in each for each in advice)


def test_advice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "available_cpus", lambda: 2)
    monkeypatch.setattr(doctor, "cpu_quota", lambda: None)
    assert doctor.advise(CPU, None, "no driver", Settings(), [finding("int8")]) == []
    (advice,) = doctor.advise(CPU, DRIVER, "a library is missing", Settings(), [])
    assert "make install-gpu" in advice
    (advice,) = doctor.advise(CPU, DRIVER, None, Settings(device="cpu"), [])
    assert "QUARTET_DEVICE=cuda" in advice
    (advice,) = doctor.advise(CPU, None, "no driver", Settings(threads=4), [])
    assert "QUARTET_THREADS=4 is more than the 2 CPUs" in advice
    (advice,) = doctor.advise(OLD, None, "no driver", Settings(), [finding("int8")])
    assert "VNNI" in advice
    monkeypatch.setattr(doctor, "cpu_quota", lambda: 1.5)
    (advice,) = doctor.advise(CPU, None, "no driver", Settings(), [])
    assert "quota of 1.5 CPUs" in advice
    assert advice.endswith("give it 2.")
