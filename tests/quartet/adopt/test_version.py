import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from quartet.adopt import version
from quartet.adopt.base import Proposal
from quartet.adopt.batching import decide
from quartet.adopt.graph import CannotAdopt, Loaded, Value, inputs_of, load, open_session, outputs_of
from quartet.adopt.samples import Samples, draw
from quartet.adopt.version import check_name, publish, settle_outputs
from service.inference.manifest import InvalidModel
from service.tasks.registry import read_manifest
from service.tasks.tensors.manifest import TensorsManifest
from tests.quartet.adopt.graphs import linear, make, save
from tests.tiny import write_model


def proposal_of(model, folder: Path, **changes) -> Proposal:
    loaded = load(save(model, folder))
    samples = draw(inputs_of(loaded.model), {}, open_session(loaded.model, "m").run, 64)
    return Proposal(loaded, samples, lambda common: TensorsManifest(max_length=64, **common), **changes)


def published(model, folder: Path, **changes):
    proposal = proposal_of(model, folder, **changes)
    return publish(proposal, folder / "models", "x", most=8, command="quartet adopt model.onnx --name x")


def test_a_version_is_complete_and_its_manifest_says_where_it_comes_from(tmp_path: Path):
    folder, manifest, _ = published(linear(3), tmp_path)
    assert folder == tmp_path / "models" / "x" / "1"
    assert read_manifest(folder) == manifest
    assert sorted(path.name for path in folder.iterdir()) == ["golden.npz", "manifest.json", "model.onnx", "report"]
    card = manifest.adopted
    assert card is not None
    assert (card.source, card.producer, card.opsets, card.samples) == ("model.onnx", "test 1", {"": 17}, "random")
    assert card.batching.startswith("yes")
    assert (manifest.batched, manifest.max_batch) == (True, 8)
    assert [spec.shape for spec in (*manifest.inputs, *manifest.outputs)] == [(-1, 4), (-1, 2)]
    report = (folder / "report" / "README.md").read_text()
    assert card.sha256 in report
    assert "quartet adopt model.onnx --name x" in report
    request = json.loads((folder / "report" / "request.json").read_text())
    assert request["inputs"][0]["shape"] == [1, 4]


def test_the_next_adoption_is_the_next_version(tmp_path: Path):
    published(linear(), tmp_path)
    assert published(linear(), tmp_path).folder.name == "2"


def test_what_a_task_writes_is_part_of_the_version(tmp_path: Path):
    def write(folder: Path, manifest: TensorsManifest) -> None:
        (folder / "more.json").write_text("{}")
        (folder / "report").mkdir()
        (folder / "report" / "README.md").write_text("its own card")

    folder, manifest, _ = published(linear(), tmp_path, write=write, call="curl")
    assert "more.json" in manifest.files
    assert (folder / "report" / "README.md").read_text() == "its own card"
    assert not (folder / "report" / "request.json").exists()


@pytest.mark.parametrize("failure", ["write", "load", "interrupt"])
def test_nothing_is_left_of_an_adoption_that_fails(failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(folder: Path, manifest: TensorsManifest) -> None:
        if failure != "load":
            raise KeyboardInterrupt if failure == "interrupt" else CannotAdopt("labels", "too few")

    def refuse(*_):
        raise InvalidModel("broken")

    if failure == "load":
        monkeypatch.setattr(version.Loader, "open", refuse)
    with pytest.raises((CannotAdopt, KeyboardInterrupt)):
        published(linear(), tmp_path, write=write)
    assert not (tmp_path / "models" / "x").exists()


def test_random_answers_are_refused_with_the_operators(tmp_path: Path):
    noise = make(
        [helper.make_node("RandomNormalLike", ["x"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])],
        {"x": ("float32", ["batch", 4])},
        {"y": ("float32", ["batch", 4])},
    )
    with pytest.raises(CannotAdopt, match=r"different answers to the same inputs \(RandomNormalLike\)"):
        published(noise, tmp_path)


def test_integer_divisions_are_guarded_in_what_is_published(tmp_path: Path):
    model = make([helper.make_node("Div", ["a", "b"], ["c"])], {name: ("int32", ["batch", 2]) for name in "ab"},
                 {"c": ("int32", ["batch", 2])})  # fmt: skip
    loaded = load(save(model, tmp_path))
    ones = np.arange(1, 9, dtype=np.int32).reshape(4, 2)
    samples = Samples.of_rows({"a": ones, "b": ones[::-1].copy()}, "given")
    proposal = Proposal(loaded, samples, lambda common: TensorsManifest(max_length=64, **common))
    manifest = publish(proposal, tmp_path / "models", "x", most=8, command="").manifest
    assert manifest.adopted is not None
    assert "negate instead" in manifest.adopted.changes[0]
    assert manifest.adopted.samples == "given"


def test_outputs_are_declared_as_answers_are(tmp_path: Path):
    model = make(
        [helper.make_node("Unsqueeze", ["x", "last"], ["y"])],
        {"x": ("float32", ["batch", 4])},
        {"y": ("float32", None)},
        weights={"last": np.array([2])},
    )
    proposal = proposal_of(model, tmp_path)
    settled, _ = settle_outputs(decide(model, proposal.samples, 8), proposal.samples)
    assert outputs_of(settled) == (Value("y", "float32", ("batch", 4, 1)),)


def test_an_output_whose_rank_depends_on_the_values_is_refused():
    branches = [
        helper.make_graph([helper.make_node("Squeeze" if squeezed else "Identity", ["x"], ["z"])], "b", [],
                          [helper.make_value_info("z", helper.make_tensor_type_proto(1, None))])
        for squeezed in (True, False)
    ]  # fmt: skip
    model = make(
        [helper.make_node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1])],
        {"x": ("float32", [1, 4]), "yes": ("bool", [])},
        {"y": ("float32", None)},
    )
    calls = tuple({"x": np.ones((1, 4), np.float32), "yes": np.array(yes)} for yes in (True, False))
    samples = Samples(calls, "given")
    with pytest.raises(CannotAdopt, match="number of axes of the output 'y'"):
        settle_outputs(decide(model, samples, 8), samples)


def test_a_name_with_another_task_is_refused(tmp_path: Path):
    write_model(tmp_path, "cats")
    with pytest.raises(CannotAdopt, match="holds a model of the task classification"):
        check_name(tmp_path, "cats", "tensors")
    check_name(tmp_path, "cats", "classification")
    check_name(tmp_path, "new", "tensors")


def test_a_loaded_graph_counts_its_changes(tmp_path: Path):
    loaded = load(save(linear(), tmp_path))
    changed = loaded.changed(loaded.model, "one", "two")
    assert isinstance(changed, Loaded)
    assert changed.changes == ("one", "two")
