"""The wire format of protocol buffers, as far as large fields are taken out of a message without copying them.

A message is a series of fields in any order, so what is left without some of them is a message too.
https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Collection, Iterator
from itertools import islice

from google.protobuf.message import DecodeError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10
# Each takes a microsecond under the GIL, and protobuf takes twenty for an entry of a map.
_MOST_FIELDS = 2048


def split(content: bytes, field: int, nested: Collection[int] = ()) -> tuple[bytes, list[memoryview]]:
    """A message without the bytes of a repeated field, and those as views.

    Args:
        content: the message.
        field: its number.
        nested: numbers of fields that are messages, whose fields are counted too.

    Raises:
        DecodeError: it is no message, or has too many fields.
    """
    view = memoryview(content)
    kept, taken = [], []
    count = kept_from = 0
    for number, start, value, end in _fields(view):
        count += 1
        if number == field and value is not None:
            kept.append(view[kept_from:start])
            taken.append(value)
            kept_from = end
        elif number in nested and value is not None:
            count += sum(1 for _ in islice(_fields(value), _MOST_FIELDS))
        if count > _MOST_FIELDS:
            raise DecodeError(f"it has more than {_MOST_FIELDS} fields")
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


def _fields(view: memoryview) -> Iterator[tuple[int, int, memoryview | None, int]]:
    """The number of each field, where it starts, its bytes (None if it is a number), and where it ends."""
    position = 0
    while position < len(view):
        start = position
        tag, position = _varint(view, position)
        kind, value = tag & 7, None
        if kind == _BYTES:
            size, position = _varint(view, position)
            value = view[position : position + size]
            position += size
        elif kind == _VARINT:
            _, position = _varint(view, position)
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise DecodeError("it has a field of an unknown type")
        if position > len(view):
            raise DecodeError("it is truncated")
        yield tag >> 3, start, value, position


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = 0
    for shift, byte in enumerate(view[position : position + _MOST_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, position + shift + 1
    raise DecodeError("it is truncated")
