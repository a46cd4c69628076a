import json

import numpy as np
import pytest

from course.topics import main, parts
from service.inference.session import Session
from tests.server import ROOT
from training.data.dataset import DataError

VERSION = ROOT / "models" / "topics" / "1"


@pytest.fixture
def texts(tmp_path):
    """One text of each of the model's topics in a split, and more of the first."""
    labels = json.loads((VERSION / "manifest.json").read_text())["labels"]
    for split in ("train", "test"):
        lines = [f"the word {label} again,{label}" for label in [*labels * 3, *labels[:1] * 30]]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return str(tmp_path)


def test_the_parts_add_up_to_what_the_graph_answers():
    ids = [np.array([5, 9, 12, 7], np.int64), np.array([300, 2, 41], np.int64)]
    network, linear = parts(VERSION / "model.onnx", ids)
    assert np.exp(network[0]).sum() == pytest.approx(1, abs=0.2)  # a mean of log-probabilities
    session = Session(VERSION / "model.onnx", "cpu")
    for text, logits in zip(ids, network + linear, strict=True):
        probabilities = session.run({"ids": text[None]})[0][0]
        scaled = np.exp(logits / json.loads((VERSION / "manifest.json").read_text())["calibration"]["temperature"])
        assert probabilities == pytest.approx(scaled / scaled.sum(), abs=1e-4)


def test_each_part_gets_a_row_and_each_band_a_column(texts, tmp_path):
    main(["--data", texts, "--folder", str(tmp_path / "study")])
    rows = json.loads((tmp_path / "study" / "study.json").read_text())["rows"]
    assert list(rows) == ["always acq", "network alone", "linear classifier alone", "both, as published"]
    assert rows["always acq"]["right"] == 33
    bands = rows["always acq"]["bands"]
    assert sum(band["classes"] for band in bands) == 52
    assert sum(band["test"] for band in bands) == 52 * 3 + 30
    assert "| always acq | 33 |" in (tmp_path / "study" / "README.md").read_text()


def test_other_classes_are_refused(tmp_path):
    (tmp_path / "texts.csv").write_text("text,label\n" + "some words here,a\nand other words,b\n" * 20)
    with pytest.raises(DataError, match="not those of"):
        main(["--data", str(tmp_path / "texts.csv"), "--folder", str(tmp_path / "study")])
