"""One training step without the engine."""

import torch
from torch import Tensor, nn

from training.engine.learner import Learner, Step


def loss_of(learner: Learner, network: nn.Module, items: Tensor, epoch: int = 0, seed: int = 1):
    """The loss and the figures of a step on the CPU."""
    device = torch.device("cpu")
    rng, reading = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    step = Step(items, epoch, device, rng, torch.Generator().manual_seed(seed))
    return learner.loss(network, learner.batch(items, epoch, reading), step)
