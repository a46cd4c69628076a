import json

import numpy as np
import pytest

from course.ap import envelope, walk, write_report
from service.tasks.detection.letterbox import Letterbox
from tests.server import ROOT
from training.detection.data import DetectionSplit
from training.detection.evaluation import Detections, average_precision

TRUTHS = np.array([(0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10)], np.float32)
# A hit, its double, a hit, a box beside everything, a poor box, a hit.
BOXES = np.array(
    [(0, 0, 10, 10), (0, 0, 10, 9), (20, 0, 30, 9), (80, 0, 90, 10), (64, 0, 74, 10), (40, 0, 50, 6)], np.float32
)
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32)


def test_boxes_are_hits_from_the_best_score_down():
    found = walk(SCORES[::-1], BOXES[::-1], TRUTHS)
    rows = found["boxes"]
    assert [row["hit"] for row in rows] == [True, False, True, False, False, True]
    assert [row["truth"] for row in rows] == [0, None, 1, None, None, 2]
    assert [row["iou"] for row in rows] == pytest.approx([1, 0, 0.9, 0, 0.429, 0.6], abs=1e-3)
    assert [row["precision"] for row in rows] == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 3 / 6], abs=1e-4)
    assert [row["recall"] for row in rows] == [0.25, 0.25, 0.5, 0.5, 0.5, 0.75]
    assert [row["envelope"] for row in rows] == pytest.approx([1, 2 / 3, 2 / 3, 1 / 2, 1 / 2, 1 / 2], abs=1e-4)
    assert found["ap"] == pytest.approx((1 + 2 / 3 + 1 / 2 + 0) / 4, abs=1e-4)


def test_the_mean_over_hundredths_is_that_of_the_recipe():
    split = DetectionSplit(
        np.zeros((1, 100, 100, 3), np.uint8),
        (TRUTHS,),
        (np.zeros(len(TRUTHS), np.int64),),
        (Letterbox.of(100, 100, 100, 100),),
        ("one",),
    )
    found = Detections(BOXES, SCORES, np.zeros(len(BOXES), np.int64))
    assert walk(SCORES, BOXES, TRUTHS)["ap_101"] == pytest.approx(
        average_precision([found], split, ("cell",)).map_50, abs=1e-4
    )


def test_an_envelope_never_rises():
    assert envelope(np.array([0.5, 0.2, 0.9, 0.1])).tolist() == [0.9, 0.9, 0.9, 0.1]


def test_without_boxes_nothing_is_found():
    found = walk(np.empty(0, np.float32), np.empty((0, 4), np.float32), TRUTHS)
    assert (found["boxes"], found["ap"], found["ap_101"]) == ([], 0.0, 0.0)


def test_the_report_counts_with_fractions(tmp_path):
    record = {
        "file": "a.jpg", "model": "detector/1", "label": "RBC", "truths": TRUTHS.tolist(), **walk(SCORES, BOXES, TRUTHS)
    }  # fmt: skip
    write_report(tmp_path, record, np.zeros((40, 100, 3), np.uint8))
    report = (tmp_path / "README.md").read_text()
    assert "There are 4 true boxes: 3 are found and 1 missed." in report
    assert "| 6 | 0.40 | 0.60 | yes | 3 of 6 | 3/6 = 0.500 | 3/4 = 0.750 | 0.500 |" in report
    assert "AP = (1.000 + 0.667 + 0.500 + 0) / 4 = 0.542" in report
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md", "ap.json", "boxes.jpg", "curve.png", "image.jpg",
    }  # fmt: skip


def test_the_committed_walk_follows_from_its_boxes():
    record = json.loads((ROOT / "docs" / "course" / "ap" / "ap.json").read_text())
    rows, truths = record["boxes"], np.array(record["truths"], np.float32)
    again = walk(np.array([row["score"] for row in rows]), np.array([row["box"] for row in rows], np.float32), truths)
    assert [row["hit"] for row in again["boxes"]] == [row["hit"] for row in rows]
    assert again["ap"] == record["ap"]
