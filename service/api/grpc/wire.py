"""The wire format of protocol buffers, as far as large fields are taken out of a message without copying them.

A message is a series of fields in any order, so what is left without some of them is a message too.
https://protobuf.dev/programming-guides/encoding
"""

from google.protobuf.message import DecodeError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10
# Each takes a microsecond under the GIL. A request has a few for each tensor.
_MOST_FIELDS = 4096


def split(content: bytes, field: int) -> tuple[bytes, list[memoryview]]:
    """A message without the bytes of a repeated field, and those as views.

    Raises:
        DecodeError: it is no message.
    """
    view = memoryview(content)
    kept, taken = [], []
    position = kept_from = fields = 0
    while position < len(view):
        start = position
        fields += 1
        if fields > _MOST_FIELDS:
            raise DecodeError(f"it has more than {_MOST_FIELDS} fields")
        tag, position = _varint(view, position)
        kind = tag & 7
        if kind == _BYTES:
            size, position = _varint(view, position)
            if tag >> 3 == field:
                kept.append(view[kept_from:start])
                taken.append(view[position : position + size])
                kept_from = position + size
            position += size
        elif kind == _VARINT:
            _, position = _varint(view, position)
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise DecodeError("it has a field of an unknown type")
    if position > len(view):
        raise DecodeError("it is truncated")
    kept.append(view[kept_from:])
    return b"".join(kept), taken


def field_head(field: int, size: int) -> bytes:
    """What precedes `size` bytes of a field in a message."""
    head = bytearray()
    for number in (field << 3 | _BYTES, size):
        while number >= 0x80:
            head.append(number & 0x7F | 0x80)
            number >>= 7
        head.append(number)
    return bytes(head)


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = 0
    for shift, byte in enumerate(view[position : position + _MOST_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, position + shift + 1
    raise DecodeError("it is truncated")
