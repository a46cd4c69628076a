import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import training
from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN, MANIFEST, MODEL, InvalidModel, read_manifest
from service.inference.session import Session
from training.augment import to_pixels
from training.calibrate import softmax
from training.classification import predict
from training.export import ClassifierGraph, ExportMismatch, export, library_versions, publish, write_golden


def answers(graph, images):
    with torch.no_grad():
        return graph(torch.from_numpy(images)).numpy()


@pytest.fixture
def write(exported_cnn, make_manifest, colours):
    """Fills a folder as a recipe does."""

    def fill(folder):
        shutil.copy(exported_cnn.path, folder / MODEL)
        write_golden(exported_cnn.graph, colours.test.images[:4], folder / GOLDEN, **exported_cnn.names)
        return make_manifest()

    return fill


def test_graph_gives_the_softmax_of_the_scaled_logits(exported_cnn, colours):
    logits = predict(exported_cnn.graph.network, colours.test.images)
    np.testing.assert_allclose(answers(exported_cnn.graph, colours.test.images), softmax(logits / 1.7), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5, 7, 16, 30])
def test_exported_graph_agrees_with_torch_at_every_batch(exported_cnn, colours, batch):
    images = colours.test.images[:batch]
    (got,) = Session(exported_cnn.path, "cpu").run({"images": images})
    assert got.shape == (batch, 3)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, answers(exported_cnn.graph, images), atol=1e-4)


def test_largest_difference_is_reported(exported_cnn, colours):
    session = Session(exported_cnn.path, "cpu")
    differences = [
        np.abs(session.run({"images": images})[0] - answers(exported_cnn.graph, images)).max()
        for images in (colours.test.images[:batch] for batch in (1, 2, 7, 16))
    ]
    assert exported_cnn.difference == pytest.approx(max(differences), abs=1e-7)


def test_batch_axis_is_dynamic_and_the_tensors_are_as_described(exported_cnn):
    graph = onnx.load(exported_cnn.path).graph
    ((images,), (probabilities,)) = graph.input, graph.output
    assert images.name == exported_cnn.inputs.name == "images"
    assert probabilities.name == exported_cnn.outputs.name == "probabilities"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert probabilities.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    for value, rest in ((images, [12, 12, 3]), (probabilities, [3])):
        batch, *others = value.type.tensor_type.shape.dim
        assert batch.dim_param
        assert [axis.dim_value for axis in others] == rest
    assert (exported_cnn.inputs.dtype, exported_cnn.inputs.shape) == ("uint8", (-1, 12, 12, 3))
    assert (exported_cnn.outputs.dtype, exported_cnn.outputs.shape) == ("float32", (-1, 3))


def test_graph_is_one_file_that_names_no_path_of_this_machine(exported_cnn):
    assert [path.name for path in exported_cnn.path.parent.iterdir()] == ["model.onnx"]
    content = exported_cnn.path.read_bytes()
    for place in (
        Path(training.__file__).parent,
        Path(torch.__file__).parents[1],
        Path.home(),
        exported_cnn.path.parent,
    ):
        assert str(place).encode() not in content
    assert b".py" not in content
    assert b"site-packages" not in content


class Unsteady(nn.Module):
    """Gives something else every time, which no exported graph can follow."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return to_pixels(images).mean((2, 3)) + self.calls


def test_graph_that_disagrees_with_torch_is_refused(colours, tmp_path):
    with pytest.raises(ExportMismatch, match=r"batch of \d+: output means differs by"):
        export(
            Unsteady(),
            colours.test.images,
            tmp_path / "m.onnx",
            input_name="images",
            output_names=("means",),
            max_batch=4,
            card=GoldenCard(rows=1, atol=1e-4),
        )


def test_golden_file_holds_inputs_and_what_torch_answers(exported_cnn, colours, tmp_path):
    write_golden(exported_cnn.graph, colours.test.images[:4], tmp_path / GOLDEN, **exported_cnn.names)
    with np.load(tmp_path / GOLDEN) as golden:
        assert set(golden) == {"images", "probabilities"}
        np.testing.assert_array_equal(golden["images"], colours.test.images[:4])
        np.testing.assert_array_equal(golden["probabilities"], answers(exported_cnn.graph, colours.test.images[:4]))


def test_versions_of_the_libraries_are_those_installed():
    versions = library_versions()
    assert versions["numpy"] == np.__version__
    assert versions["onnx"] == onnx.__version__
    assert {"python", "torch", "timm"} < set(versions)
    assert any(name.startswith("onnxruntime") for name in versions)


def test_published_versions_are_numbered_from_one_and_can_be_served(write, tmp_path):
    first, second = publish(tmp_path, "colours", write), publish(tmp_path, "colours", write)
    assert (first, second) == (tmp_path / "colours" / "1", tmp_path / "colours" / "2")
    for folder in (first, second):
        manifest = read_manifest(folder)
        assert set(manifest.files) == {MODEL, GOLDEN}
        assert Session(folder / MODEL, "cpu").check(folder, manifest) <= 1e-4
    assert sorted(os.listdir(tmp_path / "colours")) == ["1", "2"]


def test_next_version_follows_the_highest_number_and_passes_over_other_names(write, tmp_path):
    for name in ("2", "10", "notes", ".draft-old"):
        (tmp_path / "colours" / name).mkdir(parents=True)
    assert publish(tmp_path, "colours", write).name == "11"


def test_published_folder_can_be_read_by_others(write, tmp_path):
    assert publish(tmp_path, "colours", write).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("failure", [RuntimeError("disk full"), KeyboardInterrupt()])
def test_failing_write_leaves_the_versions_as_they_were(write, tmp_path, failure):
    def fail(folder):
        write(folder)
        raise failure

    publish(tmp_path, "colours", write)
    with pytest.raises(type(failure)):
        publish(tmp_path, "colours", fail)
    assert os.listdir(tmp_path / "colours") == ["1"]


def test_failing_first_write_leaves_nothing_behind(write, tmp_path):
    def fail(folder):
        write(folder)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        publish(tmp_path / "models", "colours", fail)
    assert not list(tmp_path.rglob("colours/*"))
    assert not (tmp_path / "models" / "colours").exists()


def test_version_whose_golden_file_disagrees_is_not_published(write, tmp_path):
    def spoil(folder):
        manifest = write(folder)
        with np.load(folder / GOLDEN) as golden:
            images, probabilities = golden["images"], golden["probabilities"]
        np.savez(folder / GOLDEN, images=images, probabilities=probabilities[:, ::-1])
        return manifest

    publish(tmp_path, "colours", write)
    with pytest.raises(InvalidModel, match="differs from PyTorch"):
        publish(tmp_path, "colours", spoil)
    assert os.listdir(tmp_path / "colours") == ["1"]


def test_manifest_is_written_last_with_a_line_end(write, tmp_path):
    folder = publish(tmp_path, "colours", write)
    assert (folder / MANIFEST).read_text().endswith("}\n")


def test_graph_of_a_network_without_state_in_training_mode_is_evaluated(tiny_cnn, colours, tmp_path):
    # Batch normalisation in training mode would make a row depend on its batch.
    graph = ClassifierGraph(tiny_cnn().train(), 1.0)
    export(
        graph,
        colours.test.images,
        tmp_path / "m.onnx",
        input_name="images",
        output_names=("probabilities",),
        max_batch=7,
        card=GoldenCard(rows=1, atol=1e-4),
    )
    session = Session(tmp_path / "m.onnx", "cpu")
    whole = session.run({"images": colours.test.images[:7]})[0]
    alone = session.run({"images": colours.test.images[3:4]})[0]
    np.testing.assert_allclose(alone[0], whole[3], atol=1e-5)
