"""JSON documents, with bounds on strings and values that are checked before parsing.

The parser holds the GIL until it has built everything, and 60 MB of `[]` become gigabytes. In a large document, strings
and values are counted first, in slices.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from service.errors import BodyTooLarge, InvalidRequest
from service.faults import Faults, add_fields
from service.tasks.slices import SLICE

AnyModel = TypeVar("AnyModel", bound=BaseModel)

# Generated clients often send files with this media type alone.
OCTETS = "application/octet-stream"
# Up to this size, documents need no bounds.
_SMALL_BYTES = 1 << 16


def parse_json(body: bytes, *, strings: int, values: int) -> Any:
    """Parses a JSON document.

    Raises:
        InvalidRequest: it is not valid JSON.
        BodyTooLarge: it holds more than `strings` strings, field names included, or more than `values` objects, lists
            and items of both. Documents of at most 64 KiB are not counted.
    """
    _check_size(body, strings, values)
    try:
        return pydantic_core.from_json(body, cache_strings="none")
    except ValueError as error:
        raise InvalidRequest(f"The body is not valid JSON ({error}).") from None


def parse_model(body: bytes, model: type[AnyModel], *, strings: int = 100, values: int = 100) -> AnyModel:
    """Parses a JSON document as a model; an empty body is an empty document. For the bounds see `parse_json`.

    Raises:
        InvalidRequest: it is not valid JSON, or does not fit the model; names the fields.
        BodyTooLarge: it holds more strings or values.
    """
    _check_size(body, strings, values)
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        faults = Faults()
        add_fields(faults, error.errors(), model.model_fields)
        raise faults.error() from None


def a_file(what: str) -> dict[str, Any]:
    """The JSON Schema of a body that is a file."""
    return {"type": "string", "format": "binary", "minLength": 1, "description": f"a file: {what}"}


def object_schema(**fields: Any) -> dict[str, Any]:
    """The JSON Schema of an object with these fields, all required, and no others."""
    return {"type": "object", "required": list(fields), "additionalProperties": False, "properties": fields}


def _check_size(body: bytes, strings: int, values: int) -> None:
    if len(body) <= _SMALL_BYTES:
        return
    quotes = found = 0
    for piece in _pieces(body):
        if b"\\" in piece:
            # Escapes occur only inside strings; without them, every quote begins or ends a string.
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
    """Slices of a document that do not split an escape."""
    start = 0
    while start < len(body):
        piece = body[start : start + SLICE]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = body[start : start + SLICE + 1]
        yield piece
        start += len(piece)
