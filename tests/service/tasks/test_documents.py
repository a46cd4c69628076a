"""JSON documents are measured before they are built."""

import time

import pytest
from pydantic import BaseModel

from service.errors import BodyTooLarge, InvalidRequest
from service.tasks.documents import parse_json, parse_model

LARGE = 200_000  # bytes: over what is parsed without being looked at


class Document(BaseModel):
    numbers: list[int]


@pytest.mark.parametrize(
    "body",
    [b"[" + b"[]," * LARGE + b"[]]", b'["' + b'","' * LARGE + b'"]', b'{"' + b'":1,"' * LARGE + b'":1}', b"[" * LARGE],
    ids=["arrays", "strings", "keys", "nested"],
)
def test_what_would_become_too_many_objects_is_refused_at_once(body: bytes):
    began = time.process_time()
    with pytest.raises(BodyTooLarge, match="more than 1000"):
        parse_json(body, strings=1000, values=1000)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "text", ["a" * LARGE, '\\"[,{' * LARGE, "\\\\" * LARGE, '\\\\\\"' * LARGE, ",[{" * LARGE, "\\u00e4" * LARGE]
)
def test_what_is_inside_of_a_string_is_no_value(text: str):
    body = f'{{"texts": ["{text}", "b"]}}'.encode()
    document = parse_json(body, strings=3, values=4)
    assert document["texts"][1] == "b"
    with pytest.raises(BodyTooLarge, match="more than 2 strings"):
        parse_json(body, strings=2, values=4)
    with pytest.raises(BodyTooLarge, match="more than 2 values"):
        parse_json(body, strings=3, values=2)


def test_small_documents_are_parsed_as_they_are():
    assert parse_json(b"[[],[],[]]", strings=0, values=1) == [[], [], []]
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        parse_json(b"[", strings=10, values=10)


def test_a_model_is_measured_too():
    body = b'{"numbers": [' + b"1," * LARGE + b"1]}"
    with pytest.raises(BodyTooLarge):
        parse_model(body, Document)
    assert len(parse_model(body, Document, values=LARGE + 10).numbers) == LARGE + 1


@pytest.mark.parametrize("size", range(1, 9))
def test_slices_cut_no_escape_in_two(size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.tasks.documents.SLICE", size)
    monkeypatch.setattr("service.tasks.documents._SMALL_BYTES", 0)
    body = rb'{"a\\": "\\\",[{", "b\"": ["\\\\", "\u00e4"]}'
    assert parse_json(body, strings=5, values=6) == {"a\\": '\\",[{', 'b"': ["\\\\", "ä"]}
    with pytest.raises(BodyTooLarge, match="more than 4 strings"):
        parse_json(body, strings=4, values=6)
    with pytest.raises(BodyTooLarge, match="more than 3 values"):
        parse_json(body, strings=5, values=3)
