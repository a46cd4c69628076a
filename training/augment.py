"""Augmentation as batched tensor code: a whole batch at once, on the device that trains."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to a training batch.

    Attributes:
        flip: mirror left to right: each image in every other epoch, starting with a random one, which shows
            more different views than a coin toss a time (Jordan 2024, arXiv:2404.00498, section 3.6).
        translate: shift by up to so many pixels each way, the border mirrored.
        cutout: blank a square of this side at a random place (DeVries and Taylor 2017, arXiv:1708.04552).
    """

    flip: bool = True
    translate: int = 4
    cutout: int = 8

    def __call__(self, images: Tensor, indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """Augments one batch.

        Args:
            images: uint8, shape (batch, height, width, channels).
            indices: int64, shape (batch,): each image's place in the data set, which decides when it is mirrored.
            epoch: counted from 0.
            generator: on the device of `images`.

        Returns:
            float32 in 0 to 1, shape (batch, channels, height, width), in channels-last memory order.
        """
        batch, height, width, _ = images.shape
        device = images.device

        def randint(low: int, high: int) -> Tensor:
            return torch.randint(low, high, (batch, 1), generator=generator, device=device)

        rows = torch.arange(height, device=device) + randint(-self.translate, self.translate + 1)
        columns = torch.arange(width, device=device) + randint(-self.translate, self.translate + 1)
        rows, columns = _mirror(rows, height), _mirror(columns, width)
        if self.flip:
            # A fixed, evenly mixed bit per image (Knuth's multiplicative hash), turned over every epoch.
            mirrored = ((indices * 2654435761 >> 16) + epoch) % 2 == 1
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        shifted = images[torch.arange(batch, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
        pixels = shifted.permute(0, 3, 1, 2).float().div_(255)
        if self.cutout:
            top, left = randint(1 - self.cutout, height), randint(1 - self.cutout, width)
            y = torch.arange(height, device=device) - top
            x = torch.arange(width, device=device) - left
            inside_y, inside_x = (y >= 0) & (y < self.cutout), (x >= 0) & (x < self.cutout)
            pixels.masked_fill_((inside_y[:, None, :, None] & inside_x[:, None, None, :]), 0.5)
        return pixels


def _mirror(index: Tensor, size: int) -> Tensor:
    """Indices beyond an edge, mirrored at it without repeating the edge itself."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index).clamp_(0, size - 1)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 (batch, height, width, channels) to float32 in 0 to 1, (batch, channels, height, width)."""
    return images.permute(0, 3, 1, 2).float().div(255)
