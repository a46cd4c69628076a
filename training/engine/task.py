"""What a network learns, as the training loop sees it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Draw:
    """The random generators of a training step's augmentation (see `training.engine.streams`).

    Attributes:
        own: on the device; different in every process.
        shared: on the CPU; the same in every process.
    """

    own: torch.Generator
    shared: torch.Generator


class Task(Protocol):
    """What a network learns: the training items, their loss, and how validation measures it.

    Attributes:
        unit: what the items are, in the plural (`images`).
        score: the validation figure that chooses the epoch; higher is better.
    """

    unit: str
    score: str

    def __len__(self) -> int:
        """The number of training items."""

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:  # noqa: ARG002 - for those that need it
        """Called before every epoch, counted from 0; by default nothing changes between epochs."""
        return

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:  # noqa: ARG002 - others need the size
        """The indices of the training items in the order of an epoch, int64, shape (items,); by default shuffled."""
        return torch.randperm(len(self), generator=generator)

    def loss(
        self, network: nn.Module, items: Tensor, epoch: int, draw: Draw, device: torch.device
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and figures to log with it.

        Args:
            network: in training mode.
            items: int64, shape (batch,): the indices of the batch's items in the training split.
            epoch: counted from 0.
            draw: the batch's random generators.
            device: of the network.
        """

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """Figures on the validation split, `score` among them."""
