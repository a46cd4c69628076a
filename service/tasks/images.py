"""Decoding images: upright, opaque and resized to the model's input.

Training uses the same functions, so training and serving cannot disagree about a pixel.
"""

import logging
import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from service.errors import ImageTooLarge, QuartetError, UndecodableImage
from service.tasks.cards import ImageInput
from service.tasks.structure import BoundedFile, check_scans

logger = logging.getLogger(__name__)

UInt8Array = npt.NDArray[np.uint8]

# Other Pillow plug-ins are disabled: each is a parser that would process untrusted bytes.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MEDIA_TYPES = tuple(f"image/{name.lower()}" for name in FORMATS)
MAX_PIXELS = 64_000_000
_ORIENTATION = 0x0112  # the EXIF tag
_JPEG_START, _SCAN, _EXIF = b"\xff\xd8\xff", b"\xff\xda", b"Exif\x00\x00"
# Color spaces that Pillow converts.
_INVERTED = ("CMYK", "YCCK")
# Pillow's WebP decoder holds the GIL for about 4 ms per megapixel while it copies the pixels.
_MAX_WEBP_PIXELS = 16_000_000
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# `EncodedImage.open` checks each header against its own limit instead.
Image.MAX_IMAGE_PIXELS = None
# Damaged files cause warnings, which would let clients fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


class NotPlain(Exception):
    """simplejpeg cannot decode a JPEG that `EncodedImage.open_plain` opened."""


@dataclass(slots=True)
class EncodedImage:
    """An image whose header has been read and checked, and whose pixels have not been decoded yet."""

    data: bytes
    width: int
    height: int
    orientation: int = 1
    # Pillow's lazy image, for everything but ordinary JPEGs, which simplejpeg decodes.
    pillow: Image.Image | None = None
    # If simplejpeg fails, `decode` raises `NotPlain` instead of trying Pillow.
    plain: bool = False

    @classmethod
    def open(cls, data: bytes, max_pixels: int = MAX_PIXELS) -> "EncodedImage":
        """Reads the header of `data`.

        Raises:
            UndecodableImage: `data` is empty, of no known format, or takes too long to read.
            ImageTooLarge: the header declares more than `max_pixels` pixels, or more than its format may have.
        """
        if not data:
            raise UndecodableImage("The image is empty: it has no bytes.")
        image = cls._open_jpeg(data)
        if image is None:
            pillow = _open_with_pillow(data)
            image = cls(data, pillow.width, pillow.height, pillow=pillow)
        if image.width * image.height > max_pixels:
            raise ImageTooLarge(
                f"The image declares {image.width} x {image.height} pixels; at most {max_pixels} are accepted. "
                "Send a smaller one."
            )
        return image

    @classmethod
    def open_plain(cls, data: bytes, max_pixels: int) -> "EncodedImage | None":
        """Reads the header of a JPEG that is cheap to decode: without EXIF, with at most `max_pixels` over all scans.

        Returns None for any other or damaged file, which `open` handles.
        """
        header = None if data.find(_EXIF) >= 0 else _jpeg_header(data)
        if header is None:
            return None
        height, width, colorspace = header
        # A progressive JPEG has about ten scans, each of which is a pass over all pixels.
        if colorspace in _INVERTED or width * height * data.count(_SCAN) > max_pixels:
            return None
        return cls(data, width, height, plain=True)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width after EXIF rotation; before it for a `pillow` image, whose EXIF is read after decoding."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    @classmethod
    def _open_jpeg(cls, data: bytes) -> "EncodedImage | None":
        header = _jpeg_header(data)
        if header is None:
            return None
        height, width, colorspace = header
        check_scans(data, width * height)
        if colorspace in _INVERTED:
            return None
        # Parsing EXIF takes longer than decoding a thumbnail, so skip it where there is none.
        orientation = 1
        if data.find(_EXIF, 0, 1 << 16) >= 0:
            orientation = _stated_orientation(_open_with_pillow(data))
        return cls(data, width, height, orientation)

    def decode(self, channels: int, min_height: int = 0, min_width: int = 0) -> UInt8Array:
        """Decodes the pixels: upright by EXIF, transparency over white, the first frame of an animation.

        Args:
            channels: 3 for RGB, 1 for grey.
            min_height: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, but no smaller than this; 0 for full
                size. Other formats are always decoded at full size.
            min_width: as `min_height`.

        Returns:
            uint8 pixels, shape (height, width, channels).

        Raises:
            UndecodableImage: the data is truncated or damaged.
            NotPlain: the same, for an image from `open_plain`.
        """
        if self.pillow is None:
            try:
                return _upright(self._decode_jpeg(channels, min_height, min_width), self.orientation)
            except ValueError:
                if self.plain:
                    raise NotPlain from None
                # Pillow tolerates harmless defects and names the others.
        return self._decode_pillow(channels)

    def _decode_jpeg(self, channels: int, min_height: int, min_width: int) -> UInt8Array:
        if self.orientation >= 5:  # stored sideways
            min_height, min_width = min_width, min_height
        if not min_height or not min_width:
            min_height, min_width = self.height, self.width
        pixels: UInt8Array = simplejpeg.decode_jpeg(
            self.data,
            colorspace="RGB" if channels == 3 else "GRAY",
            min_height=min(min_height, self.height),
            min_width=min(min_width, self.width),
        )
        return pixels

    def _decode_pillow(self, channels: int) -> UInt8Array:
        try:
            image = self.pillow or _open_with_pillow(self.data)
            image.load()
            # After loading, since reading a PNG's EXIF decodes it anyway, and Pillow rotates a TIFF as it loads.
            orientation = _stated_orientation(image)
            image = _opaque(image).convert("RGB" if channels == 3 else "L")
        except QuartetError:
            raise
        except Exception as error:  # a plug-in may raise anything on damaged data
            raise UndecodableImage(f"The image cannot be decoded ({error}): it is damaged or truncated.") from error
        return _upright(np.asarray(image).reshape(image.height, image.width, channels), orientation)


def _jpeg_header(data: bytes) -> tuple[int, int, str] | None:
    """Height, width and color space; None if it is no JPEG or damaged."""
    if data[:3] != _JPEG_START:
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return height, width, colorspace


def _open_with_pillow(data: bytes) -> Image.Image:
    file = BoundedFile(data)
    try:
        image = Image.open(file, formats=FORMATS)
    except QuartetError:
        raise
    except UnidentifiedImageError:
        raise UndecodableImage(
            f"The bytes are no image of a known format ({', '.join(FORMATS)}): convert it."
        ) from None
    except Exception as error:  # a plug-in may raise anything on a damaged header
        raise UndecodableImage(f"The image's header cannot be read ({error}): check the file.") from error
    if image.format == "WEBP" and image.width * image.height > _MAX_WEBP_PIXELS:
        raise ImageTooLarge(
            f"The WebP image has {image.width} x {image.height} pixels; at most {_MAX_WEBP_PIXELS} are accepted in "
            "this format. Send a smaller one, or a JPEG."
        )
    file.begin_pixels(image.format)
    return image


def _stated_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if it is absent or unreadable."""
    try:
        stated = image.getexif().get(_ORIENTATION)
    except Exception:  # the parser has no error of its own for damage
        logger.debug("an image's EXIF cannot be read", exc_info=True)
        return 1
    return stated if isinstance(stated, int) and 1 <= stated <= 8 else 1


def _opaque(image: Image.Image) -> Image.Image:
    """Lays transparency over white, and scales 16-bit grey to 8 bits."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
        return opaque
    return image


def _upright(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Undoes an EXIF orientation (1 to 8; CIPA DC-008, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def fit(pixels: UInt8Array, height: int, width: int) -> UInt8Array:
    """The largest centred part of `pixels` with the aspect of `height` x `width`, resized to it with antialiasing.

    Args:
        pixels: uint8, shape (any, any, channels).
        height: of the result.
        width: of the result.

    Returns:
        uint8, C-contiguous, shape (height, width, channels).
    """
    return _resized(pixels, _largest_part(pixels, height, width, 1.0), height, width, Image.Resampling.BICUBIC)


def read_pixels(image: EncodedImage, wanted: ImageInput) -> UInt8Array:
    """The pixels of an image as a model takes them, shape (height, width, channels).

    Raises:
        UndecodableImage: the data is truncated or damaged.
        NotPlain: the same, for an image from `EncodedImage.open_plain`.
    """
    return place(decode_for(image, wanted), wanted)


def decode_for(image: EncodedImage, wanted: ImageInput) -> UInt8Array:
    """The pixels of an image for `place`, a JPEG's perhaps at a fraction of its size; raises as `read_pixels` does."""
    if wanted.resize != "part":
        # A model that was trained elsewhere has seen images that were decoded whole, and half a pixel matters.
        return image.decode(wanted.channels)
    # Twice the size leaves the antialiased resize enough to work with.
    height, width = (math.ceil(2 * side / wanted.crop) for side in (wanted.height, wanted.width))
    return image.decode(wanted.channels, height, width)


def place(pixels: UInt8Array, wanted: ImageInput) -> UInt8Array:
    """Pixels of any size, uint8, in the size that a model takes; C-contiguous, shape (height, width, channels)."""
    height, width = wanted.height, wanted.width
    if wanted.resize == "stretch":
        h, w, _ = pixels.shape
        box = (0.0, 0.0, float(w), float(h))
    elif wanted.resize == "image":
        box = _whole_pixels(pixels, wanted)
    else:
        box = _largest_part(pixels, height, width, wanted.crop)
    return _resized(pixels, box, height, width, _RESAMPLING[wanted.interpolation])


# Left, top, right and bottom, in pixels.
_Box = tuple[float, float, float, float]


def _largest_part(pixels: UInt8Array, height: int, width: int, share: float) -> _Box:
    """The centred part of this aspect that is a share of the largest one."""
    h, w, _ = pixels.shape
    scale = share * min(h / height, w / width)
    # Rounding may make it a hair larger than the image, which Pillow refuses.
    box_height, box_width = min(height * scale, h), min(width * scale, w)
    top, left = (h - box_height) / 2, (w - box_width) / 2
    return left, top, left + box_width, top + box_height


def _whole_pixels(pixels: UInt8Array, wanted: ImageInput) -> _Box:
    """What of the image is left in the centre, once it is resized to whole pixels and cropped, as by torchvision."""
    h, w, _ = pixels.shape
    least_height, least_width = round(wanted.height / wanted.crop), round(wanted.width / wanted.crop)
    if least_height * w <= least_width * h:
        resized_height, resized_width = least_width * h // w, least_width
    else:
        resized_height, resized_width = least_height, least_height * w // h
    # As Python rounds: halves to the even neighbour.
    top, left = round((resized_height - wanted.height) / 2), round((resized_width - wanted.width) / 2)
    down, across = h / resized_height, w / resized_width
    return left * across, top * down, min((left + wanted.width) * across, w), min((top + wanted.height) * down, h)


def _resized(pixels: UInt8Array, box: _Box, height: int, width: int, resampling: Image.Resampling) -> UInt8Array:
    h, w, channels = pixels.shape
    if (h, w) == (height, width) and box == (0, 0, w, h):
        return np.ascontiguousarray(pixels)
    image = Image.fromarray(pixels.squeeze(2) if channels == 1 else np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), resampling, box=box)).reshape(height, width, channels)
