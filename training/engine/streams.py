"""The random numbers of a training: each purpose draws from a stream of its own, seeded anew in every step.

The numbers of a step follow from the seed of the training, the epoch and the step alone. A run that is resumed anywhere
therefore draws what it would have drawn, and a network that draws more (another dropout layer) changes neither the
order of the items nor their augmentation.
"""

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """A purpose of random numbers."""

    ORDER = 0
    DROPOUT = 1
    LOCAL = 2
    SHARED = 3


def generator(
    stream: Stream, seed: int, epoch: int, step: int = 0, *process: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator for one purpose in one step.

    Args:
        stream: the purpose.
        seed: of the training.
        epoch: counted from 0.
        step: within the epoch, counted from 0.
        process: the index of the process; nothing where all processes draw the same numbers.
        device: that the generator is on.
    """
    return torch.Generator(device).manual_seed(seed_of(stream, seed, epoch, step, *process))


def seed_of(stream: Stream, seed: int, epoch: int, step: int, *process: int) -> int:
    """A seed that is unrelated to those of other streams, epochs, steps and processes."""
    return int(np.random.SeedSequence((seed, epoch, step, stream, *process)).generate_state(1, np.uint32)[0])
