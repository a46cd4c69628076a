import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from quartet.adopt import asking
from quartet.adopt.asking import REQUEST, ask_command, write_request
from service.inference.golden import read_golden
from service.tasks.registry import read_manifest
from tests.tiny_tensors import write_scaled, write_sums, write_words


def request_of(folder: Path, **inputs: np.ndarray) -> dict:
    manifest = read_manifest(folder)
    golden = read_golden(folder, manifest)
    golden.inputs.update(inputs)
    write_request(folder, manifest, golden)
    return json.loads((folder / REQUEST).read_text())


def test_a_request_has_the_first_item_as_the_protocol_names_it(tmp_path: Path):
    words = request_of(write_words(tmp_path))["inputs"]
    assert words == [{"name": "words", "shape": [1, 2], "datatype": "BYTES", "data": ["0", "1"]}]
    signal, factor = request_of(write_scaled(tmp_path))["inputs"]
    assert (signal["shape"], factor["shape"], factor["data"]) == ([5, 2], [], [0.0])


def test_values_have_few_digits_unless_they_could_leave_their_range(tmp_path: Path):
    signal, factor = request_of(
        write_scaled(tmp_path), signal=np.full((1, 5, 2), 1 / 3, np.float32), factor=np.float32([1 / 3])
    )["inputs"]
    assert signal["data"][0] == np.float32(1 / 3)
    assert factor["data"] == [0.3333]


def test_what_json_cannot_express_is_replaced(tmp_path: Path):
    nan = np.full((1, 5, 2), np.nan, np.float32)
    nan[:, 0] = np.inf
    signal, _ = request_of(write_scaled(tmp_path), signal=nan)["inputs"]
    assert signal["data"] == [0.0] * 10


def test_a_command_holds_a_small_request_and_names_the_file_of_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write_sums(tmp_path)
    assert ask_command(folder, "simple") is None
    request = request_of(folder)
    command = shlex.split(ask_command(folder, "simple") or "")
    assert json.loads(command[2]) == request
    assert command[3] == "localhost:8000/v2/models/simple/infer"
    monkeypatch.setattr(asking, "_MOST_SHOWN", 3)
    assert shlex.split(ask_command(folder, "simple") or "")[2] == f"@{folder / REQUEST}"


def test_what_is_too_large_for_json_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asking, "_MOST_VALUES", 3)
    folder = write_sums(tmp_path)
    manifest = read_manifest(folder)
    write_request(folder, manifest, read_golden(folder, manifest))
    assert not (folder / REQUEST).exists()
