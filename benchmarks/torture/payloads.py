"""Bodies that are small or valid or neither, and cost their reader much; and good ones for crowds."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Sequence

from PIL import Image

from service.tasks.samples import CAT, SMEAR

# The service's limit is 64 MB.
LARGE = 60_000_000
# Each route that reads JSON, and the field that it reads its inputs from.
JSON_ROUTES = {
    "/v1/predict": "images",
    "/v1/detect": "images",
    "/v1/classify-text": "texts",
    "/v1/predict-tabular": "rows",
    "/v1/decode": "latents",
    "/v1/generate": "count",
    "/v1/encode": "images",
    "/v1/reconstruct": "images",
}
# The service reads no JPEG of more scans, and at most 50 million pixels.
_MOST_SCANS = 100
_SCANNED_WIDTH, _SCANNED_HEIGHT = 8000, 6000
_BOUNDARY = "-----quartet-torture"
FORM = f"multipart/form-data; boundary={_BOUNDARY}"

CAT_JPEG = base64.b64decode(CAT)


def junk_jpeg(size: int = LARGE) -> bytes:
    """The head of a JPEG, and then something else."""
    return CAT_JPEG[:-2].ljust(size, b"\x55")


def json_arrays(field: str, size: int = LARGE) -> bytes:
    """Empty arrays: 3 bytes each here, 64 in a Python process."""
    return _filled(field, b"[%s]", b"[],", size)


def json_strings(field: str, size: int = LARGE) -> bytes:
    """Empty strings."""
    return _filled(field, b"[%s]", b'"",', size)


def json_keys(field: str, size: int = LARGE) -> bytes:
    """An object of keys that are all different."""
    count = size // len('"0000000":0,')
    keys = ",".join(f'"{number:07}":0' for number in range(count))
    return f'{{"{field}":{{{keys}}}}}'.encode()


def tabular_json(columns: Sequence[str], size: int = LARGE) -> bytes:
    """Rows of numbers, all of them good."""
    row = json.dumps(dict.fromkeys(columns, 0.5)).encode() + b","
    return _filled("rows", b"[%s]", row, size)


def latents_json(latent: int, size: int = LARGE) -> bytes:
    """Lists of numbers, all of them good."""
    return _filled("latents", b"[%s]", json.dumps([0.5] * latent).encode() + b",", size)


def csv_columns(count: int = 29_000_000) -> bytes:
    """A line of so many columns, and a row of one."""
    return b"a," * (count - 1) + b"a\n1\n"


def _filled(field: str, around: bytes, item: bytes, size: int) -> bytes:
    items = (item * (size // len(item)))[:-1]
    return b'{"%s":%s}' % (field.encode(), around % items)


def png_chunks(size: int = LARGE) -> bytes:
    """A small PNG with ancillary chunks that hold nothing, twelve bytes each."""
    empty = _chunk(b"quRt", b"")
    header, pixels = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), zlib.compress(bytes(8 * (1 + 3 * 8)))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            empty * (size // len(empty)),
            _chunk(b"IDAT", pixels),
            _chunk(b"IEND", b""),
        )
    )


def png_texts(count: int) -> bytes:
    """A small PNG with compressed texts of 1 MB each, which a reader decompresses to find out what they say."""
    text = zlib.compress(bytes(1_000_000), 9)
    header, pixels = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), zlib.compress(bytes(8 * (1 + 3 * 8)))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            *(_chunk(b"zTXt", b"%d\0\0" % number + text) for number in range(count)),
            _chunk(b"IDAT", pixels),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def webp(width: int, height: int) -> bytes:
    """A WebP of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (1, 2, 3)).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


def jpeg_exif(size: int = 20_000_000) -> bytes:
    """A small JPEG with segments of Exif of ten bytes each: a reader that appends them one by one copies the most."""
    data = b"Exif\x00\x00" + bytes(10)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data
    return CAT_JPEG[:2] + segment * (size // len(segment)) + CAT_JPEG[2:]


def tiff_tags(size: int = LARGE, count: int = 4000) -> bytes:
    """A TIFF of so many tags; two of those that every reader looks at are rationals, millions of them."""
    resolutions, filler = size * 9 // 20 // 8, size // 20 // count // 8
    wanted = {
        256: (3, 1, 8), 257: (3, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, None),
        277: (3, 1, 1), 278: (3, 1, 8), 279: (4, 1, 64), 282: (5, resolutions, None), 283: (5, resolutions, None),
    }  # fmt: skip
    private = range(33000, 33000 + count - len(wanted))
    wanted |= {tag: (5, filler, None) for tag in private if tag not in wanted}
    at = 8 + 2 + 12 * len(wanted) + 4
    entries = [struct.pack("<H", len(wanted))]
    for tag, (kind, number, value) in sorted(wanted.items()):
        entries.append(struct.pack("<HHL", tag, kind, number))
        entries.append(struct.pack("<L", at if value is None else value))
        if value is None:
            at += 64 if tag == 273 else 8 * number
    values = struct.pack("<LL", 1234567, 89) * ((at - 8) // 8)
    return b"".join((b"II*\x00", struct.pack("<L", 8), *entries, bytes(4), values))


def jpeg_scans(width: int = _SCANNED_WIDTH, height: int = _SCANNED_HEIGHT) -> bytes:
    """A progressive JPEG of few bytes that declares many pixels, and a hundred scans that each go over all of them.

    All but the first refine the brightness by nothing (ITU-T T.81, G.1.2.3): a decoder looks at every coefficient of
    every block, while the file says in fifteen bits that the next 32,767 blocks stay as they are.
    """
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG", progressive=True, subsampling=0)
    data = bytearray(buffer.getvalue())
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    end = _end_of_scan(data, data.index(b"\xff\xda"))
    # A table of one code, of one bit: "blocks that stay as they are", how many is in the 14 bits after it.
    table = b"\xff\xc4" + struct.pack(">HB", 2 + 1 + 16 + 1, 0x10) + b"\x01" + bytes(15) + b"\xe0"
    header = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0x00, 1, 63, 0x10)
    runs = -(-(-(-width // 8) * -(-height // 8)) // 32767)
    bits = ("0" + "1" * 14) * runs
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    return bytes(data[:end]) + table + (header + scan) * (_MOST_SCANS - 1) + b"\xff\xd9"


def _end_of_scan(data: bytes | bytearray, start: int) -> int:
    """Where the next marker is that is none of a scan's own (ITU-T T.81, B.1.1.2)."""
    position = start + 2
    while not (data[position] == 0xFF and data[position + 1] not in (0, *range(0xD0, 0xD8))):
        position += 1
    return position


def form(files: Sequence[bytes]) -> bytes:
    """A form of images; its media type is `FORM`."""
    parts = []
    for number, data in enumerate(files):
        disposition = f'form-data; name="files"; filename="{number}.jpg"'
        parts += [f"--{_BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode(), data, b"\r\n"]
    return b"".join((*parts, f"--{_BOUNDARY}--\r\n".encode()))


def images_json(images: Sequence[bytes]) -> bytes:
    """Images in base64."""
    return json.dumps({"images": [base64.b64encode(image).decode() for image in images]}).encode()


def photographs(count: int) -> list[bytes]:
    """JPEG photographs of 640 x 480, each another."""
    smear = Image.open(io.BytesIO(base64.b64decode(SMEAR))).resize((640, 480))
    images = []
    for number in range(count):
        buffer = io.BytesIO()
        smear.rotate(number).save(buffer, "JPEG", quality=85)
        images.append(buffer.getvalue())
    return images


def texts_json(count: int, words: int) -> bytes:
    """Texts of so many words."""
    vocabulary = ("crude", "oil", "prices", "rose", "after", "opec", "agreed", "to", "cut", "production")
    text = " ".join(vocabulary[number % len(vocabulary)] for number in range(words))
    return json.dumps({"texts": [text] * count}).encode()
