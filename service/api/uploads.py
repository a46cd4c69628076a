"""Images in a request: a raw body, a multipart form with files, or JSON with base64."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.api.exchange import Exchange
from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from service.tasks.images import MEDIA_TYPES

AnyModel = TypeVar("AnyModel", bound=BaseModel)

# Bytes of a form that are parsed before the event loop gets to serve others; a file in it costs the more.
_SLICE = 1 << 16
_RAW = ("application/octet-stream", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Upload:
    """One image as it was sent."""

    name: str | None
    data: bytes


def body_schema(example: str) -> dict[str, Any]:
    """The OpenAPI request body of a route that reads images.

    Args:
        example: a small image in base64, so that "Try it out" runs as it is.
    """
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["images"],
                        "additionalProperties": False,
                        "properties": {
                            "images": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "string", "format": "byte", "description": "an image file in base64"},
                            }
                        },
                    },
                    "example": {"images": [example]},
                },
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["files"],
                        "properties": {
                            "files": {
                                "type": "array",
                                "items": {"type": "string", "format": "binary"},
                                "description": "one or many image files",
                            }
                        },
                    }
                },
                **dict.fromkeys(MEDIA_TYPES, binary),
            },
        }
    }


def json_schema(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI request body of a route that reads one JSON document.

    Args:
        model: of the document.
        example: of it, so that "Try it out" runs as it is.
    """
    content = {"schema": model.model_json_schema(), "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


async def read_json(exchange: Exchange, model: type[AnyModel]) -> AnyModel:
    """The body of a request, as a model.

    Raises:
        UnsupportedMediaType: another content type than JSON.
        BodyTooLarge: too many bytes.
        InvalidRequest: no JSON, or not what the model asks for; names the field.
    """
    media_type = exchange.media_type
    if media_type not in ("application/json", ""):
        raise UnsupportedMediaType(f"Content-Type {media_type} is not read here: send application/json.")
    try:
        return model.model_validate_json(await exchange.read() or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise InvalidRequest(f"There is no field {place!r}; there are {known}.") from None
        raise InvalidRequest(
            f"{place}: {first['msg']}." if place else f"The body is not right: {first['msg']}."
        ) from None


async def read_images(exchange: Exchange) -> list[Upload]:
    """The images of a request, at least one.

    Raises:
        UnsupportedMediaType: a content type that holds no images.
        BodyTooLarge: too many bytes or images.
        InvalidRequest: a form or a JSON document that is malformed, or holds no image.
    """
    media_type = exchange.media_type or _RAW[0]
    limit = exchange.settings.max_items
    if media_type == "application/json":
        uploads = _from_json(await exchange.read(), limit)
    elif media_type == "multipart/form-data":
        uploads = await _from_form(exchange, limit)
    elif media_type.startswith("image/") or media_type in _RAW:
        # curl --data-binary says urlencoded unless it is told otherwise; the bytes tell what they are.
        uploads = [Upload(None, await exchange.read())]
    else:
        raise UnsupportedMediaType(
            f"Content-Type {media_type} is not read here: send an image as the body ({', '.join(MEDIA_TYPES)}), "
            'a multipart/form-data form with files, or application/json {"images": ["<base64>"]}.'
        )
    return uploads


def _from_json(body: bytes, limit: int) -> list[Upload]:
    try:
        document = pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidRequest(f"The body is no JSON ({error}).") from None
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list) or not images or set(document) != {"images"}:
        raise InvalidRequest('The JSON must be {"images": ["<base64>", …]} with at least one image and nothing else.')
    _check_count(len(images), limit)
    uploads = []
    for index, text in enumerate(images):
        if not isinstance(text, str):
            raise InvalidRequest("An image must be a string of base64.", index=index)
        # A data URL is what a browser's FileReader gives.
        encoded = text.partition(",")[2] if text.startswith("data:") else text
        try:
            uploads.append(Upload(None, base64.b64decode(encoded, validate=True)))
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest(f"An image is no valid base64 ({error}).", index=index) from None
    return uploads


class _Form(MultiPartParser):
    """Starlette's parser, which would drop the last file of a form that breaks off without a word."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _from_form(exchange: Exchange, limit: int) -> list[Upload]:
    body = await exchange.read()

    async def stream() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), _SLICE):
            yield body[start : start + _SLICE]
            await asyncio.sleep(0)
        if not parser.ended:
            raise MultiPartException("it breaks off before its closing boundary.")

    try:
        parser = _Form(exchange.headers, stream(), max_files=limit, max_fields=limit)
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(f"over {limit}", limit) from None
        raise InvalidRequest(f"The form cannot be read: {error.message}") from None
    except UnicodeError as error:
        raise InvalidRequest(f"The form cannot be read ({error}): leave its charset out.") from None
    try:
        files = [value for value in form.getlist("files") if isinstance(value, UploadFile)]
        if not files:
            raise InvalidRequest("The form has no file in the field 'files': curl -F files=@cat.jpg sends one.")
        # A charset of the client's choice may have made something that no answer can hold.
        names = [(file.filename or "").encode("utf-8", "replace").decode() for file in files]
        return [Upload(name or None, await file.read()) for name, file in zip(names, files, strict=True)]
    finally:
        await form.close()


def _check_count(count: int, limit: int) -> None:
    if count > limit:
        raise _too_many(str(count), limit)


def _too_many(count: str, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request holds {count} images; at most {limit} are accepted: send several requests.")
