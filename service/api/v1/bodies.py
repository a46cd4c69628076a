"""What a request's body holds: images, raw or in a form or in JSON, or a document of one of several formats."""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from service.api.v1.forms import check_charset, read_form
from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, truncate
from service.faults import Faults, pointer
from service.stack.exchange import Exchange
from service.tasks.base import Documents, Format, Images
from service.tasks.call import Upload
from service.tasks.documents import OCTETS, a_file, parse_json
from service.tasks.images import FORMATS, MEDIA_TYPES
from service.tasks.threads import Threads

_RAW = (OCTETS, "application/x-www-form-urlencoded")
# Decoding base64 holds the GIL, so that it is done in slices of this many characters; four stand for three bytes.
_SLICE = 1 << 20

# Reads the inputs of a request for a model of this manifest.
Reader = Callable[[Exchange, Any, Threads], Awaitable[Sequence[Any]]]


def reader_of(reads: Images | Documents) -> Reader:
    """The function that reads a kind of input from a request: at least one.

    It raises `UnsupportedMediaType` for an unknown content type, `BodyTooLarge` for too many bytes or inputs, and
    `InvalidRequest` for a malformed or empty body.
    """
    return _read_images if isinstance(reads, Images) else partial(_read_document, reads.formats)


def describe_body(
    reads: Images | Documents, manifests: Sequence[Any], limit: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The OpenAPI request body of an operation that accepts at most `limit` inputs, and the schemas that it refers to.

    The manifests are those of the models that may be asked. The first is the default model's, or None if that is not
    served.
    """
    if isinstance(reads, Documents):
        served = [manifest for manifest in manifests if manifest is not None] or [None]
        content = {
            name: {
                "schema": any_of([described.schema(manifest, limit) for manifest in served]),
                "example": described.example(manifests[0]),
            }
            for name, described in reads.formats.items()
        }
        return _with_references({"required": reads.required, "content": content})
    binary = a_file(", ".join(FORMATS))
    base64_text = {"type": "string", "format": "byte", "minLength": 1, "description": "an image file in base64"}
    form = {"title": "ImagesForm", "description": "A form with images.", **_object_with_list("files", binary, limit)}
    request = {"title": "ImagesRequest", "description": "Images.", **_object_with_list("images", base64_text, limit)}
    content = {
        # Swagger UI selects the first: a file to choose.
        "multipart/form-data": {"schema": form},
        "application/json": {
            "schema": {**request, "additionalProperties": False},
            "example": {"images": [reads.example]},
        },
        # A client may say which format it is, or not know.
        **{media_type: {"schema": binary} for media_type in ("image/*", OCTETS)},
    }
    return _with_references({"required": True, "content": content})


def _with_references(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body with references to the schemas that have a title, and these schemas."""
    schemas = {}
    for described in body["content"].values():
        if title := described["schema"].get("title"):
            schemas[title] = described["schema"]
            described["schema"] = {"$ref": f"#/components/schemas/{title}"}
    return body, schemas


def _object_with_list(name: str, items: dict[str, Any], limit: int) -> dict[str, Any]:
    """The schema of an object whose only field is a list of one to `limit` items."""
    several = {"type": "array", "minItems": 1, "maxItems": limit, "items": items}
    return {"type": "object", "required": [name], "properties": {name: several}}


def any_of(schemas: Sequence[Any]) -> Any:
    """The schema of what any of some schemas accepts.

    Where they differ in the items of a list or in one property of an object, only that is a choice. The whole stays an
    object, for which generated clients have a single class.
    """
    different = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    first = different[0]
    if len(different) == 1:
        return first
    match _differing(different):
        case ["items"]:
            return {**first, "items": any_of([each["items"] for each in different])}
        case ["properties"]:
            fields = [each["properties"] for each in different]
            match _differing(fields):
                case [name]:
                    return {**first, "properties": {**fields[0], name: any_of([each[name] for each in fields])}}
    return {"anyOf": different}


def _differing(objects: Sequence[Mapping[str, Any]]) -> list[str]:
    """The members in which objects differ; none if they do not have the same members."""
    first = objects[0]
    if any(each.keys() != first.keys() for each in objects):
        return []
    return [name for name in first if any(each[name] != first[name] for each in objects)]


async def _read_document(
    formats: Mapping[str, Format], exchange: Exchange, manifest: Any, threads: Threads
) -> Sequence[Any]:
    media_type = exchange.media_type or next(iter(formats))
    if media_type not in formats:
        readable = " or ".join(formats)
        raise UnsupportedMediaType(f"Content-Type {truncate(media_type)} is not read here: send {readable}.")
    check_charset(exchange.header(b"content-type"))
    limit = exchange.settings.max_items
    return await _parse(exchange, threads, lambda body: formats[media_type].parse(body, manifest, limit))


async def _read_images(exchange: Exchange, _manifest: Any, threads: Threads) -> Sequence[Upload]:
    limit = exchange.settings.max_items
    media_type = exchange.media_type or _RAW[0]
    if media_type.startswith("image/") or media_type in _RAW:
        # curl --data-binary says urlencoded unless it is told otherwise; the bytes tell the format.
        return [Upload(None, await exchange.read())]
    content_type = exchange.header(b"content-type")
    if media_type == "application/json":
        check_charset(content_type)
        return await _parse(exchange, threads, lambda body: _images_of_json(body, limit))
    if media_type == "multipart/form-data":
        check_charset(content_type)
        # There are few threads, which bounds the memory: meanwhile a form and its files are in memory twice.
        return await _parse(exchange, threads, lambda body: read_form(content_type, body, limit))
    raise UnsupportedMediaType(
        f"Content-Type {truncate(media_type)} is not read here: send an image as the body ({', '.join(MEDIA_TYPES)}), "
        'a multipart/form-data form with files, or application/json {"images": ["<base64>"]}.'
    )


async def _parse(exchange: Exchange, threads: Threads, parse: Callable[[bytes], Sequence[Any]]) -> Sequence[Any]:
    body = await exchange.read()
    return await threads.run_sized(len(body), parse, body)


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
    faults = Faults()
    for index, text in enumerate(images):
        if not isinstance(text, str):
            faults.add("An image must be a string of base64.", pointer=pointer("images", index), index=index)
            continue
        # A data URL is what a browser's FileReader gives.
        encoded = text.partition(",")[2] if text.startswith("data:") else text
        slices = (encoded[start : start + _SLICE] for start in range(0, len(encoded), _SLICE))
        try:
            data = b"".join(base64.b64decode(each, validate=True) for each in slices)
        except ValueError as error:
            faults.add(f"An image is no valid base64 ({error}).", pointer=pointer("images", index), index=index)
            continue
        uploads.append(Upload(None, data))
    faults.check()
    return uploads
