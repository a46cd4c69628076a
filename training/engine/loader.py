"""Reads the batches of a training ahead of its steps, in worker processes where that pays."""

import sys
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from service.inference.device import available_cpus
from training.data.lazy import Images
from training.engine.learner import Batch, Learner
from training.engine.streams import Stream, generator


class _Steps(Dataset[tuple[Tensor, Batch]]):
    def __init__(self, learner: Learner, items: list[Tensor], seed: int, epoch: int, process: int) -> None:
        self._learner, self._items = learner, items
        self._seed, self._epoch, self._process = seed, epoch, process

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, step: int) -> tuple[Tensor, Batch]:
        items = self._items[step]
        rng = generator(Stream.LOCAL, self._seed, self._epoch, step, self._process)
        return items, self._learner.batch(items, self._epoch, rng)


def batches(
    learner: Learner, items: list[Tensor], *, seed: int, epoch: int, first: int, workers: int, accelerator: Accelerator
) -> Iterator[tuple[Tensor, Batch]]:
    """The indices and the batch, on the device, of each step that is left of an epoch.

    A batch follows from the seed, the epoch and the step, whichever process reads it. An epoch can therefore be resumed
    at any step without a state of the loader.

    Args:
        learner: reads the items.
        items: indices of those of this process, for each step of the epoch.
        seed: of the training.
        epoch: counted from 0.
        first: the step to begin with.
        workers: processes that read ahead; 0 to read in this one.
        accelerator: of the training.
    """
    loader = DataLoader(
        _Steps(learner, items, seed, epoch, accelerator.process_index),
        batch_size=None,
        sampler=range(first, len(items)),
        num_workers=workers,
        pin_memory=accelerator.device.type == "cuda",
        # The data in memory is shared with the workers instead of being copied to them.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )
    for chosen, batch in loader:
        yield chosen, send_to_device(batch, accelerator.device, non_blocking=True)


def batch_of(images: Images, items: Tensor) -> Tensor:
    """The images of a batch, uint8, shape (batch, height, width, channels)."""
    return torch.from_numpy(images[items.cpu().numpy()])


def worker_count(wanted: int | None, learner: Learner, device: torch.device) -> int:
    """How many worker processes read: those asked for, or as many as help.

    On a CPU they would compete with the training. Decoding with all threads between the steps is 1.4 times as fast
    (`benchmarks/loading.py`).
    """
    if wanted is not None:
        return wanted
    if device.type == "cpu":
        return 0
    return min(available_cpus(), 8) if learner.decodes else 0
