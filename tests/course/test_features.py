import json

import numpy as np
import onnx
import pytest
import torch

from course.features import first_filters, main, purity, read_stages, receptive_fields, stages_of
from service.inference.manifest import MODEL
from tests.server import ROOT
from training.data.dataset import DataError

COMMITTED = ROOT / "models" / "classifier" / "1" / MODEL


@pytest.fixture(scope="module")
def model():
    return onnx.load(COMMITTED)


def test_each_stage_is_a_map_of_the_size_that_the_network_computes(model):
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    stages = stages_of(model)
    assert [maps.shape for maps in read_stages(model, stages, images)] == [
        (2, 24, 31, 31), (2, 64, 15, 15), (2, 256, 7, 7), (2, 320, 3, 3)
    ]  # fmt: skip
    assert first_filters(model).shape == (24, 3, 2, 2)


def test_the_first_map_is_the_convolution_of_the_image(model):
    images = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    weights = {each.name: torch.tensor(onnx.numpy_helper.to_array(each)) for each in model.graph.initializer}
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    normal = (pixels - weights["network.normalize.mean"]) / weights["network.normalize.std"]
    expected = torch.nn.functional.silu(
        torch.nn.functional.conv2d(normal, weights["network.whiten.weight"], weights["network.whiten.bias"])
    )
    found = read_stages(model, stages_of(model)[:1], images)[0]
    assert np.abs(found - expected.numpy()).max() < 1e-3


def test_a_value_depends_on_no_pixel_outside_its_receptive_field(model):
    stages = stages_of(model)
    fields = receptive_fields(model, stages)
    assert fields[:2] == [2, 13]
    assert fields[3] > fields[2] > 32
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    before = read_stages(model, stages[1:2], image)[0][0, :, 7, 7]
    changed = random.integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    # The cell (7, 7) of the first group sees the pixels 9 to 21.
    changed[:, 9:22, 9:22] = image[:, 9:22, 9:22]
    assert np.abs(read_stages(model, stages[1:2], changed)[0][0, :, 7, 7] - before).max() < 1e-4
    changed[:, 9, 9] = 255 - changed[:, 9, 9]
    assert np.abs(read_stages(model, stages[1:2], changed)[0][0, :, 7, 7] - before).max() > 1e-4


def test_the_share_of_one_class_is_that_of_the_strongest_images():
    labels = np.arange(200) % 2
    values = np.stack((labels + 0.0, np.arange(200) / 1e3), 1).astype(np.float32)
    assert purity(values, labels) == (pytest.approx(0.75), 0.5)


def test_pictures_and_figures_are_written(write_class_folders, colours, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    splits = {
        name: (random.integers(0, 255, (count, 32, 32, 3), dtype=np.uint8), np.arange(count) % 2)
        for name, count in (("train", 20), ("validation", 4), ("test", 12))
    }
    source, folder = write_class_folders(tmp_path / "data", **splits), tmp_path / "study"
    monkeypatch.chdir(ROOT)
    main(["--data", source, "--folder", str(folder), "--example", "3"])
    record = json.loads((folder / "features.json").read_text())
    assert [row["channels"] for row in record["stages"]] == [24, 64, 256, 320]
    assert record["images"] == 12
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "features.json", "filters.png", "maps.png", "strongest.jpg",
    }  # fmt: skip
    with pytest.raises(DataError, match="there are 12 test images"):
        main(["--data", source, "--folder", str(folder), "--example", "12"])
