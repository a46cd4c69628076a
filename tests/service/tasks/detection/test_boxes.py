"""Boxes in an image's own pixels."""

import numpy as np

from service.tasks.detection.boxes import detections
from service.tasks.detection.letterbox import Letterbox
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.detection.thresholds import class_filter
from tests.tiny_detector import LABELS, manifest

CARD = DetectorManifest.model_validate({**manifest(), "files": {}})
GEOMETRY = Letterbox.of(96, 128, 48, 64)  # twice the frame
ANSWER = (
    np.array([[1, 2, 11, 12], [20, 20, 30, 40], [5, 5, 9, 9], [0, 0, 0, 0]], dtype=np.float32),
    np.array([0.9, 0.6, 0.2, 0.0], dtype=np.float32),
    np.array([2, 0, 2, 0]),
)


def test_detections_are_in_the_images_own_pixels_the_best_first():
    first, second = detections(ANSWER, GEOMETRY, LABELS, confidence=0.5, most=10)
    assert first == {
        "label": "blue", "index": 2, "score": 0.9, "x_min": 2.0, "y_min": 4.0, "x_max": 22.0, "y_max": 24.0,
    }  # fmt: skip
    assert (second["label"], second["score"]) == ("red", 0.6)


def test_padding_is_dropped_and_filters_apply():
    assert len(detections(ANSWER, GEOMETRY, LABELS, confidence=0.0, most=10)) == 3
    assert len(detections(ANSWER, GEOMETRY, LABELS, confidence=0.0, most=2)) == 2
    blue = detections(ANSWER, GEOMETRY, LABELS, confidence=0.0, classes=class_filter(CARD, "blue"), most=10)
    assert [box["score"] for box in blue] == [0.9, 0.2]
