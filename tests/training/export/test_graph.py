from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import training
from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN
from service.inference.session import Session
from training.data.augment import to_pixels
from training.export.graph import ExportMismatch, export, write_golden


def answers(graph, images):
    with torch.no_grad():
        return graph(torch.from_numpy(images)).numpy()


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
    for path in (
        Path(training.__file__).parent,
        Path(torch.__file__).parents[1],
        Path.home(),
        exported_cnn.path.parent,
    ):
        assert str(path).encode() not in content
    assert b".py" not in content
    assert b"site-packages" not in content


class Unsteady(nn.Module):
    """Returns something different every time, which no exported graph can reproduce."""

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


class Limited(nn.Module):
    """Answers a batch of up to seven, and something else for a larger one, which no exported graph does."""

    def forward(self, images):
        limit = torch.tensor(7.0 if torch.compiler.is_exporting() or len(images) <= 7 else 0.0)
        return to_pixels(images).mean((2, 3)).minimum(limit)


@pytest.mark.parametrize("count", [1, 3])
def test_the_largest_batch_is_checked_with_repeated_items_where_there_are_fewer(colours, tmp_path, count):
    how = {"input_name": "images", "output_names": ("means",), "card": GoldenCard(rows=1, atol=1e-4)}
    images = colours.test.images[:count]
    export(Limited(), images, tmp_path / "m.onnx", max_batch=7, **how)
    with pytest.raises(ExportMismatch, match="batch of 64: output means differs by"):
        export(Limited(), images, tmp_path / "m.onnx", max_batch=64, **how)


def test_golden_file_holds_inputs_and_what_torch_answers(exported_cnn, colours, tmp_path):
    write_golden(exported_cnn.graph, colours.test.images[:4], tmp_path / GOLDEN, **exported_cnn.names)
    with np.load(tmp_path / GOLDEN) as golden:
        assert set(golden) == {"images", "probabilities"}
        np.testing.assert_array_equal(golden["images"], colours.test.images[:4])
        np.testing.assert_array_equal(golden["probabilities"], answers(exported_cnn.graph, colours.test.images[:4]))
