"""The repository for Triton: complete, parsed by its messages, and only of what a server would answer with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from quartet.command_line import main
from quartet.protocol import inference_pb2
from service.inference.manifest import sha256
from tests.server import ROOT
from tests.tiny import write_model
from tests.tiny_tensors import write_scaled, write_words


def read(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), inference_pb2.Configuration())


def write(models: Path, output: Path) -> int:
    return main(["triton-repository", str(output), "--models", str(models)])


def test_the_committed_models(tmp_path: Path):
    assert write(ROOT / "models", tmp_path / "new" / "repository") == 0
    folders = {folder.name: folder for folder in (tmp_path / "new" / "repository").iterdir()}
    assert folders.keys() == {folder.name for folder in (ROOT / "models").iterdir() if folder.is_dir()}
    for name, folder in folders.items():
        config = read(folder)
        assert (config.name, config.backend) == (name, "onnxruntime")
        (number,) = config.version_policy.specific.versions
        manifest = json.loads((ROOT / "models" / name / str(number) / "manifest.json").read_text())
        assert config.max_batch_size == manifest["max_batch"]
        assert config.HasField("dynamic_batching")
        assert sha256(folder / str(number) / "model.onnx") == manifest["files"]["model.onnx"]
        assert [each.name for each in config.output] == [each["name"] for each in manifest["outputs"]]
        # Triton takes no empty shape.
        assert all(each.dims for each in (*config.input, *config.output))
    classifier = read(folders["classifier"])
    assert [each.label_filename for each in classifier.output] == ["labels.txt", ""]
    assert classifier.output[1].reshape.shape == []
    assert classifier.output[1].HasField("reshape")
    assert len((folders["classifier"] / "labels.txt").read_text().splitlines()) == 10
    assert not (folders["detector"] / "labels.txt").exists()


def test_graphs_without_batches_and_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUARTET_DEVICE", "cpu")
    write_scaled(tmp_path / "models")
    write_words(tmp_path / "models")
    assert write(tmp_path / "models", tmp_path / "out") == 0
    scaled, words = read(tmp_path / "out" / "scaled"), read(tmp_path / "out" / "words")
    assert (scaled.max_batch_size, scaled.HasField("dynamic_batching")) == (0, False)
    assert [(list(each.dims), each.HasField("reshape")) for each in scaled.input] == [([-1, 2], False), ([1], True)]
    assert [words.input[0].data_type, list(words.input[0].dims)] == [inference_pb2.TYPE_STRING, [2]]
    assert words.instance_group[0].kind == inference_pb2.Configuration.InstanceGroup.KIND_CPU


def test_only_what_a_server_answers_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    models = tmp_path / "models"
    for number in ("1", "2", "3"):
        write_model(models, version=number)
    shutil.copytree(models / "classifier", models / "off")
    (models / "classifier" / "serving.toml").write_text('default = "2"\naliases = {old = "1", new = "3"}\n')
    (models / "off" / "serving.toml").write_text("serve = false\n")
    (models / "broken" / "1").mkdir(parents=True)
    assert write(models, tmp_path / "out") == 0
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == ["classifier"]
    assert sorted(read(tmp_path / "out" / "classifier").version_policy.specific.versions) == [1, 2]
    printed = capsys.readouterr().out
    assert "left out: classifier/3: Triton would answer with it instead of version 2" in printed
    assert "left out: broken: version 1: manifest.json: is missing" in printed


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert write(ROOT / "models", tmp_path / "out") == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_room_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    assert write(ROOT / "models", tmp_path / "out") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_without_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "models").mkdir()
    assert write(tmp_path / "models", tmp_path / "out") == 1
    assert "holds no model" in capsys.readouterr().err
