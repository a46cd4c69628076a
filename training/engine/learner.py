"""What a network learns, as the training loop sees it."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

# Tensors of the items of a step, by name; lists where the items differ in shape.
Batch = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A training step.

    Attributes:
        items: int64, shape (batch,), on the CPU: the indices of the items that this process has in the step.
        epoch: counted from 0.
        rng: a generator on the device, different in every process (see `training.engine.streams`).
        shared_rng: a generator on the CPU, the same in every process.
    """

    items: Tensor
    epoch: int
    device: torch.device
    rng: torch.Generator
    shared_rng: torch.Generator


class Learner(Protocol):
    """What a network learns: the training items, their loss, and how validation measures it.

    Attributes:
        unit: what the items are, in the plural (`images`).
        score: the validation figure that chooses the epoch; higher is better.
        decodes: whether `batch` reads or decodes files, so that worker processes pay.
    """

    unit: str
    score: str
    decodes: bool = False

    def __len__(self) -> int:
        """The number of training items."""

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Called before every epoch, counted from 0; by default nothing changes between epochs."""
        return

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        """The indices of the training items in the order of an epoch, int64, shape (items,); by default shuffled."""
        return torch.randperm(len(self), generator=generator)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        """Reads the items of a step, perhaps in a worker process ahead of it.

        Args:
            items: int64, shape (batch,): indices of training items.
            epoch: counted from 0.
            rng: on the CPU, seeded for this step and process. What draws from it must not draw from `Step.rng`.

        Returns:
            Tensors on the CPU, which the engine moves to the device.
        """
        return {}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of what `batch` returned, on the device, and figures to log; both are means over its items."""

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """Figures on the validation split, `score` among them; `processes.in_parts` divides it between processes."""
