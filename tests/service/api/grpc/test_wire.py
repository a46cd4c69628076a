"""Large fields are taken out of a message without copies; what is no message is refused, whatever its bytes are."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from service.api.grpc.messages import pb
from service.api.grpc.wire import field_head, split

RAW = pb.InferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER


@given(st.lists(st.binary(max_size=300), max_size=5), st.text(max_size=200), st.integers(0, 2**64 - 1))
def test_a_message_is_split(tensors: list[bytes], text: str, number: int):
    request = pb.InferRequest(model_name=text, raw_input_contents=tensors, parameters={text: {"uint64_param": number}})
    kept, taken = split(request.SerializeToString(), RAW)
    assert taken == tensors
    del request.raw_input_contents[:]
    assert pb.InferRequest.FromString(kept) == request


def test_the_large_field_may_stand_anywhere():
    name = pb.InferRequest(model_name="a").SerializeToString()
    tensor = pb.InferRequest(raw_input_contents=[b"x" * 200]).SerializeToString()
    kept, taken = split(tensor + name + tensor, RAW)
    assert (kept, taken) == (name, [b"x" * 200] * 2)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_refused(content: bytes):
    try:
        kept, taken = split(content, RAW)
    except DecodeError:
        return
    assert len(kept) + sum(map(len, taken)) <= len(content)


@pytest.mark.parametrize(
    "content", [b"\x3a", b"\x3a\x05abc", b"\x80" * 20, b"\x3a\xff\xff\xff\xff\xff\xff\x01", b"\x0f"]
)
def test_malformed_messages(content: bytes):
    with pytest.raises(DecodeError):
        split(content, RAW)


def test_a_message_of_many_fields_is_refused_at_once():
    with pytest.raises(DecodeError, match="2048 fields"):
        split(b"\x08\x00" * 10_000_000, RAW)


def test_the_fields_of_nested_messages_count():
    many = {str(index): {"bool_param": True} for index in range(3000)}
    request = pb.InferRequest(inputs=[{"parameters": many}])
    split(request.SerializeToString(), RAW)
    with pytest.raises(DecodeError, match="2048 fields"):
        split(request.SerializeToString(), RAW, (pb.InferRequest.INPUTS_FIELD_NUMBER,))


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_a_field_is_written_as_protobuf_writes_it(field: int, content: bytes):
    assert split(field_head(field, len(content)) + content, field) == (b"", [content])
    assert field_head(7, 300) + bytes(300) == pb.InferRequest(raw_input_contents=[bytes(300)]).SerializeToString()
