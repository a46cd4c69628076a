import os
import socket
import subprocess
import sys

import pytest
import torch

from tests.training.shared_training import train_dense, train_with_norms


def in_two_processes(*command):
    """Runs a command in two processes as a launcher does, which all have to end well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each of the processes found."""
    folder = tmp_path_factory.mktemp("shared")
    in_two_processes("-m", "tests.training.shared_training", folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], msg=name, **tolerance)


@pytest.mark.parametrize(("batches", "size"), [("even", 8), ("odd", 7), ("whole", 100)])
def test_two_processes_take_the_steps_of_one(results, accelerator, tmp_path, batches, size):
    expected, loss = train_dense(accelerator, tmp_path, size)
    for result in results:
        found, shared_loss = result[batches]
        assert_same(found, expected, rtol=0, atol=1e-6)
        assert shared_loss == pytest.approx(loss, abs=1e-6)


def test_batch_normalisation_has_the_statistics_of_the_whole_batch(results, accelerator, tmp_path):
    expected, losses = train_with_norms(accelerator, tmp_path)
    for result in results:
        found, shared = result["norms"]
        assert_same(found, expected, rtol=0, atol=1e-4)
        assert shared == pytest.approx(losses, abs=1e-4)


def test_no_item_of_the_validation_is_counted_twice(results):
    for result in results:
        assert result["parts"] == [0, 10, 20, 30, 40, 50, 60]


def test_a_checkpoint_is_resumed_in_all_processes(results):
    for result in results:
        whole, parts = result["resumed"]
        assert_same(whole, parts, rtol=0, atol=0)


def test_all_stop_in_the_same_epoch_with_the_weights_of_the_main_process(results):
    (epoch, best, weights), (other_epoch, other_best, others) = (result["patience"] for result in results)
    # The main process's accuracy is the same in all epochs, and the latest of equals is the best.
    assert (epoch, best) == (other_epoch, other_best) == (3, 3)
    assert_same(weights, others, rtol=0, atol=0)


def test_trainings_may_follow_each_other(results):
    assert results[0]["folds"] == results[1]["folds"]


def test_all_have_the_vocabulary_of_the_main_process(results):
    assert results[0]["vocabulary"] == results[1]["vocabulary"]
    assert "wheat" in results[1]["vocabulary"]


def test_a_batch_that_leaves_a_process_without_items_is_refused(results):
    for result in results:
        assert result["small"] == "a batch of 1 is too small for 2 processes"


def test_one_process_prints(results):
    assert [result["prints"] for result in results] == [True, False]
