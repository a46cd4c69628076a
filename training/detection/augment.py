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


def augment(
    settings: AugmentOptions,
    images: Images | Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    items: Tensor,
    generator: torch.Generator,
    *,
    mosaics: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Makes a batch.

    Args:
        images: those that the batch and its mosaics are taken from, uint8, shape (n, height, width, 3).
        boxes: of each image, x_min, y_min, x_max, y_max in its pixels, float32, shape (k, 4).
        labels: of each image, int64, shape (k,).
        items: of the batch, int64, shape (batch,).
        mosaics: whether this batch may contain any.

    Returns:
        Pixels, float32 in 0 to 1, shape (batch, 3, height, width); and the boxes and labels of each image.
    """
    height, width = images.shape[1:3]
    canvases, kept, names = [], [], []
    for item in items.tolist():
        coin, x, y = torch.rand(3, generator=generator).tolist()
        sources, regions = [item], [(0, 0, height, width)]
        if mosaics and coin < settings.mosaic:
            sources += torch.randint(len(images), (3,), generator=generator).tolist()
            row, column = round((0.3 + 0.4 * y) * height), round((0.3 + 0.4 * x) * width)
            rows, columns = ((0, row), (row, height)), ((0, column), (column, width))
            regions = [(top, left, bottom, right) for top, bottom in rows for left, right in columns]
        canvas = torch.empty((3, height, width))
        corners, classes = [], []
        for source, (top, left, bottom, right) in zip(sources, regions, strict=True):
            view = _draw_view(settings, (height, width), (bottom - top, right - left), generator)
            canvas[:, top:bottom, left:right] = view.pixels(torch.as_tensor(images[source]))
            moved, visible = view.boxes(boxes[source])
            corners.append(moved[visible] + torch.tensor([left, top, left, top]))
            classes.append(labels[source][visible])
        canvases.append(canvas)
        kept.append(torch.cat(corners))
        names.append(torch.cat(classes))
    return _recolour(torch.stack(canvases), settings.colour, generator), kept, names


def _draw_view(
    settings: AugmentOptions, size: tuple[int, int], region: tuple[int, int], generator: torch.Generator
) -> "View":
    a, b, c, d, e = torch.rand(5, generator=generator).tolist()
    low, high = settings.scale
    scale = low * (high / low) ** a
    # The window may begin anywhere that leaves out neither image nor region needlessly.
    top, left = (size[0] - region[0] / scale) * b, (size[1] - region[1] / scale) * c
    return View(size, region, scale, top, left, settings.flip and d < 0.5, settings.flip_vertical and e < 0.5)


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
    """A window of an image of (height, width) `size`, resampled to a region of another size.

    Attributes:
        scale: pixels of the region per pixel of the image.
        top: of the window, in pixels of the image; negative if it begins outside. The same for `left`.
    """

    size: tuple[int, int]
    region: tuple[int, int]
    scale: float
    top: float
    left: float
    flip: bool
    flip_vertical: bool

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 (height, width, 3) to float32 in 0 to 1, (3, *region); grey beyond the image's edges."""
        (height, width), (rows, columns) = self.size, self.region
        y = (torch.arange(rows) + 0.5) / self.scale + self.top
        x = (torch.arange(columns) + 0.5) / self.scale + self.left
        y, x = (y.flip(0) if self.flip_vertical else y), (x.flip(0) if self.flip else x)
        grid_y, grid_x = torch.meshgrid(2 * y / height - 1, 2 * x / width - 1, indexing="ij")
        source, grid = image.permute(2, 0, 1)[None].float() - FILL, torch.stack((grid_x, grid_y), -1)[None]
        return (F.grid_sample(source, grid, padding_mode="zeros", align_corners=False)[0] + FILL) / 255

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
