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
    """How an image lies in its frame.

    Attributes:
        height: of the upright original, in pixels, as is `width`.
        content_height: of the scaled image in the frame, as is `content_width`.
        top: padding above the scaled image; `left` is the padding beside it.
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
        content = (
            min(frame_height, max(1, round(height * scale))),
            min(frame_width, max(1, round(width * scale))),
        )
        return cls(height, width, *content, (frame_height - content[0]) // 2, (frame_width - content[1]) // 2)

    def to_frame(self, boxes: Boxes) -> Boxes:
        """Boxes of the original (x_min, y_min, x_max, y_max; shape (n, 4)) in the frame's pixels."""
        scale, shift = self._scale_and_shift()
        return boxes * scale + shift

    def to_original(self, boxes: Boxes) -> Boxes:
        """Boxes of the frame in the original's pixels, cut off at its edges."""
        scale, shift = self._scale_and_shift()
        limits = np.array([self.width, self.height, self.width, self.height], dtype=np.float32)
        original: Boxes = ((boxes - shift) / scale).clip(0, limits)
        return original

    def _scale_and_shift(self) -> tuple[Boxes, Boxes]:
        x, y = self.content_width / self.width, self.content_height / self.height
        return (
            np.array([x, y, x, y], dtype=np.float32),
            np.array([self.left, self.top, self.left, self.top], dtype=np.float32),
        )


def letterbox(image: EncodedImage, frame_height: int, frame_width: int) -> tuple[UInt8Array, Letterbox]:
    """Decodes an image into a frame.

    Args:
        image: is decoded upright, as RGB; a large JPEG at a fraction of its size that is no smaller than needed.
        frame_height: in pixels.
        frame_width: in pixels.

    Returns:
        uint8 pixels, shape (frame_height, frame_width, 3), and how the image lies in them.

    Raises:
        UndecodableImage: the data is truncated or damaged.
    """
    height, width = image.upright_size
    geometry = Letterbox.of(height, width, frame_height, frame_width)
    pixels = image.decode(3, geometry.content_height, geometry.content_width)
    if image.pillow is not None:
        # Of these images the orientation is known only after decoding, which is always at full size.
        height, width = pixels.shape[:2]
        geometry = Letterbox.of(height, width, frame_height, frame_width)
    return place(pixels, geometry, frame_height, frame_width), geometry


def place(pixels: UInt8Array, geometry: Letterbox, frame_height: int, frame_width: int) -> UInt8Array:
    """A frame, shape (frame_height, frame_width, 3), with an image in it, shape (height, width, 3)."""
    content = (geometry.content_height, geometry.content_width)
    if pixels.shape[:2] != content:
        resized = Image.fromarray(np.ascontiguousarray(pixels)).resize(content[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(resized)
    if content == (frame_height, frame_width):
        return np.ascontiguousarray(pixels)
    frame = np.full((frame_height, frame_width, 3), FILL, dtype=np.uint8)
    frame[geometry.top : geometry.top + content[0], geometry.left : geometry.left + content[1]] = pixels
    return frame
