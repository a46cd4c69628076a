"""tune: what it prints, writes and returns; and a server that finds its file measures nothing."""

import argparse
import asyncio
from pathlib import Path

import pytest

from service.commands import tune
from service.inference import loading
from service.inference.tuning import machine_key, read_tuning
from service.models import repository_of
from service.settings import Settings
from service.tasks.registry import BUILT_IN
from tests.tiny import write_model, wrong_golden
from tests.tiny_variants import int8_graph, write_slow_model


def run(monkeypatch: pytest.MonkeyPatch, models: Path, *names: str, p99_ms: float = 60_000, **settings: str) -> int:
    for name, value in {"models": str(models), "device": "cpu", "threads": "2", "max_batch": "4", **settings}.items():
        monkeypatch.setenv(f"QUARTET_{name.upper()}", value)
    return tune.run(BUILT_IN, argparse.Namespace(names=list(names), seconds=0.02, p99_ms=p99_ms))


async def test_what_was_tuned_is_not_measured_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    models = tmp_path / "models"
    write_slow_model(models)
    assert await asyncio.to_thread(run, monkeypatch, models) == 0
    output = capsys.readouterr().out
    assert [line.split()[1] for line in output.splitlines() if line.endswith("chosen")] == ["reference", "int8"]
    graphs = read_tuning(models / "tuning.json").machines[machine_key("cpu")]
    assert {graph.variant for graph in graphs.values()} == {"reference", "int8"}
    assert all(1 <= graph.max_batch <= 4 and {1, 2} <= graph.items_per_second.keys() for graph in graphs.values())

    monkeypatch.setattr(loading, "measure", None)
    repository = repository_of(Settings(), BUILT_IN)
    await repository.load_all()
    version = repository.models["classifier"]
    assert version.variant == "int8"
    assert version.max_batch == next(graph.max_batch for graph in graphs.values() if graph.variant == "int8")
    await repository.close()


async def test_a_file_that_cannot_be_used_is_complained_of_once_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write_model(tmp_path)
    (tmp_path / "tuning.json").write_text("no json")
    settings = Settings(models=tmp_path, device="cpu")
    repository = repository_of(settings, BUILT_IN)
    await repository.load_all()
    assert caplog.text.count("tuning.json cannot be used") == 1
    await repository.load_all()
    assert caplog.text.count("tuning.json cannot be used") == 2
    await repository.close()


def test_what_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    models = tmp_path / "models"
    write_model(models, "good")
    (write_model(models, "good", version="2") / "manifest.json").write_text("{}")
    write_model(models, "bad", change=wrong_golden)
    write_slow_model(models, int8_graph(127, saturates=True))
    assert run(monkeypatch, models, "good", "bad", "classifier", "missing") == 1
    output = capsys.readouterr()
    assert "error: bad/1 reference: model.onnx: output probabilities differs" in output.err
    assert "error: classifier/1 int8: int8.onnx: output probabilities differs" in output.err
    assert "error: there is no model missing" in output.err
    (graphs,) = read_tuning(models / "tuning.json").machines.values()
    assert {graph.model for graph in graphs.values()} == {"good/1", "classifier/1"}


def test_a_bound_that_nothing_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_model(tmp_path / "models")
    assert run(monkeypatch, tmp_path / "models", p99_ms=1e-6, tuning=str(tmp_path / "elsewhere.json")) == 0
    assert "chosen, although it takes longer than asked for" in capsys.readouterr().out
    assert (tmp_path / "elsewhere.json").is_file()


def test_a_file_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_model(tmp_path / "models")
    assert run(monkeypatch, tmp_path / "models", tuning=str(tmp_path / "nowhere" / "tuning.json")) == 1
    assert "QUARTET_TUNING names another file" in capsys.readouterr().err


def test_a_folder_or_a_device_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, tmp_path / "nowhere") == 1
    assert "set QUARTET_MODELS" in capsys.readouterr().err
    monkeypatch.setattr(tune, "cuda_problem", lambda index: "there is no GPU")
    assert run(monkeypatch, tmp_path, device="cuda") == 1
    assert "cuda cannot serve: there is no GPU" in capsys.readouterr().err
