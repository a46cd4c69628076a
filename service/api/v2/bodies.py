"""The body of an inference request, which may be compressed."""

import io
import zlib

from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, truncate
from service.stack.exchange import Exchange

# As `zlib.decompressobj` takes them.
_WINDOWS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
# Decompressed bytes that are made at once; the GIL is released meanwhile.
_STEP = 1 << 20


async def read_body(exchange: Exchange) -> tuple[bytes, int]:
    """The body, decompressed on a thread, and how much of it is not counted as the body of a request yet.

    Raises:
        UnsupportedMediaType: it has another encoding than gzip or deflate.
        BodyTooLarge: it is over the limit, compressed or decompressed.
        InvalidRequest: it cannot be decompressed.
    """
    encoding = exchange.header(b"content-encoding").strip().lower()
    if encoding in (b"", b"identity"):
        return await exchange.read(), 0
    if encoding not in _WINDOWS:
        stated = truncate(encoding.decode("latin-1"))
        raise UnsupportedMediaType(f"Content-Encoding {stated} is not read here: send gzip or deflate.")
    body = await exchange.read()
    limit = int(exchange.settings.max_body_mb * 1_000_000)
    decompressed: bytes = await exchange.app.threads.run(_decompress, body, _WINDOWS[encoding], limit)
    return decompressed, len(decompressed)


def header_length(exchange: Exchange) -> int | None:
    """The length of the JSON before binary tensors; None without them.

    Raises:
        InvalidRequest: it is no number.
    """
    stated = exchange.header(b"inference-header-content-length")
    if not stated:
        return None
    if not stated.isdigit() or len(stated) > 18:
        raise InvalidRequest("Inference-Header-Content-Length must be a number of bytes.")
    return int(stated)


def _decompress(body: bytes, window: int, limit: int) -> bytes:
    decompressed = io.BytesIO()
    decompressor = zlib.decompressobj(window)
    try:
        left = body
        while left and not decompressor.eof:
            part = decompressor.decompress(left, _STEP)
            if decompressed.tell() + len(part) > limit:
                raise BodyTooLarge(f"The body is over the limit of {limit / 1e6:g} MB when it is decompressed.")
            decompressed.write(part)
            left = decompressor.unconsumed_tail
    except zlib.error as error:
        raise InvalidRequest(f"The body cannot be decompressed ({error}).") from None
    if not decompressor.eof or decompressor.unused_data:
        raise InvalidRequest("The body is no single compressed stream: it is truncated, or more follows it.")
    return decompressed.getvalue()
