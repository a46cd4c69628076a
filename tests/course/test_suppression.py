import json

import numpy as np
import pytest

from course.suppression import main
from tests.pictures import encode
from training.data.dataset import DataError


@pytest.fixture
def boxes(tmp_path):
    """Writes pictures with a box each in YOLO's format, with classes of these names."""

    def write(*names):
        random = np.random.default_rng(0)
        for split in ("train", "val", "test"):
            for kind in ("images", "labels"):
                (tmp_path / split / kind).mkdir(parents=True)
            for index in range(3):
                pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
                (tmp_path / split / "images" / f"{split}{index}.png").write_bytes(encode(pixels))
                (tmp_path / split / "labels" / f"{split}{index}.txt").write_text(f"{index} 0.5 0.5 0.25 0.25\n")
        folders = "".join(f"{split}: {split}/images\n" for split in ("train", "val", "test"))
        (tmp_path / "data.yaml").write_text(f"names: [{', '.join(names)}]\n{folders}")
        return str(tmp_path)

    return write


def test_each_way_is_measured_on_validation_and_on_test(boxes, tmp_path):
    main(["--data", boxes("Platelets", "RBC", "WBC"), "--folder", str(tmp_path / "study")])
    rows = json.loads((tmp_path / "study" / "study.json").read_text())["rows"]
    assert list(rows) == [
        "all boxes",
        "non-maximum suppression at 0.6",
        "soft suppression at 0.5",
        "soft, spread edges, as published",
    ]
    assert all(0 <= row[split]["map"] <= 1 for row in rows.values() for split in ("validation", "test"))
    assert "| all boxes |" in (tmp_path / "study" / "README.md").read_text()


def test_other_classes_are_refused(boxes, tmp_path):
    with pytest.raises(DataError, match="red, green, blue"):
        main(["--data", boxes("red", "green", "blue"), "--folder", str(tmp_path / "study")])
