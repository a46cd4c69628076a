"""Augmentation: of small images a whole batch at once, on the device that trains; of photographs one by one."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to a training batch.

    Attributes:
        flip: mirror left to right: each image in every other epoch, starting at random (Jordan 2024,
            arXiv:2404.00498, section 3.6).
        translate: shift by up to this many pixels, with mirrored borders.
        cutout: blank a square of this side in pixels at a random position (DeVries and Taylor 2017, arXiv:1708.04552).
        cutmix: the fraction of batches whose images get a rectangle of another one; see `cutmix`.
        mixup: the fraction of batches whose images are blended with another one; see `mixup`.
    """

    flip: bool = True
    translate: int = 4
    cutout: int = 8
    cutmix: float = 0.0
    mixup: float = 0.0

    def scaled_to(self, shape: tuple[int, ...]) -> "Augment":
        """The same for images of this shape (height, width, channels): pixels are meant for a shorter side of 32."""
        factor = max(1.0, min(shape[:2]) / 32)
        return replace(self, translate=round(self.translate * factor), cutout=round(self.cutout * factor))

    def mirrored(self, indices: Tensor, epoch: int) -> Tensor:
        """Which images are mirrored in an epoch: bool, shape of `indices`."""
        return _alternating(indices, epoch) if self.flip else torch.zeros_like(indices, dtype=torch.bool)

    def __call__(self, images: Tensor, indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """Augments one batch of uint8 images, (batch, height, width, channels), by their indices in the data set.

        Returns:
            float32 in 0 to 1, shape (batch, channels, height, width), in channels-last memory order.
        """
        (batch, height, width, _), device = images.shape, images.device

        def randint(low: int, high: int) -> Tensor:
            return torch.randint(low, high, (batch, 1), generator=generator, device=device)

        rows = torch.arange(height, device=device) + randint(-self.translate, self.translate + 1)
        columns = torch.arange(width, device=device) + randint(-self.translate, self.translate + 1)
        rows, columns = _mirror(rows, height), _mirror(columns, width)
        columns = torch.where(self.mirrored(indices, epoch)[:, None], columns.flip(1), columns)
        shifted = images[torch.arange(batch, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
        pixels = shifted.permute(0, 3, 1, 2).float().div_(255)
        if self.cutout:
            top, left = randint(1 - self.cutout, height), randint(1 - self.cutout, width)
            y, x = torch.arange(height, device=device) - top, torch.arange(width, device=device) - left
            inside_y, inside_x = (y >= 0) & (y < self.cutout), (x >= 0) & (x < self.cutout)
            pixels.masked_fill_((inside_y[:, None, :, None] & inside_x[:, None, None, :]), 0.5)
        return pixels


@dataclass(frozen=True, slots=True)
class PhotoAugment:
    """What is done to a training batch of photographs, in proportion to their size.

    Attributes:
        flip: as in `Augment`.
        crop: the smallest fraction of the area that a random crop keeps; crops are resized (Szegedy et al. 2015,
            arXiv:1409.4842).
        jitter: brightness, contrast and saturation change by up to this fraction.
        trivial: one random operation of random strength follows (TrivialAugment, Müller and Hutter 2021,
            arXiv:2103.10158).
        cutmix: the fraction of batches whose images get a rectangle of another one; see `cutmix`.
        mixup: the fraction of batches whose images are blended with another one; see `mixup`.
    """

    flip: bool = True
    crop: float = 0.6
    jitter: float = 0.2
    trivial: bool = True
    cutmix: float = 0.0
    mixup: float = 0.0

    def mirrored(self, indices: Tensor, epoch: int) -> Tensor:
        """As `Augment.mirrored`."""
        return _alternating(indices, epoch) if self.flip else torch.zeros_like(indices, dtype=torch.bool)

    def __call__(
        self, images: Tensor, indices: Tensor, epoch: int, size: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        """Crops and changes a batch of uint8 images, (batch, height, width, channels), on the CPU.

        Returns:
            uint8, shape (batch, *size, channels).
        """
        (batch, height, width, channels), turned = images.shape, self.mirrored(indices, epoch)
        # The crop's shape is near that of the image, whatever it is resized to.
        change = _transforms(size, width / height, self.crop, self.jitter, self.trivial)
        changed = torch.empty(batch, channels, *size, dtype=torch.uint8)
        # The transforms draw from the global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            for row, image in enumerate(images.permute(0, 3, 1, 2)):
                changed[row] = change(image.flip(2) if turned[row] else image)
        return changed.permute(0, 2, 3, 1)


@functools.cache
def _transforms(
    size: tuple[int, int], aspect: float, crop: float, jitter: float, trivial: bool
) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2  # takes a second

    steps: list[v2.Transform] = [
        v2.RandomResizedCrop(size, scale=(crop, 1.0), ratio=(aspect * 3 / 4, aspect * 4 / 3), antialias=True)
    ]
    if jitter:
        steps.append(v2.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter))
    if trivial:
        steps.append(v2.TrivialAugmentWide())
    return v2.Compose(steps)


def _alternating(indices: Tensor, epoch: int) -> Tensor:
    # A fixed, evenly mixed bit per image (Knuth's multiplicative hash), flipped in every epoch.
    return ((indices * 2654435761 >> 16) + epoch) % 2 == 1


def mixup(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Blends each image with another image of the batch (Zhang et al. 2018, arXiv:1710.09412).

    Returns:
        The blended pixels; the index of the other image; and the weight of the image itself, at least a half.
    """
    partner = torch.randperm(len(pixels), generator=generator, device=pixels.device)
    kept = 1 - torch.rand((), generator=generator, device=pixels.device).item() / 2
    return pixels.lerp(pixels[partner], 1 - kept), partner, kept


def cutmix(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Replaces a rectangle of each image with that of another image of the batch (Yun et al. 2019, arXiv:1905.04899).

    Returns:
        The changed pixels, shape (batch, channels, height, width); the index of the image that each rectangle is from;
        and the fraction of each image that is left.
    """
    (batch, _, height, width), device = pixels.shape, pixels.device
    partner = torch.randperm(batch, generator=generator, device=device)
    share, y, x = torch.rand(3, generator=generator, device=device).tolist()
    side = (1 - share) ** 0.5
    top, bottom = (round(min(max(y + half * side / 2, 0.0), 1.0) * height) for half in (-1, 1))
    left, right = (round(min(max(x + half * side / 2, 0.0), 1.0) * width) for half in (-1, 1))
    pixels[:, :, top:bottom, left:right] = pixels[partner, :, top:bottom, left:right]
    return pixels, partner, 1 - (bottom - top) * (right - left) / (height * width)


def _mirror(index: Tensor, size: int) -> Tensor:
    """Indices beyond an edge, mirrored at it without repeating the edge itself."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index).clamp_(0, size - 1)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 (batch, height, width, channels) to float32 in 0 to 1, (batch, channels, height, width)."""
    return images.permute(0, 3, 1, 2).float().div(255)
