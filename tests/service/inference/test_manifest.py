"""A manifest is valid, or refused with the name of the wrong field."""

import json
import os
from pathlib import Path

import pytest

from service.inference.manifest import InvalidModel, sha256, without_folders
from service.tasks.registry import read_manifest
from tests.tiny import LABELS, write_model
from tests.tiny_autoencoder import write_autoencoder


def change(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_valid_manifest(tmp_path: Path):
    folder = write_model(tmp_path)
    manifest = read_manifest(folder)
    assert manifest.labels == LABELS
    assert manifest.inputs[0].shape == (-1, 8, 8, 3)
    assert manifest.files == {name: sha256(folder / name) for name in ("model.onnx", "golden.npz")}


def test_a_manifest_survives_a_round_trip_through_json(tmp_path: Path):
    folder = write_model(tmp_path)
    written = json.loads((folder / "manifest.json").read_text())
    assert json.loads(read_manifest(folder).model_dump_json(exclude={"format"})) == written


def test_sha256(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_manifest(tmp_path: Path):
    with pytest.raises(InvalidModel, match=r"^manifest\.json: is missing$"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_a_file_that_is_not_a_manifest(tmp_path: Path, text: str):
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InvalidModel, match=r"manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"format": 2}, r"format: a newer Quartet has written format 2, .* reads up to 1: update Quartet here"),
        ({"format": "2"}, "format"),
        ({"format": 0}, "format"),
        ({"task": "detection"}, r"image\.channels|curves|suppression"),
        ({"task": "juggling"}, "task: 'juggling' is not one of classification, detection"),
        ({"task": ["classification"]}, "task: "),
        ({"name": "../classifier"}, "name"),
        ({"max_batch": 0}, "max_batch"),
        ({"surprise": 1}, "surprise: Quartet .* has no such field: if a newer one has written it, update"),
        ({"golden": {"rows": 4, "atol": 1e-4, "weights": [1]}}, r"golden\.weights: Quartet .* has no such field"),
        ({"inputs": [{"name": "images", "dtype": "complex64", "shape": [-1, 8, 8, 3]}]}, r"inputs\.0\.dtype"),
        ({"image": {"height": 8, "width": 8, "channels": 4}}, r"image\.channels"),
        ({"calibration": {"temperature": 0, "ece_before": 0.1, "ece_after": 0.1}}, r"calibration\.temperature"),
        ({"files": {}}, "files: names no model.onnx"),
        ({"labels": None}, "labels"),
        ({"golden": {"rows": 4, "atol": 1e-4, "labels": ["red"]}}, "golden: .*1 labels for 4 rows"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, values: dict, says: str):
    folder = write_model(tmp_path)
    change(folder, **values)
    with pytest.raises(InvalidModel, match=says):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_file_that_is_not_the_one_it_was_made_with(tmp_path: Path, name: str):
    folder = write_model(tmp_path)
    with (folder / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InvalidModel, match=rf"^{name}: is not the file that the manifest was made with$"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_missing_file(tmp_path: Path, name: str):
    folder = write_model(tmp_path)
    (folder / name).unlink()
    with pytest.raises(InvalidModel, match=f"^{name}: is missing$"):
        read_manifest(folder)


def test_a_further_file_is_checked_too(tmp_path: Path):
    folder = write_model(tmp_path)
    files = read_manifest(folder).files
    change(folder, files={**files, "tokenizer.json": "0" * 64})
    with pytest.raises(InvalidModel, match=r"^tokenizer\.json: is missing$"):
        read_manifest(folder)


def test_a_file_that_the_task_needs_must_be_named(tmp_path: Path):
    write_autoencoder(tmp_path)
    folder = tmp_path / "decoder" / "1"
    files = read_manifest(folder).files
    change(folder, files={name: digest for name, digest in files.items() if name != "density.npz"})
    with pytest.raises(InvalidModel, match=r"files: names no density\.npz"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_folder_instead_of_a_file(tmp_path: Path, name: str):
    folder = write_model(tmp_path)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(InvalidModel, match=f"^{name}: is not a file|{name}' is not a file"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["../classifier/1/model.onnx", "/etc/hostname", "report/README.md", ""])
def test_a_file_elsewhere_is_not_even_opened(tmp_path: Path, name: str):
    folder = write_model(tmp_path)
    (folder / "report").mkdir(exist_ok=True)
    (folder / "report" / "README.md").write_text("x")
    change(folder, files={**read_manifest(folder).files, name: "0" * 64})
    with pytest.raises(InvalidModel, match="is not a file of this version"):
        read_manifest(folder)


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path):
    folder = write_model(tmp_path)
    files = read_manifest(folder).files
    os.mkfifo(folder / "pipe")
    change(folder, files={**files, "pipe": "0" * 64})
    with pytest.raises(InvalidModel, match="is not a file of this version"):
        read_manifest(folder)
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(InvalidModel, match="is not a file"):
        read_manifest(folder)


def test_a_manifest_of_no_sensible_size_is_not_read(tmp_path: Path):
    folder = write_model(tmp_path)
    with (folder / "manifest.json").open("ab") as file:
        file.truncate(100_000_000_000)  # a hole, which takes no room on disk
    with pytest.raises(InvalidModel, match="over 16 MB"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "Load model from /srv/a b/classifier/2/model.onnx failed: no graph",
            "Load model from model.onnx failed: no graph",
        ),
        ("[Errno 2] No such file: '/srv/models/x/tokenizer.json'", "[Errno 2] No such file: 'tokenizer.json'"),
        ("/build/core/graph.cc:12 it cannot be run", "graph.cc:12 it cannot be run"),
        ("1 / 2 of text and/or pixels", "1 / 2 of text and/or pixels"),
    ],
)
def test_what_a_library_says_is_told_without_folders(text: str, left: str):
    assert without_folders(text) == left
