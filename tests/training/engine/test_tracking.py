import pytest
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.engine import tracking
from training.engine.tracking import begin_tracking, tracker


def test_a_tracker_that_is_not_installed_is_refused_with_the_line_that_installs_it(monkeypatch):
    assert tracker(None) is None
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        tracker("tensorboard")


def test_figures_of_every_epoch_are_in_the_runs_folder(forget_accelerator, tmp_path):
    forget_accelerator()
    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir="runs")
    begin_tracking(accelerator, "tensorboard", tmp_path, "classifier", {"lr": 0.1, "arch": "cnn", "widths": (8,)})
    for epoch, loss in enumerate((0.5, 0.25), start=1):
        accelerator.log({"train_loss": loss}, step=epoch)
    accelerator.end_training()
    written = EventAccumulator(str(tmp_path / "tracking" / "classifier"))
    written.Reload()
    assert [(event.step, event.value) for event in written.Scalars("train_loss")] == [(1, 0.5), (2, 0.25)]
