from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from service.inference.cards import Step
from training.engine.checkpoint import FitState
from training.report.curves import Curve, Published, between, draw_curve, write_curves
from training.report.earlier import earlier_runs
from training.report.record import read_record, update_record

ACCURACY = Curve("accuracy", "accuracy")


def run_of(*accuracies):
    """A training by its accuracies on validation, the first one before the first epoch."""
    first, *rest = accuracies
    return {
        "initial": {"accuracy": first},
        "history": [{"train_accuracy": value + 0.1, "validation_accuracy": value} for value in rest],
    }


@pytest.fixture
def axis():
    return Figure().subplots()


def lines_of(axis):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines}


def test_training_is_in_the_middle_of_an_epoch_and_the_published_epoch_is_marked(axis):
    draw_curve(axis, [run_of(0.1, 0.5, 0.7, 0.6)], ACCURACY, 2)
    lines = lines_of(axis)
    assert lines["training (mean of the epoch)"] == ([0.5, 1.5, 2.5], pytest.approx([0.6, 0.8, 0.7]))
    assert lines["validation (after the epoch)"] == ([0, 1, 2, 3], [0.1, 0.5, 0.7, 0.6])
    assert lines["published: epoch 2"] == ([2], [0.7])


def test_weights_between_two_epochs_are_a_line_and_no_epoch(axis):
    published = Published(between(0.4, 2), {"accuracy": 0.75})
    draw_curve(axis, [run_of(0.1, 0.5, 0.7)], ACCURACY, 2, published)
    lines = lines_of(axis)
    assert lines["published: 40% of the way from epoch 0 to epoch 2"][1] == [0.75, 0.75]
    assert "published: epoch 2" not in lines


def test_a_training_goes_on_where_the_one_before_ended(axis):
    draw_curve(axis, [run_of(0.1, 0.5, 0.7), run_of(0.7, 0.8)], ACCURACY, 1)
    lines = lines_of(axis)
    assert lines["validation (after the epoch)"] == ([2, 3], [0.7, 0.8])
    assert lines["published: epoch 1"] == ([3], [0.8])
    assert [0, 1, 2] in [x for x, _ in lines.values()]


def test_values_are_recorded_with_those_of_earlier_runs(tmp_path):
    run = run_of(0.7, 0.8)
    state = FitState(history=run["history"], initial=run["initial"], best_epoch=1)
    published = Published("half of the way", {"accuracy": 0.81})
    before = run_of(0.1, 0.5, 0.7)
    write_curves(tmp_path, state, ACCURACY, before=(Step(kind="train"),), earlier=[before], published=published)
    assert read_record(tmp_path) == {
        **run,
        "earlier": [before],
        "published": {"described": "half of the way", "figures": {"accuracy": 0.81}},
    }
    with Image.open(tmp_path / "report" / "learning-curves.png") as picture:
        assert picture.width > 400


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([Step(kind="train", epochs=60), Step(kind="train", epochs=18)], "after 78 epochs, which left no curve"),
        ([Step(kind="train", epochs=60), Step(kind="train")], "after earlier trainings, which left no curve"),
        ([Step(kind="evaluate")], ""),
    ],
)
def test_the_axis_says_that_earlier_trainings_left_no_curve(tmp_path, monkeypatch, steps, said):
    labels = []

    def draw(folder, name, width, height, fill, rows):
        axes = [Figure().subplots()]
        fill(axes)
        labels.append(axes[-1].get_xlabel())

    monkeypatch.setattr("training.report.curves.save_plot", draw)
    run = run_of(0.7, 0.8)
    write_curves(tmp_path, SimpleNamespace(**run, best_epoch=1), ACCURACY, before=steps)
    assert labels == [f"epoch (0: {said})" if said else "epoch"]


def checkpoint(folder, run, start):
    folder.mkdir()
    torch.save({"settings": {"start_from": str(start), "epochs": 1}, "state": run}, folder / "checkpoint.pt")
    return folder


def test_earlier_runs_are_found_by_what_each_started_from(tmp_path):
    first, second = run_of(0.1, 0.5), run_of(0.5, 0.6)
    start = checkpoint(tmp_path / "first", first, None)
    start = checkpoint(tmp_path / "second", second, start)
    assert earlier_runs(start) == [first, second]
    assert earlier_runs(None) == []
    assert earlier_runs(checkpoint(tmp_path / "third", second, tmp_path / "deleted")) == [second]


def test_a_version_knows_the_runs_before_it_only_with_its_own(tmp_path):
    (tmp_path / "manifest.json").touch()
    first, second = run_of(0.1, 0.5), run_of(0.5, 0.6)
    assert earlier_runs(tmp_path) == []
    update_record(tmp_path, earlier=[first], **second)
    assert earlier_runs(tmp_path) == [first, second]
