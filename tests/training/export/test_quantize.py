import numpy as np
import onnx
import pytest

from service.inference.manifest import GOLDEN, MODEL
from service.inference.session import Session
from service.inference.variants import graphs
from service.tasks.registry import read_manifest
from training.__main__ import main
from training.classification.recipe import ClassificationEvaluator
from training.data.images import load_images
from training.export import quantize
from training.export.evaluator import run_in_batches
from training.export.quantize import write_float16


@pytest.fixture
def models(publish_colours):
    return publish_colours()


def command(colours_source, models, *more):
    return ["quantize", "colours", "--data", colours_source, "--models", str(models), *more]


@pytest.fixture
def lenient(monkeypatch):
    """A tiny network is neither faster in int8, nor as good."""
    monkeypatch.setattr(quantize, "FASTER", 0.0)
    monkeypatch.setattr(ClassificationEvaluator, "max_drop", 1.0)


def test_a_version_with_variants(models, colours_source, lenient, capsys):
    assert main(command(colours_source, models, "--method", "int8")) == 0
    folder = models / "colours" / "2"
    manifest, before = read_manifest(folder), read_manifest(models / "colours" / "1")
    (card,) = manifest.variants
    assert (card.name, card.device, card.size) == ("int8", "cpu", (folder / "int8.onnx").stat().st_size)
    # The selection half of validation holds no more than 15.
    assert [speed.batch for speed in card.speed] == [1, 8, 15]
    # The reference is the very same.
    assert manifest.files[MODEL] == before.files[MODEL]
    assert manifest.metrics == before.metrics
    # The figures are those of its own graph.
    data = load_images(colours_source)
    (variant, _), _ = graphs(manifest, "int8", "cpu")
    probabilities = run_in_batches(folder / "int8.onnx", "images", data.test.images)[0]
    assert variant.manifest.metrics.accuracy == pytest.approx((probabilities.argmax(1) == data.test.labels).mean())
    assert card.validation.value == ClassificationEvaluator(data).score(folder / "int8.onnx")
    # Its arithmetic is in integers, but for the end.
    types = {node.op_type for node in onnx.load(folder / "int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Softmax"} <= types
    # It replays its golden file, which holds other answers than the reference's.
    Session(folder / "int8.onnx", "cpu").check(folder, variant.manifest)
    with np.load(folder / "int8.npz") as own, np.load(folder / GOLDEN) as reference:
        np.testing.assert_array_equal(own["images"], reference["images"])
        assert len(own["images"]) == card.golden.rows == manifest.golden.rows
        assert (own["probabilities"] != reference["probabilities"]).any()
    report = (folder / "report" / "README.md").read_text()
    assert "| int8 | cpu |" in report
    assert (folder / "report" / "variants.png").exists()


def test_nothing_that_is_not_worth_it(models, colours_source, monkeypatch, capsys):
    monkeypatch.setattr(ClassificationEvaluator, "max_drop", -1.0)
    assert main(command(colours_source, models, "--method", "int8")) == 0
    assert "no variant" in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in (models / "colours").iterdir()] == ["1"]


def test_a_variant_whose_golden_file_would_catch_nothing(models, colours_source, lenient, monkeypatch, capsys):
    monkeypatch.setattr(quantize, "_MOST_TOLERATED", 1e-6)
    assert main(command(colours_source, models, "--method", "int8")) == 0
    assert "probabilities may be off by" in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in (models / "colours").iterdir()] == ["1"]


def test_other_data_are_refused(models, write_class_folders, draw, tmp_path, capsys):
    split = draw(12, seed=9)
    other = write_class_folders(tmp_path / "other", _=(split.images, split.labels))
    assert main(command(other, models)) == 1
    assert "is not what colours was trained on" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["nothing", "colours/7", "colours/x"])
def test_no_such_version(models, colours_source, model, capsys):
    assert main(["quantize", model, "--data", colours_source, "--models", str(models)]) == 2
    assert ("holds no model" if model == "nothing" else "has no published version") in capsys.readouterr().err


def test_half_precision(exported_cnn, colours, tmp_path):
    path = tmp_path / "half.onnx"
    write_float16(exported_cnn.path, path)
    onnx.checker.check_model(str(path), full_check=True)
    half, reference = (run_in_batches(each, "images", colours.test.images)[0] for each in (path, exported_cnn.path))
    np.testing.assert_allclose(half, reference, atol=0.01)
    types = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types
