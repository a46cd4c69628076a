import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from starlette.testclient import TestClient

from quartet.adopt.command_line import main, read_options
from service.app import create_app
from service.settings import Settings
from tests.quartet.adopt.graphs import linear, make, save, zipped

IDS = make(
    [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("ReduceMean", ["words"], ["y"], axes=[1]),
    ],
    {"ids": ("int64", ["batch", "length"])},
    {"y": ("float32", None)},
    weights={"table": np.random.default_rng(0).random((50, 4), np.float32)},
)


def adopt(path: Path, *arguments: str) -> int:
    return main(["adopt", str(path), "--name", "mine", "--models", str(path.parent / "models"), *arguments])


def ask(command: str, models: Path) -> dict:
    """The answer of a server to a curl command."""
    _, option, data, address = shlex.split(command)
    assert option == "-d"
    body = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
    settings = Settings(models=models, device="cpu", threads=1)
    with TestClient(create_app(settings)) as client:
        response = client.post(address.removeprefix("localhost:8000"), content=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("model", [linear(3), zipped(), IDS], ids=["linear", "zipped", "ids"])
def test_the_command_that_is_printed_is_answered(model, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert adopt(save(model, tmp_path)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("model.onnx: ")
    assert "opset ai.onnx 17" in printed[0]
    assert any(line.startswith("batches: yes") for line in printed)
    answer = ask(printed[-1], tmp_path / "models")
    assert answer["outputs"][0]["shape"][0] == 1


def test_a_large_request_is_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = make([helper.make_node("Relu", ["x"], ["y"])], {"x": ("float32", ["batch", 100])},
                 {"y": ("float32", ["batch", 100])})  # fmt: skip
    assert adopt(save(model, tmp_path)) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert "@" in command
    assert ask(command, tmp_path / "models")["outputs"][0]["shape"] == [1, 100]


def test_samples_ranges_and_lengths_reach_the_manifest(tmp_path: Path):
    np.savez(tmp_path / "samples.npz", ids=np.arange(24).reshape(4, 6))
    path = save(IDS, tmp_path)
    options = ["--samples", str(tmp_path / "samples.npz"), "--max-length", "16", "--max-batch", "5"]
    assert adopt(path, *options, "--range", "ids=0:30") == 0
    manifest = json.loads((tmp_path / "models" / "mine" / "1" / "manifest.json").read_text())
    assert manifest["adopted"]["samples"] == "given"
    assert manifest["ranges"] == {"ids": [0, 30]}
    assert (manifest["max_length"], manifest["max_batch"]) == (16, 5)
    assert str(tmp_path) not in json.dumps(manifest)
    assert adopt(path) == 0
    manifest = json.loads((tmp_path / "models" / "mine" / "2" / "manifest.json").read_text())
    assert manifest["ranges"] == {"ids": [0, 49]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--range", "id=0:9"], "no input 'id': did you mean ids?"),
        (["--samples", "none.npz"], "cannot be read as npz"),
    ],
)
def test_what_cannot_be_adopted_is_one_line_and_leaves_nothing(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert adopt(save(IDS, tmp_path), *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())


def test_state_is_refused_unless_clients_send_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = make(
        [helper.make_node("Add", ["x", "state"], ["stateN"])],
        {"x": ("float32", ["batch", 2]), "state": ("float32", ["batch", 2])},
        {"stateN": ("float32", ["batch", 2])},
    )
    path = save(model, tmp_path)
    assert adopt(path) == 1
    assert "state → stateN" in capsys.readouterr().err
    assert adopt(path, "--explicit-state") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--range", "ids"], ["--range", "ids=9:0"], ["--range", "ids=a:b"], ["--range", "ids=0:inf"],
        ["--max-batch", "0"], ["--max-length", "x"], ["--task", "poetry"], ["--explicit"],
    ],
)  # fmt: skip
def test_wrong_options(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        read_options(["model.onnx", "--name", "x", *arguments], "quartet")
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_a_name_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["adopt", "x.onnx", "--name", "../x", "--models", str(tmp_path)]) == 2
    assert "letters, digits" in capsys.readouterr().err
    assert adopt(tmp_path / "none.onnx") == 1
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "models").write_text("a file")
    assert adopt(save(linear(), tmp_path)) == 1
    assert "models" in capsys.readouterr().err
