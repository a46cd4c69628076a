"""Reading JSON documents, with errors that say what to do, and with bounds that hold before anything is built.

A parser builds what it reads at once and lets nobody else work meanwhile; 60 MB of `[]` become gigabytes. So in a large
document strings and values are counted first, in slices.
"""

from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from service.errors import BodyTooLarge, InvalidRequest, shown

AnyModel = TypeVar("AnyModel", bound=BaseModel)

# Documents so small cost next to nothing, whatever is in them.
_SMALL_BYTES = 1 << 16
# Bytes that are looked at before other threads get to work.
_SLICE = 1 << 20


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


def count_bytes(body: bytes, wanted: bytes, most: int) -> int:
    """How often a byte stands in a body; counts no further than a little beyond `most`."""
    count = 0
    for start in range(0, len(body), _SLICE):
        count += body.count(wanted, start, start + _SLICE)
        if count > most:
            break
    return count


def _check_size(body: bytes, strings: int, values: int) -> None:
    """Refuses a document that holds more than it may."""
    if b"\\" in body:
        # What is escaped is inside of a string; without it, quotes alone begin and end strings.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if count_bytes(body, b'"', 2 * strings) > 2 * strings:
        raise BodyTooLarge(f"The document holds more than {strings} strings: send several requests.")
    outside = b"".join(body.split(b'"')[::2])
    found = 0
    for separator in (b"[", b"{", b","):
        found += count_bytes(outside, separator, values - found)
        if found > values:
            raise BodyTooLarge(f"The document holds more than {values} values: send several requests.")
