"""The three kinds of request body, read from hand-made requests."""

import asyncio
import base64
import codecs
import json
import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from service.api.v1.bodies import any_of, describe_body, reader_of
from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from service.settings import Settings
from service.stack.exchange import Exchange
from service.tasks.base import Documents, Format, Images
from service.tasks.call import Upload
from service.tasks.images import MEDIA_TYPES
from service.tasks.threads import Threads

# Small bodies start none of its threads.
IDLE = Threads(1)


def exchange_of(body: bytes, content_type: str | None, **settings: object) -> Exchange:
    """A request whose body arrives in chunks of ten bytes."""
    pieces = [body[start : start + 10] for start in range(0, len(body), 10)] or [b""]
    messages = iter(
        {"type": "http.request", "body": piece, "more_body": index + 1 < len(pieces)}
        for index, piece in enumerate(pieces)
    )

    async def receive() -> Mapping[str, object]:
        return next(messages)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/predict",
        "headers": [(b"content-type", content_type.encode())] if content_type is not None else [],
        "app": SimpleNamespace(settings=Settings(**settings), repository=None, observers=None),
        "quartet.facts": {},
    }
    return Exchange(scope, receive)


async def read_images(exchange: Exchange) -> list[Upload]:
    return list(await reader_of(Images(""))(exchange, None, IDLE))  # type: ignore[arg-type]


FORM = "multipart/form-data; boundary=b"


def part(name: str, data: bytes, file: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
    return f"--b\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"


@pytest.mark.parametrize(
    "content_type",
    [None, "", *MEDIA_TYPES, "image/x-unheard-of", "IMAGE/JPEG; q=1", "application/octet-stream",
     "application/x-www-form-urlencoded"],
)  # fmt: skip
async def test_a_raw_body(content_type: str | None):
    data = bytes(range(256))
    assert await read_images(exchange_of(data, content_type)) == [Upload(None, data)]


@pytest.mark.parametrize("content_type", ["text/plain", "application/pdf", "multipart/mixed; boundary=b", "json"])
async def test_another_media_type(content_type: str):
    with pytest.raises(UnsupportedMediaType, match="image/jpeg"):
        await read_images(exchange_of(b"x", content_type))


async def test_json():
    images = [b"first", b"", b"third" * 100]
    encoded = [base64.b64encode(image).decode() for image in images]
    encoded[2] = "data:image/png;base64," + encoded[2]
    body = json.dumps({"images": encoded}).encode()
    uploads = await read_images(exchange_of(body, "application/json; charset=utf-8"))
    assert uploads == [Upload(None, image) for image in images]


@pytest.mark.parametrize(
    ("body", "index"),
    [
        ('{"images": ["aGk=", "a"]}', 1),
        ('{"images": ["a-_b"]}', 0),
        ('{"images": ["aGk= "]}', 0),
        ('{"images": [null]}', 0),
        ('{"images": {"0": "aGk="}}', None),
        ('{"images": "aGk="}', None),
        ('{"images": []}', None),
        ("{}", None),
        ('{"images": ["aGk="], "more": 1}', None),
        ("[]", None),
        ("1e999", None),
        ("", None),
        ("[" * 10_000, None),
    ],
)
async def test_json_without_images(body: str, index: int | None):
    with pytest.raises(InvalidRequest) as refusal:
        await read_images(exchange_of(body.encode(), "application/json"))
    assert refusal.value.index == index


async def test_a_data_url_without_data_is_an_empty_image():
    body = b'{"images": ["data:image/png;base64,", "data:image/png"]}'
    assert await read_images(exchange_of(body, "application/json")) == [Upload(None, b"")] * 2


async def test_a_form_keeps_order_and_names():
    body = part("files", b"one", "ä.png") + part("note", b"hello") + part("files", b"\r\n--", "two.png") + b"--b--\r\n"
    assert await read_images(exchange_of(body, FORM)) == [Upload("ä.png", b"one"), Upload("two.png", b"\r\n--")]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--b--\r\n", FORM),
        (b"", FORM),
        (part("file", b"x", "a") + b"--b--\r\n", FORM),
        (part("files", b"x") + b"--b--\r\n", FORM),
        (b"junk", FORM),
        (part("files", b"x", "a") + b"--b--\r\n", "multipart/form-data"),
        (part("files", b"x", "a") + b"--b--\r\n", "multipart/form-data; boundary="),
        (part("files", b"x", "a"), FORM),
        (part("files", b"x", "a") + part("files", b"y", "b")[:-3], FORM),
    ],
    ids=["empty", "nothing", "other field", "no file", "junk", "no boundary", "empty boundary", "no end", "cut off"],
)
async def test_a_form_that_cannot_be_read(body: bytes, content_type: str):
    with pytest.raises(InvalidRequest, match="form"):
        await read_images(exchange_of(body, content_type))


async def test_too_many():
    with pytest.raises(BodyTooLarge, match="3 images; at most 2"):
        await read_images(exchange_of(b'{"images": ["", "", ""]}', "application/json", max_items=2))
    form = part("files", b"x", "a") * 3 + b"--b--\r\n"
    with pytest.raises(BodyTooLarge, match="over 2 images; at most 2"):
        await read_images(exchange_of(form, FORM, max_items=2))
    assert len(await read_images(exchange_of(form, FORM, max_items=3))) == 3


def test_the_schema_offers_every_kind():
    body, schemas = describe_body(Images("aGk="), [None], 7)
    content = body["content"]
    assert set(content) == {"application/json", "multipart/form-data", "image/*", "application/octet-stream"}
    assert content["application/json"]["example"] == {"images": ["aGk="]}
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/ImagesRequest"}
    assert content["multipart/form-data"]["schema"] == {"$ref": "#/components/schemas/ImagesForm"}
    json_images = schemas["ImagesRequest"]["properties"]["images"]
    form_files = schemas["ImagesForm"]["properties"]["files"]
    for several in (json_images, form_files):
        assert (several["minItems"], several["maxItems"]) == (1, 7)


def parse_words(body: bytes, manifest: str, limit: int) -> list[str]:
    words = body.decode().split()
    if len(words) > limit:
        raise BodyTooLarge(f"{manifest}: {len(words)} words")
    return [*words, threading.current_thread().name]


def words_schema(manifest: str | None, limit: int) -> dict[str, object]:
    return {"enum": [manifest], "maxLength": limit}


def no_schema(manifest: str | None, limit: int) -> dict[str, object]:
    return {}


WORDS = Documents(
    {"text/plain": Format(words_schema, parse_words, str), "text/x": Format(no_schema, parse_words, str)},
    required=False,
)


@pytest.mark.parametrize("content_type", [None, "text/plain", "TEXT/X; charset=utf-8"])
async def test_a_document(content_type: str | None):
    workers = Threads(1)
    *words, thread = await reader_of(WORDS)(exchange_of(b"a b", content_type), "card", workers)
    assert words == ["a", "b"]
    assert thread == threading.current_thread().name
    *words, thread = await reader_of(WORDS)(exchange_of(b"a " * 50_000, content_type, max_items=60_000), "", workers)
    assert len(words) == 50_000
    assert thread.startswith("encode")
    workers.close()


async def test_a_document_of_an_unsupported_media_type():
    with pytest.raises(UnsupportedMediaType, match="send text/plain or text/x"):
        await reader_of(WORDS)(exchange_of(b"a", "application/json"), "card", IDLE)
    with pytest.raises(BodyTooLarge, match="card: 3 words"):
        await reader_of(WORDS)(exchange_of(b"a b c", None, max_items=2), "card", IDLE)


def words_body(*manifests: str | None) -> dict[str, object]:
    body, schemas = describe_body(WORDS, manifests, 9)
    assert schemas == {}  # without a title, they have no name
    assert body["required"] is False
    assert body["content"]["text/x"]["schema"] == {}
    return body["content"]["text/plain"]


def test_the_schema_of_a_document_is_what_any_of_the_models_accepts():
    one, other = {"enum": ["one"], "maxLength": 9}, {"enum": ["other"], "maxLength": 9}
    assert words_body("one") == words_body("one", "one") == {"schema": one, "example": "one"}
    assert words_body("one", "other") == {"schema": {"anyOf": [one, other]}, "example": "one"}
    # The model that answers by default is not served, but another one is.
    assert words_body(None, "other") == {"schema": other, "example": "None"}
    assert words_body(None) == {"schema": {"enum": [None], "maxLength": 9}, "example": "None"}


def test_models_that_differ_in_a_part_share_the_rest():
    def rows(*columns: str, title: str = "Rows") -> dict[str, Any]:
        row = {"type": "object", "required": list(columns), "properties": {name: {} for name in columns}}
        return {"title": title, "type": "object", "properties": {"rows": {"type": "array", "items": row}}}

    one, two = rows("a"), rows("a", "b")
    both = any_of([one, two, one])
    assert both["title"] == "Rows"
    items = [each["properties"]["rows"]["items"] for each in (one, two)]
    assert both["properties"]["rows"] == {"type": "array", "items": {"anyOf": items}}
    assert any_of([one, rows("a", title="Others")]) == {"anyOf": [one, rows("a", title="Others")]}


CHARSETS = ["utf-7", "unicode_escape", "undefined", "latin-1", "no-such-charset", "x" * 30_000, ""]


@pytest.mark.parametrize("charset", CHARSETS)
@pytest.mark.parametrize("quote", ["", '"'])
async def test_another_charset_is_refused_and_never_looked_for(charset: str, quote: str):
    looked_for: list[str] = []

    def search(name: str) -> None:
        looked_for.append(name)

    codecs.register(search)
    try:
        for content_type in (FORM, "application/json"):
            with pytest.raises(UnsupportedMediaType, match=r"charset .* is not read here: send UTF-8") as refusal:
                await read_images(exchange_of(b"{}", f"{content_type}; charset={quote}{charset}{quote}"))
            assert len(refusal.value.detail) < 200
        for media_type in ("text/plain", "text/x"):
            exchange = exchange_of(b"a", f"{media_type}; Charset={quote}{charset}{quote}")
            with pytest.raises(UnsupportedMediaType, match=r"charset .* is not read here: send UTF-8"):
                await reader_of(WORDS)(exchange, "card", IDLE)
    finally:
        codecs.unregister(search)
    assert looked_for == []


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii"])
async def test_utf_8_may_be_stated(charset: str):
    form = part("files", b"x", "ä.png") + b"--b--\r\n"
    (upload,) = await read_images(exchange_of(form, f"{FORM}; charset={charset}"))
    assert upload.data == b"x"
    if "ascii" not in charset:
        assert upload.name == "ä.png"
    *words, _ = await reader_of(WORDS)(exchange_of(b"a", f"text/plain; charset={charset}"), "card", IDLE)
    assert words == ["a"]


async def test_a_content_type_is_quoted_in_part():
    for read in (read_images, lambda exchange: reader_of(WORDS)(exchange, "card", None)):
        with pytest.raises(UnsupportedMediaType, match="Content-Type xxx") as refusal:
            await read(exchange_of(b"a", "x" * 30_000))
        assert len(refusal.value.detail) < 400


async def test_a_large_form_is_read_on_a_thread():
    workers = Threads(1)
    files = [bytes([number]) * 100_000 for number in range(5)]
    form = b"".join(part("files", data, f"{number}.png") for number, data in enumerate(files)) + b"--b--\r\n"
    running = asyncio.get_running_loop().run_in_executor
    with pytest.MonkeyPatch.context() as patch:
        handed_over = []
        patch.setattr(workers, "run", lambda work, *rest: handed_over.append(work) or running(None, work, *rest))
        uploads = await reader_of(Images(""))(exchange_of(form, FORM), "card", workers)
    assert [upload.data for upload in uploads] == files
    assert [upload.name for upload in uploads] == [f"{number}.png" for number in range(5)]
    assert handed_over
    workers.close()
