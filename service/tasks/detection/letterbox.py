"""Letterboxing: an image scaled to fit a fixed frame, centred and padded; boxes are mapped both ways."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.tasks.images import EncodedImage, UInt8Array

# The usual padding of one-stage detectors.
FILL = 114

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image lies in its frame, in pixels.

    `height` and `width` are of the upright original, `content_height` and `content_width` of the scaled image in the
    frame, and `top` and `left` are the padding above and beside it.
    """

    height: int
    width: int
    content_height: int
    content_width: int
    top: int
    left: int

    @classmethod
    def of(cls, height: int, width: int, frame_height: int, frame_width: int) -> "Letterbox":
        """The largest placement of an image of `height` x `width` in the frame that keeps its aspect."""
        scale = min(frame_height / height, frame_width / width)
        content_height = min(frame_height, max(1, round(height * scale)))
        content_width = min(frame_width, max(1, round(width * scale)))
        top, left = (frame_height - content_height) // 2, (frame_width - content_width) // 2
        return cls(height, width, content_height, content_width, top, left)

    def to_frame(self, boxes: Boxes) -> Boxes:
        """Boxes of the original (x_min, y_min, x_max, y_max; shape (n, 4)) in the frame's pixels."""
        scale, shift = self._scale_and_shift()
        return boxes * scale + shift

    def to_original(self, boxes: Boxes) -> Boxes:
        """Boxes of the frame in the original's pixels, cut off at its edges."""
        scale, shift = self._scale_and_shift()
        limits = np.array([self.width, self.height] * 2, dtype=np.float32)
        original: Boxes = ((boxes - shift) / scale).clip(0, limits)
        return original

    def _scale_and_shift(self) -> tuple[Boxes, Boxes]:
        scale = [self.content_width / self.width, self.content_height / self.height]
        return np.array(scale * 2, dtype=np.float32), np.array([self.left, self.top] * 2, dtype=np.float32)


def letterbox(
    image: EncodedImage, frame_height: int, frame_width: int, *, antialias: bool = True
) -> tuple[UInt8Array, Letterbox]:
    """Decodes an image into a frame: RGB, shape (frame_height, frame_width, 3), and how the image lies in it.

    The image is upright. A large JPEG is decoded at a fraction of its size that is no smaller than needed, unless
    `antialias` is off, since the decoder averages pixels.

    Raises:
        UndecodableImage: the data is truncated or damaged.
    """
    height, width = image.upright_size
    geometry = Letterbox.of(height, width, frame_height, frame_width)
    needed = (geometry.content_height, geometry.content_width) if antialias else (0, 0)
    pixels = image.decode(3, *needed)
    if image.pillow is not None:
        # Only decoding, always at full size, tells the orientation.
        height, width = pixels.shape[:2]
        geometry = Letterbox.of(height, width, frame_height, frame_width)
    return place(pixels, geometry, frame_height, frame_width, antialias=antialias), geometry


def place(
    pixels: UInt8Array, geometry: Letterbox, frame_height: int, frame_width: int, *, antialias: bool = True
) -> UInt8Array:
    """A frame, shape (frame_height, frame_width, 3), with an image in it, shape (height, width, 3).

    Without `antialias` a pixel is interpolated between the four nearest ones, as OpenCV's `INTER_LINEAR` does.
    """
    content = (geometry.content_height, geometry.content_width)
    if pixels.shape[:2] != content:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        if antialias:
            resized = image.resize(content[::-1], Image.Resampling.BILINEAR)
        else:
            scales = (image.width / content[1], 0, 0, 0, image.height / content[0], 0)
            resized = image.transform(content[::-1], Image.Transform.AFFINE, scales, Image.Resampling.BILINEAR)
        pixels = np.asarray(resized)
    if content == (frame_height, frame_width):
        return np.ascontiguousarray(pixels)
    frame = np.full((frame_height, frame_width, 3), FILL, dtype=np.uint8)
    frame[geometry.top : geometry.top + content[0], geometry.left : geometry.left + content[1]] = pixels
    return frame


def without_padding(frame: UInt8Array) -> UInt8Array:
    """The image in a frame, without the rows and columns at the edges that are padding."""
    content = (frame != FILL).any(2)
    rows, columns = (np.flatnonzero(content.any(axis)) for axis in (1, 0))
    return frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else frame
