"""Augmentation of images and their boxes, on the device: mirror, scale and crop, mosaics of four images, colour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from service.tasks.detection.letterbox import FILL
from training.data.lazy import Images

# A box is dropped if a crop leaves less than this fraction of it.
_VISIBLE = 0.3
_SMALLEST = 3.0


@dataclass(frozen=True, slots=True)
class BoxAugment:
    """What is done to training images.

    Attributes:
        mirror: left to right, with probability 0.5.
        flip: upside down, with probability 0.5; for images without an up.
        scale: the range that images are scaled by, relative to their size in the frame.
        mosaic: the fraction of images that are composed of four (Bochkovskiy et al. 2020, arXiv:2004.10934).
        colour: the largest relative change of brightness, contrast, saturation and each channel.
    """

    mirror: bool = True
    flip: bool = False
    scale: tuple[float, float] = (0.7, 1.4)
    mosaic: float = 0.5
    colour: float = 0.2

    @classmethod
    def stated(cls, settings: Mapping[str, Any]) -> Self:
        """As the settings in a manifest state it."""
        augment = dict(settings["augment"])
        return cls(**augment | {"scale": tuple(augment["scale"])})

    def __call__(
        self,
        images: Images,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        items: Tensor,
        generator: torch.Generator,
        mosaics: bool,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Makes a batch.

        Args:
            images: the whole split, uint8, shape (n, height, width, 3).
            boxes: of each image, x_min, y_min, x_max, y_max in its pixels, float32, shape (k, 4).
            labels: of each image, int64, shape (k,).
            items: int64, shape (batch,): which images.
            generator: on the device that the batch is made on.
            mosaics: whether this batch may contain any.

        Returns:
            Pixels, float32 in 0 to 1, shape (batch, 3, height, width); and the boxes and labels of each image.
        """
        pixels, kept, names = [], [], []
        for item in items.tolist():
            canvas, corners, classes = self._compose(images, boxes, labels, item, generator, mosaics)
            pixels.append(canvas)
            kept.append(corners)
            names.append(classes)
        return self._recolour(torch.stack(pixels), generator), kept, names

    def _compose(
        self,
        images: Images,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        item: int,
        generator: torch.Generator,
        mosaics: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One image: a view of an item, or of four items side by side."""
        height, width = images.shape[1:3]
        device = generator.device
        coin, x, y = torch.rand(3, generator=generator, device=device).tolist()
        sources, regions = [item], [(0, 0, height, width)]
        if mosaics and coin < self.mosaic:
            others = torch.randint(len(images), (3,), generator=generator, device=device).tolist()
            row, column = round((0.3 + 0.4 * y) * height), round((0.3 + 0.4 * x) * width)
            sources = [item, *others]
            regions = [
                (0, 0, row, column),
                (0, column, row, width),
                (row, 0, height, column),
                (row, column, height, width),
            ]
        canvas = torch.empty((3, height, width), device=device)
        corners, classes = [], []
        for source, (top, left, bottom, right) in zip(sources, regions, strict=True):
            view = View.draw(self, (height, width), (bottom - top, right - left), generator)
            canvas[:, top:bottom, left:right] = view.pixels(torch.from_numpy(images[source]).to(device))
            moved, visible = view.boxes(boxes[source].to(device))
            corners.append(moved[visible] + torch.tensor([left, top, left, top], device=device))
            classes.append(labels[source].to(device)[visible])
        return canvas, torch.cat(corners), torch.cat(classes)

    def _recolour(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        if not self.colour:
            return pixels
        draws = torch.rand((len(pixels), 6, 1, 1), generator=generator, device=pixels.device) * 2 - 1
        brightness, contrast, saturation, *gains = (1 + self.colour * draws).split(1, dim=1)
        # Single channels change less: a little looks like another lamp, a lot like another stain.
        pixels = pixels * (1 + (torch.cat(gains, 1) - 1) / 2) * brightness
        mean = pixels.mean((1, 2, 3), keepdim=True)
        pixels = mean + (pixels - mean) * contrast
        grey = pixels.mean(1, keepdim=True)
        return (grey + (pixels - grey) * saturation).clamp_(0, 1)


@dataclass(frozen=True, slots=True)
class View:
    """A window of an image, resampled to a region of another size.

    Attributes:
        size: height and width of the image.
        region: height and width of the region.
        scale: pixels of the region per pixel of the image.
        top: of the window, in pixels of the image; negative if it begins outside. Likewise `left`.
        mirror: whether it is mirrored left to right; `flip`: upside down.
    """

    size: tuple[int, int]
    region: tuple[int, int]
    scale: float
    top: float
    left: float
    mirror: bool
    flip: bool

    @classmethod
    def draw(
        cls, augment: BoxAugment, size: tuple[int, int], region: tuple[int, int], generator: torch.Generator
    ) -> "View":
        """A random view: as much of the image as the scale leaves room for, at a random position."""
        a, b, c, d, e = torch.rand(5, generator=generator, device=generator.device).tolist()
        low, high = augment.scale
        scale = low * (high / low) ** a
        # The window may begin anywhere that leaves out neither image nor region needlessly.
        slack = (size[0] - region[0] / scale, size[1] - region[1] / scale)
        top, left = slack[0] * b, slack[1] * c
        return cls(size, region, scale, top, left, augment.mirror and d < 0.5, augment.flip and e < 0.5)

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 (height, width, 3) to float32 in 0 to 1, (3, *region); grey beyond the image's edges."""
        (height, width), (rows, columns) = self.size, self.region
        device = image.device
        y = (torch.arange(rows, device=device) + 0.5) / self.scale + self.top
        x = (torch.arange(columns, device=device) + 0.5) / self.scale + self.left
        y, x = (y.flip(0) if self.flip else y), (x.flip(0) if self.mirror else x)
        grid_y, grid_x = torch.meshgrid(2 * y / height - 1, 2 * x / width - 1, indexing="ij")
        source = image.permute(2, 0, 1)[None].float() - FILL
        sampled = F.grid_sample(
            source, torch.stack((grid_x, grid_y), -1)[None], padding_mode="zeros", align_corners=False
        )
        return (sampled[0] + FILL) / 255

    def boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes of the image in the region's pixels, clipped to it; and which of them are still visible enough."""
        rows, columns = self.region
        shift = torch.tensor([self.left, self.top, self.left, self.top], device=boxes.device)
        moved = (boxes - shift) * self.scale
        if self.mirror:
            moved = torch.stack((columns - moved[:, 2], moved[:, 1], columns - moved[:, 0], moved[:, 3]), 1)
        if self.flip:
            moved = torch.stack((moved[:, 0], rows - moved[:, 3], moved[:, 2], rows - moved[:, 1]), 1)
        whole = (moved[:, 2:] - moved[:, :2]).prod(1)
        limits = torch.tensor([columns, rows, columns, rows], device=boxes.device)
        cut = torch.minimum(moved.clamp_min(0), limits)
        sides = (cut[:, 2:] - cut[:, :2]).clamp_min(0)
        visible = (sides.prod(1) >= _VISIBLE * whole) & (sides.amin(1) >= _SMALLEST)
        return cut, visible
