"""The random numbers of a training: each purpose draws from a stream of its own, seeded anew in every step.

A step's numbers follow from the seed of the training, the epoch and the step alone. So a run that is resumed anywhere
draws what it would have drawn, and a network that draws more (another dropout layer) changes neither the order of the
items nor their augmentation.
"""

from enum import IntEnum

import numpy as np
import torch

from training.engine.task import Draw


class _Stream(IntEnum):
    ORDER = 0
    DROPOUT = 1
    OWN = 2
    SHARED = 3


def order_generator(seed: int, epoch: int) -> torch.Generator:
    """What an epoch's order is drawn from; the same in every process."""
    return torch.Generator().manual_seed(_seed(seed, epoch, 0, _Stream.ORDER))


def begin_step(seed: int, epoch: int, step: int, process: int, device: torch.device) -> Draw:
    """Seeds PyTorch's own generator, which dropout draws from, and returns the generators of augmentation.

    Args:
        seed: of the training.
        epoch: counted from 0.
        step: within the epoch, counted from 0.
        process: the index of this process.
        device: that the network is on.
    """
    torch.manual_seed(_seed(seed, epoch, step, _Stream.DROPOUT, process))
    return Draw(
        torch.Generator(device).manual_seed(_seed(seed, epoch, step, _Stream.OWN, process)),
        torch.Generator().manual_seed(_seed(seed, epoch, step, _Stream.SHARED)),
    )


def _seed(*key: int) -> int:
    """A seed that has nothing to do with those of other keys, however near these are."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])
