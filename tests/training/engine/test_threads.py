import os

import pytest
import torch

from training.engine import threads
from training.engine.threads import set_threads


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that the test's value goes in the end
    monkeypatch.delenv("OMP_NUM_THREADS")
    yield
    torch.set_num_threads(before)


def test_as_many_threads_as_are_asked_for():
    assert set_threads(3) is None
    assert torch.get_num_threads() == 3
    assert os.environ["OMP_NUM_THREADS"] == "3"
    with pytest.raises(ValueError, match="--threads 0: must be at least 1"):
        set_threads(0)


def test_no_more_threads_than_cpus_that_the_process_may_use(monkeypatch):
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "available_cpus", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert set_threads(None) == "2 threads, since this process may use 2 of 64 CPUs; --threads overrides this"
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert set_threads(None) is None
    assert torch.get_num_threads() == 1


def test_the_environment_is_respected(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    monkeypatch.setattr(threads, "available_cpus", lambda: 1)
    assert set_threads(None) is None
    assert torch.get_num_threads() == 3
