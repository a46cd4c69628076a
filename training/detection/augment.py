"""Augmentation of images and their boxes, on the CPU: flip, scale and crop, mosaics of four images, colour.

`torchvision.transforms.v2` has no scaled crop that moves boxes and fills what lies beyond the image, and no mosaic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from service.tasks.detection.letterbox import FILL
from training.data.lazy import Images
from training.detection.options import AugmentOptions

# A box is dropped if a crop leaves less than this fraction of it, or a shorter side than this many pixels.
_VISIBLE, _SMALLEST = 0.3, 3.0

Augmented = tuple[Tensor, list[Tensor], list[Tensor]]


def augment(
    settings: AugmentOptions,
    images: Images | Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    items: Tensor,
    generator: torch.Generator,
    *,
    mosaics: bool,
) -> Augmented:
    """Makes a batch.

    Args:
        settings: what is done.
        images: those that the batch and its mosaics are taken from, uint8, shape (n, height, width, 3).
        boxes: of each image, x_min, y_min, x_max, y_max in its pixels, float32, shape (k, 4).
        labels: of each image, int64, shape (k,).
        items: int64, shape (batch,): which images.
        generator: on the CPU.
        mosaics: whether this batch may contain any.

    Returns:
        Pixels, float32 in 0 to 1, shape (batch, 3, height, width); and the boxes and labels of each image.
    """
    height, width = images.shape[1:3]
    batch = []
    for item in items.tolist():
        coin, x, y = torch.rand(3, generator=generator).tolist()
        sources, regions = [item], [(0, 0, height, width)]
        if mosaics and coin < settings.mosaic:
            sources += torch.randint(len(images), (3,), generator=generator).tolist()
            row, column = round((0.3 + 0.4 * y) * height), round((0.3 + 0.4 * x) * width)
            regions = [
                (0, 0, row, column),
                (0, column, row, width),
                (row, 0, height, column),
                (row, column, height, width),
            ]
        canvas = torch.empty((3, height, width))
        corners, classes = [], []
        for source, (top, left, bottom, right) in zip(sources, regions, strict=True):
            view = View.draw(settings, (height, width), (bottom - top, right - left), generator)
            canvas[:, top:bottom, left:right] = view.pixels(torch.as_tensor(images[source]))
            moved, visible = view.boxes(boxes[source])
            corners.append(moved[visible] + torch.tensor([left, top, left, top]))
            classes.append(labels[source][visible])
        batch.append((canvas, torch.cat(corners), torch.cat(classes)))
    pixels, kept, names = zip(*batch, strict=True)
    return _recolour(torch.stack(pixels), settings.colour, generator), list(kept), list(names)


def _recolour(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    if not strength:
        return pixels
    draws = torch.rand((len(pixels), 6, 1, 1), generator=generator) * 2 - 1
    brightness, contrast, saturation, *gains = (1 + strength * draws).split(1, dim=1)
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
        top: of the window, in pixels of the image; negative if it begins outside. The same for `left`.
        flip: whether it is flipped left to right; `flip_vertical`: upside down.
    """

    size: tuple[int, int]
    region: tuple[int, int]
    scale: float
    top: float
    left: float
    flip: bool
    flip_vertical: bool

    @classmethod
    def draw(
        cls, settings: AugmentOptions, size: tuple[int, int], region: tuple[int, int], generator: torch.Generator
    ) -> "View":
        """A random view: as much of the image as the scale leaves room for, at a random position."""
        a, b, c, d, e = torch.rand(5, generator=generator).tolist()
        low, high = settings.scale
        scale = low * (high / low) ** a
        # The window may begin anywhere that leaves out neither image nor region needlessly.
        top, left = (size[0] - region[0] / scale) * b, (size[1] - region[1] / scale) * c
        return cls(size, region, scale, top, left, settings.flip and d < 0.5, settings.flip_vertical and e < 0.5)

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 (height, width, 3) to float32 in 0 to 1, (3, *region); grey beyond the image's edges."""
        (height, width), (rows, columns) = self.size, self.region
        y = (torch.arange(rows) + 0.5) / self.scale + self.top
        x = (torch.arange(columns) + 0.5) / self.scale + self.left
        y, x = (y.flip(0) if self.flip_vertical else y), (x.flip(0) if self.flip else x)
        grid_y, grid_x = torch.meshgrid(2 * y / height - 1, 2 * x / width - 1, indexing="ij")
        source = image.permute(2, 0, 1)[None].float() - FILL
        sampled = F.grid_sample(
            source, torch.stack((grid_x, grid_y), -1)[None], padding_mode="zeros", align_corners=False
        )
        return (sampled[0] + FILL) / 255

    def boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes of the image in the region's pixels, clipped to it; and which of them are still visible enough."""
        rows, columns = self.region
        moved = (boxes - torch.tensor([self.left, self.top] * 2)) * self.scale
        x_min, y_min, x_max, y_max = moved.unbind(1)
        if self.flip:
            x_min, x_max = columns - x_max, columns - x_min
        if self.flip_vertical:
            y_min, y_max = rows - y_max, rows - y_min
        moved = torch.stack((x_min, y_min, x_max, y_max), 1)
        whole = (moved[:, 2:] - moved[:, :2]).prod(1)
        cut = torch.minimum(moved.clamp_min(0), torch.tensor([columns, rows] * 2))
        sides = (cut[:, 2:] - cut[:, :2]).clamp_min(0)
        return cut, (sides.prod(1) >= _VISIBLE * whole) & (sides.amin(1) >= _SMALLEST)
