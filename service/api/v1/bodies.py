"""What a request's body holds: images, raw or in a form or in JSON, or a document of one of several formats."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from service.api.v1.forms import check_charset, read_form
from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, shown
from service.stack.exchange import Exchange
from service.tasks.base import Documents, Format, Images
from service.tasks.call import Upload
from service.tasks.documents import parse_json
from service.tasks.images import MEDIA_TYPES
from service.tasks.threads import Threads

_RAW = ("application/octet-stream", "application/x-www-form-urlencoded")
# Documents that are parsed on the event loop; larger ones go to a thread.
_INLINE_BYTES = 16_384
# Characters of base64 that are decoded at once; four stand for three bytes.
_SLICE = 1 << 20


# Reads the inputs of a request for a model of this manifest; threads parse large documents.
Reader = Callable[[Exchange, Any, Threads], Awaitable[Sequence[Any]]]


def reader_of(reads: Images | Documents) -> Reader:
    """What reads a kind of input from a request, at least one.

    It raises `UnsupportedMediaType` for a content type that holds no such input, `BodyTooLarge` for too many bytes or
    inputs, and `InvalidRequest` where the body is malformed or holds no input.
    """
    return _read_images if isinstance(reads, Images) else partial(_read_document, reads.formats)


def describe_body(reads: Images | Documents, manifests: Sequence[Any], limit: int) -> dict[str, Any]:
    """The OpenAPI request body of an operation.

    Args:
        reads: the kind of input.
        manifests: of the models that may be asked, the one that answers by default first; None in its place where it
            is not served.
        limit: how many inputs are accepted.
    """
    if isinstance(reads, Documents):
        served = [manifest for manifest in manifests if manifest is not None] or [None]
        return {
            "required": reads.required,
            "content": {
                name: {
                    "schema": any_of([described.schema(manifest, limit) for manifest in served]),
                    "example": described.example(manifests[0]),
                }
                for name, described in reads.formats.items()
            },
        }
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "required": True,
        "content": {
            # The page at /docs begins with the first one: a file to choose.
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": limit,
                            "items": {"type": "string", "format": "binary"},
                            "description": "one or many image files",
                        }
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": limit,
                            "items": {"type": "string", "format": "byte", "description": "an image file in base64"},
                        }
                    },
                },
                "example": {"images": [reads.example]},
            },
            **dict.fromkeys(MEDIA_TYPES, binary),
        },
    }


def any_of(schemas: Sequence[Any]) -> Any:
    """The schema of what any of some schemas accepts."""
    different = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    return different[0] if len(different) == 1 else {"anyOf": different}


async def _read_document(
    formats: Mapping[str, Format], exchange: Exchange, manifest: Any, threads: Threads
) -> Sequence[Any]:
    limit = exchange.settings.max_items
    media_type = exchange.media_type or next(iter(formats))
    if media_type not in formats:
        raise UnsupportedMediaType(f"Content-Type {shown(media_type)} is not read here: send {' or '.join(formats)}.")
    check_charset(exchange.header(b"content-type"))
    parse = formats[media_type].parse
    body = await exchange.read()
    if len(body) <= _INLINE_BYTES:
        return parse(body, manifest, limit)
    return await threads.run(parse, body, manifest, limit)


async def _read_images(exchange: Exchange, _manifest: Any, threads: Threads) -> list[Upload]:
    limit = exchange.settings.max_items
    media_type = exchange.media_type or _RAW[0]
    if media_type.startswith("image/") or media_type in _RAW:
        # curl --data-binary says urlencoded unless it is told otherwise; the bytes tell what they are.
        return [Upload(None, await exchange.read())]
    if media_type in ("application/json", "multipart/form-data"):
        check_charset(exchange.header(b"content-type"))
    if media_type == "application/json":
        body = await exchange.read()
        if len(body) <= _INLINE_BYTES:
            return _images_of_json(body, limit)
        return await threads.run(_images_of_json, body, limit)
    if media_type == "multipart/form-data":
        content_type, body = exchange.header(b"content-type"), await exchange.read()
        if len(body) <= _INLINE_BYTES:
            return read_form(content_type, body, limit)
        # On a thread, of which there are few: a form and its files are twice in memory meanwhile.
        return await threads.run(read_form, content_type, body, limit)
    raise UnsupportedMediaType(
        f"Content-Type {shown(media_type)} is not read here: send an image as the body ({', '.join(MEDIA_TYPES)}), "
        'a multipart/form-data form with files, or application/json {"images": ["<base64>"]}.'
    )


def _images_of_json(body: bytes, limit: int) -> list[Upload]:
    document = parse_json(body, strings=limit + 8, values=limit + 8)
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list) or not images or set(document) != {"images"}:
        raise InvalidRequest('The JSON must be {"images": ["<base64>", …]} with at least one image and nothing else.')
    if len(images) > limit:
        raise BodyTooLarge(
            f"The request holds {len(images)} images; at most {limit} are accepted: send several requests."
        )
    uploads = []
    for index, text in enumerate(images):
        if not isinstance(text, str):
            raise InvalidRequest("An image must be a string of base64.", index=index)
        # A data URL is what a browser's FileReader gives.
        encoded = text.partition(",")[2] if text.startswith("data:") else text
        try:
            uploads.append(Upload(None, _decode(encoded)))
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest(f"An image is no valid base64 ({error}).", index=index) from None
    return uploads


def _decode(encoded: str) -> bytes:
    """The bytes that base64 stands for, decoded in slices between which other threads get to work."""
    if len(encoded) <= _SLICE:
        return base64.b64decode(encoded, validate=True)
    return b"".join(
        base64.b64decode(encoded[start : start + _SLICE], validate=True) for start in range(0, len(encoded), _SLICE)
    )
