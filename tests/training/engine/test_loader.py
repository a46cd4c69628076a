from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from training.engine.loader import batches, worker_count


class Numbers:
    """Items are their own indices; a batch has a random number, too."""

    decodes = True

    def batch(self, items, epoch, rng):
        return {"items": items * 10 + epoch, "drawn": torch.rand((), generator=rng)}


@pytest.fixture
def read(accelerator: Accelerator):
    items = list(torch.arange(12).split(3))

    def read_with(workers, first=0, seed=0):
        found = batches(Numbers(), items, seed=seed, epoch=2, first=first, workers=workers, accelerator=accelerator)
        return [(chosen.tolist(), batch["items"].tolist(), batch["drawn"].item()) for chosen, batch in found]

    return read_with


def test_worker_processes_read_the_same_batches_in_order(read):
    alone = read(0)
    assert [batch for _, batch, _ in alone] == [[2, 12, 22], [32, 42, 52], [62, 72, 82], [92, 102, 112]]
    assert len({drawn for *_, drawn in alone}) == 4
    assert read(2) == alone
    assert read(0, seed=1) != alone


def test_an_epoch_is_resumed_at_any_step(read):
    assert read(0, first=2) == read(0)[2:]
    assert read(1, first=3) == read(0)[3:]


def test_workers_read_where_that_pays():
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 1)
    assert worker_count(3, Numbers(), cpu) == 3
    assert worker_count(None, Numbers(), cpu) == 0
    assert 1 <= worker_count(None, Numbers(), gpu) <= 8
    assert worker_count(None, SimpleNamespace(decodes=False), gpu) == 0
