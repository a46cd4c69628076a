import dataclasses

import torch
from accelerate import Accelerator

from training.detection.learner import DetectionLearner, DetectionSettings, detect, padded
from training.detection.options import AugmentOptions
from training.engine.fit import fit
from training.engine.settings import FitSettings

SETTINGS = FitSettings(
    epochs=14, batch_size=8, optimizer="adamw", lr=6e-3, weight_decay=0.01, warmup=0.1, clip=10, ema=0.9
)
LEARNING = DetectionSettings(augment=AugmentOptions(mosaic=0.3, scale=(0.9, 1.1)))


def test_boxes_are_padded_to_the_fullest_image():
    truth, names, real = padded(
        [torch.ones(2, 4), torch.zeros(0, 4)], [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.long)]
    )
    assert truth.shape == (2, 2, 4)
    assert names.tolist() == [[1, 2], [0, 0]]
    assert real.tolist() == [[True, True], [False, False]]
    assert padded([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)])[2].tolist() == [[False]]


def test_mosaics_end_before_the_training_does(squares):
    settings = DetectionSettings(mosaic_off_fraction=0.25)
    learner = DetectionLearner(squares.train, squares.validation, squares.classes, settings)
    seen = []
    for epoch in range(8):
        learner.begin(torch.nn.Identity(), epoch, 8)
        seen.append(learner._mosaics)
    assert seen == [True] * 6 + [False] * 2


def test_a_few_seconds_of_training_find_the_squares(squares, tiny_detector, console, tmp_path):
    model = tiny_detector(width=32)
    learner = DetectionLearner(squares.train, squares.validation, squares.classes, LEARNING)
    state = fit(model, learner, SETTINGS, tmp_path, accelerator=Accelerator(cpu=True), console=console)
    assert state.history[-1]["train_box"] < state.history[0]["train_box"]
    assert state.history[-1]["validation_map_50"] > 0.5
    found = detect(model.eval(), squares.test, LEARNING.suppression)
    assert len(found) == 16
    best = [one for one in found if len(one.scores)]
    assert all((one.scores[:-1] >= one.scores[1:]).all() for one in best)


def test_settings_of_a_version_whose_flip_was_upside_down():
    augment = {"mirror": True, "flip": True, "scale": [0.7, 1.4], "mosaic": 0.5, "colour": 0.2}
    settings = DetectionSettings.stated({"augment": augment, "iou": 0.5, "floor": 0.02, "max_detections": 10})
    assert settings.augment == AugmentOptions(flip=True, flip_vertical=True)
    assert (settings.suppression.iou, settings.suppression.floor) == (0.5, 0.02)
    again = dataclasses.asdict(DetectionSettings(augment=AugmentOptions(flip=False), score_threshold=0.1))
    assert DetectionSettings.stated(again).augment == AugmentOptions(flip=False)
    assert DetectionSettings.stated(again).score_threshold == 0.1
