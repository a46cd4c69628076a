"""Bounds on the structure of image files: small files that take seconds to decode are refused.

Pillow parses segments, chunks, blocks and tags in Python, some of them in quadratic time. A file that it reads in far
more pieces than encoders write is refused while it is parsed.
"""

import io
import math

from service.errors import UndecodableImage
from service.tasks.slices import count_bytes

# Parsing a part takes one to four reads. Encoders write a few dozen parts before the pixels.
_MOST_READS = 4_000
# A PNG's pixels lie in chunks of three reads each; encoders write chunks of 8 kB or more.
_PIXEL_BYTES_PER_READ = 512
# Bytes before the pixels: Pillow turns each TIFF value into a Python object, and joins a JPEG's EXIF segments in
# quadratic time.
_MOST_HEADER_BYTES = {b"II": 2 << 20, b"MM": 2 << 20, b"\xff\xd8": 16 << 20}
# A compressed PNG chunk may decompress to 1 MB.
_MOST_PNG_COMPRESSED = 8
_PNG_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
_PNG_CHUNK_HEAD = 8
# Encoders write about ten scans. Each is a pass over all pixels, and one that changes nothing takes a dozen bytes.
_MOST_SCANS = 100
_MOST_SCANNED_PIXELS = 500_000_000
_SCAN = b"\xff\xda"


class BoundedFile(io.BytesIO):
    """An image file in memory that Pillow may read in a limited number of pieces.

    `read` raises `UndecodableImage` beyond that.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads: float = _MOST_READS
        self._bytes: float = _MOST_HEADER_BYTES.get(data[:2], math.inf)
        self._compressed = _MOST_PNG_COMPRESSED

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.BytesIO.read`."""
        data = super().read(size)
        self._reads -= 1
        self._bytes -= len(data)
        if len(data) == _PNG_CHUNK_HEAD and data[4:] in _PNG_COMPRESSED:
            self._compressed -= 1
        if self._reads < 0 or self._bytes < 0 or self._compressed < 0:
            raise UndecodableImage("The image has too many segments, chunks, blocks or tags: save it anew.")
        return data

    def begin_pixels(self, image_format: str | None) -> None:
        """Sets the limits for decoding the pixels of an image whose header has been read."""
        size = self.getbuffer().nbytes
        self._reads = _MOST_READS + size // _PIXEL_BYTES_PER_READ if image_format == "PNG" else math.inf
        self._bytes = math.inf


def check_scans(data: bytes, pixels: int) -> None:
    """Refuses a JPEG of too many scans over `pixels` pixels.

    Raises:
        UndecodableImage: decoding it would take seconds.
    """
    scans = count_bytes(data, _SCAN, _MOST_SCANS)
    if scans > 1 and (scans > _MOST_SCANS or scans * pixels > _MOST_SCANNED_PIXELS):
        raise UndecodableImage(
            f"The JPEG has {scans} scans of {pixels} pixels, which take too long to decode: save it as a baseline JPEG."
        )
