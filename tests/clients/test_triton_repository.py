"""The repository that `quartet triton-repository` writes, parsed by the messages of Triton's own client."""

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("tritonclient.grpc", exc_type=ImportError)
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.clients.conftest import PYTHON
from tests.server import ROOT


def test_every_configuration_is_parsed(tmp_path: Path):
    output = tmp_path / "repository"
    command = [PYTHON, "-m", "quartet.command_line", "triton-repository", output, "--models", ROOT / "models"]
    subprocess.run(command, cwd=ROOT, check=True)
    names = []
    for folder in output.iterdir():
        config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        names.append(config.name)
        assert (config.name, config.backend, config.platform) == (folder.name, "onnxruntime", "onnxruntime_onnx")
        assert config.max_batch_size > 0
        for version in config.version_policy.specific.versions:
            assert (folder / str(version) / "model.onnx").is_file()
        for tensor in (*config.input, *config.output):
            assert tensor.data_type != model_config_pb2.TYPE_INVALID
            assert tensor.dims
        for output_ in config.output:
            labelled = bool(output_.label_filename)
            assert not labelled or len((folder / output_.label_filename).read_text().splitlines()) == output_.dims[0]
    assert "classifier" in names
