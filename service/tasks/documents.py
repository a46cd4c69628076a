"""Reading JSON documents, with errors that say what to do, and with bounds that hold before anything is built.

A parser builds what it reads at once and lets nobody else work meanwhile; 60 MB of `[]` become gigabytes. So in a large
document strings and values are counted first, in slices.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from service.errors import BodyTooLarge, InvalidRequest, shown
from service.tasks.slices import SLICE

AnyModel = TypeVar("AnyModel", bound=BaseModel)

# Documents so small cost next to nothing, whatever is in them.
_SMALL_BYTES = 1 << 16


def parse_json(body: bytes, *, strings: int, values: int) -> Any:
    """A JSON document.

    Args:
        body: of the request.
        strings: how many strings it may hold, names of fields included.
        values: how many values it may hold outside of strings: objects, lists and what is in them.

    Raises:
        InvalidRequest: it is not valid JSON.
        BodyTooLarge: it holds more.
    """
    if len(body) > _SMALL_BYTES:
        _check_size(body, strings, values)
    try:
        return pydantic_core.from_json(body, cache_strings="none")
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON ({error}).") from None


def parse_model(body: bytes, model: type[AnyModel], *, strings: int = 100, values: int = 100) -> AnyModel:
    """A JSON document as a model; an empty body is an empty document.

    Raises:
        InvalidRequest: not valid JSON, or not what the model asks for; names the field.
        BodyTooLarge: it holds more strings or values.
    """
    if len(body) > _SMALL_BYTES:
        _check_size(body, strings, values)
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        field = shown(".".join(str(part) for part in first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise InvalidRequest(f"There is no field {field!r}; there are {known}.") from None
        raise InvalidRequest(f"{field or 'The body is not right'}: {first['msg']}.") from None


def _check_size(body: bytes, strings: int, values: int) -> None:
    """Refuses a document that holds more than it may."""
    quotes = found = 0
    for piece in _pieces(body):
        if b"\\" in piece:
            # What is escaped is inside of a string; without it, quotes alone begin and end strings.
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        in_string = quotes % 2
        quotes += piece.count(b'"')
        if quotes > 2 * strings:
            raise BodyTooLarge(f"The document holds more than {strings} strings: send several requests.")
        outside = b"".join(piece.split(b'"')[in_string::2])
        found += sum(outside.count(separator) for separator in (b"[", b"{", b","))
        if found > values:
            raise BodyTooLarge(f"The document holds more than {values} values: send several requests.")


def _pieces(body: bytes) -> Iterator[bytes]:
    """A document in slices that cut no escape in two."""
    start = 0
    while start < len(body):
        piece = body[start : start + SLICE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = body[start : start + SLICE + 1]
        yield piece
        start += len(piece)
