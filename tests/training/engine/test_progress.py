import io
import re

import pytest
from rich.console import Console

from training.engine.progress import describe_epoch, describe_status, duration, progress_bar


def test_time_spans_are_short():
    assert [duration(seconds) for seconds in (0.4, 59, 61, 3599, 7_260)] == [
        "0 s", "59 s", "1:01 min", "59:59 min", "2:01 h",
    ]  # fmt: skip


def test_the_progress_line_says_loss_metric_pace_and_what_is_left():
    figures = {"loss": 0.123456, "map": 0.5, "images/s": 12345.6, "left": 75}
    assert describe_status(figures) == "loss 0.1235  mAP 0.5  12,346 images/s  1:15 min left"


def test_an_epochs_line_fits_a_terminal_whatever_there_is_to_say():
    record = {"train_loss": 1 / 3, "train_box": 0.1, "lr": 0.1, "images_per_second": 123456.7} | {
        f"validation_{name}": 0.123456 for name in ("loss", "map_50", "map", "precision", "recall", "another")
    }
    line = describe_epoch(7, 100, record, "map", "images")
    assert line.startswith("epoch   7/100  loss 0.3333  validation mAP 0.1235 loss 0.1235")
    assert line.endswith("  123,457 images/s")
    assert len(line) <= 80


def test_all_epochs_show_the_same_figures():
    shown = set()
    for value in (0.5, 0.123456, 1, 0.3):
        figures = {f"validation_{name}": value for name in ("map", "loss", "map_50", "map_75")}
        line = describe_epoch(
            7, 100, {"train_loss": value, "images_per_second": value * 100} | figures, "map", "images"
        )
        shown.add(tuple(name for name in ("mAP", "loss", "mAP50", "map_75") if f" {name} " in line))
    assert len(shown) == 1


def test_a_score_that_is_a_loss_turned_round_is_not_shown():
    record = {"train_loss": 1, "rows_per_second": 9, "validation_loss": 0.5, "validation_score": 0.6}
    assert describe_epoch(1, 2, record, "score", "rows") == "epoch 1/2  loss 1  validation loss 0.5  9 rows/s"
    line = describe_epoch(1, 2, record | {"validation_accuracy": 0.75}, "score", "rows")
    assert "validation accuracy 0.75 loss 0.5  9 rows/s" in line


@pytest.mark.parametrize(("width", "shown"), [(80, "loss 0.1235  accuracy 0.9877"), (120, "images/s  100:00 h left")])
def test_the_bar_fits_the_terminal(accelerator, width, shown):
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    figures = {"loss": 0.123456, "accuracy": 0.987654, "images/s": 1234567.8, "left": 360_000}
    with progress_bar(console, "epoch 100/100", 10, 5, accelerator) as bar:
        bar.advance(lambda: figures)
    text = plain(console)
    assert shown in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_a_question_has_a_line_of_its_own(accelerator):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bar(console, "epoch 1/1", 10, 0, accelerator) as bar:
        bar.advance(lambda: {"loss": 1})
        with bar.hidden():
            before = console.file.tell()
            console.print("Go on?")
            assert console.file.getvalue()[before:] == "Go on?\n"


def plain(console):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
