from argparse import ArgumentParser

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.quick import SETTINGS
from training.engine import tracking
from training.engine.tracking import begin_tracking, tracker
from training.old_run import begin
from training.options import add_labelled_image_options, add_result_options, add_training_options
from training.report.samples import draw_images


def test_a_tracker_that_is_not_installed_is_refused_with_the_line_that_installs_it(monkeypatch):
    assert tracker(None) is None
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        tracker("tensorboard")


def test_figures_of_every_epoch_are_in_the_runs_folder(colours, console, tmp_path):
    parser = ArgumentParser()
    add_labelled_image_options(parser, "somebody/colours")
    add_training_options(parser, "", {"any": SETTINGS})
    add_result_options(parser, "")
    arguments = parser.parse_args(["--device", "cpu", "--track", "tensorboard", "--run-dir", str(tmp_path / "run")])
    run = begin(arguments, console, lambda: colours, run="classification", model="classifier", draw=draw_images)
    begin_tracking(run.accelerator, arguments.track, run.folder, run.name, {"lr": 0.1, "arch": "cnn", "widths": (8,)})
    for epoch, loss in enumerate((0.5, 0.25), start=1):
        run.epoch(epoch, {"train_loss": loss})
    run.accelerator.end_training()
    written = EventAccumulator(str(tmp_path / "run" / "tracking" / "classifier"))
    written.Reload()
    assert [(event.step, event.value) for event in written.Scalars("train_loss")] == [(1, 0.5), (2, 0.25)]
