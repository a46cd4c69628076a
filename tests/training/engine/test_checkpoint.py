import os

import pytest
import torch

from training.engine.checkpoint import recorded_settings, unfinished


@pytest.fixture
def stopped(tmp_path):
    def write(epoch, epochs=5, **state):
        settings = {"epochs": epochs, "patience": 2, "precision": "bfloat16"}
        content = {"settings": settings, "state": {"epoch": epoch, "improved_epoch": epoch, **state}}
        torch.save(content, tmp_path / "checkpoint.pt")
        return tmp_path

    return write


def test_a_folder_without_a_checkpoint_may_be_used(tmp_path):
    assert unfinished(tmp_path, None) == ""
    assert recorded_settings(tmp_path) == {}


def test_a_checkpoint_that_cannot_be_read_may_be_replaced(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"half of it")
    assert unfinished(tmp_path, None) == ""


def test_a_training_that_was_stopped_is_not_done(stopped):
    assert unfinished(stopped(3), 1e12) == "was stopped in epoch 4 of 5"
    assert recorded_settings(stopped(3))["precision"] == "bfloat16"


@pytest.mark.parametrize("state", [{"epoch": 5}, {"epoch": 4, "improved_epoch": 2}])
def test_a_complete_training_is_done_when_it_was_exported(stopped, state):
    folder = stopped(**state)
    assert unfinished(folder, None) == f"is complete after {state['epoch']} epochs, but was not exported"
    written = os.stat(folder / "checkpoint.pt").st_mtime
    assert unfinished(folder, written - 1)  # the export of an earlier training
    assert unfinished(folder, written + 1) == ""
