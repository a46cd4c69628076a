"""Inference requests and responses of the Open Inference Protocol as protobuf messages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from quartet.protocol import inference_pb2
from service.api.grpc.wire import field_head, split
from service.api.v2.inference import MOST_TENSORS, MOST_VALUES, Given, Inference, ask, output_of, read_inputs
from service.api.v2.tensors import MOST_AXES, Array, BadTensor, datatype_of, from_bytes, from_json, to_bytes
from service.errors import BodyTooLarge, InvalidRequest
from service.inference.cards import ManifestBase, TensorSpec

pb: Any = inference_pb2  # the generated module has no types

# The field of `Contents` that holds the values of a datatype; FP16 has none.
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


# Two million values of eight bytes. Integers of one byte take eight in memory.
_MOST_FIELD_BYTES = 16_000_000 + (1 << 16)
_MOST_SMALL_BYTES = 1 << 14
_MOST_PARAMETERS = 256
_SEND_RAW = "send them in raw_input_contents"


class Message(NamedTuple):
    """A ModelInferRequest.

    Attributes:
        model_name: of the model.
        model_version: of it; empty for the default.
        fields: all but the raw tensors.
        raw: `raw_input_contents`, as views of the message: protobuf would copy them twice.
    """

    model_name: str
    model_version: str
    fields: Any
    raw: list[memoryview]


def read_message(content: bytes) -> Message:
    """A message from its bytes.

    Raises:
        InvalidRequest: it is none.
        BodyTooLarge: it has too many values beside the raw tensors.
    """
    try:
        fields, raw = split(
            content,
            pb.InferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER,
            (pb.InferRequest.INPUTS_FIELD_NUMBER, pb.InferRequest.OUTPUTS_FIELD_NUMBER),
        )
    except DecodeError as error:
        raise _unreadable(error) from None
    if len(fields) > _MOST_FIELD_BYTES:
        raise BodyTooLarge(f"The message has over {_MOST_FIELD_BYTES} bytes beside raw_input_contents: {_SEND_RAW}.")
    request = _parse(pb.InferRequest, fields)
    return Message(request.model_name, request.model_version, request, raw)


def read_small(kind: Any, content: bytes) -> Any:
    """A message of a class without tensors.

    Raises:
        InvalidRequest: it is none.
        BodyTooLarge: it is larger than any of them.
    """
    if len(content) > _MOST_SMALL_BYTES:
        raise BodyTooLarge(f"The message is over {_MOST_SMALL_BYTES} bytes, which this call does not need.")
    return _parse(kind, content)


def read_request(message: Message, manifest: ManifestBase, most: int) -> Inference:
    """A request that was checked against the model, whose largest batch is `most`; raises InvalidRequest."""
    try:
        return _checked(message.fields, message.raw, manifest, most)
    except BadTensor as error:
        raise InvalidRequest(f"{error}.") from None


def write_response(asked: Inference, manifest: ManifestBase, version: str, rows: Sequence[tuple[Any, ...]]) -> bytes:
    """The bytes of a ModelInferResponse; its tensors are raw."""
    response = pb.InferResponse(model_name=manifest.name, model_version=version, id=asked.id)
    raw: list[bytes | memoryview] = []
    for wanted in asked.outputs:
        spec, array = output_of(wanted, manifest, rows)
        response.outputs.add(name=spec.name, datatype=datatype_of(array), shape=array.shape)
        data = to_bytes(array)
        raw += (field_head(pb.InferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER, len(data)), data)
    return b"".join([response.SerializeToString(), *raw])


def parameters_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values of parameters, each of which is one of several types."""
    return {name: getattr(value, field) for name, value in parameters.items() if (field := value.WhichOneof("choice"))}


def _parse(kind: Any, content: bytes) -> Any:
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise _unreadable(error) from None


def _unreadable(error: DecodeError) -> InvalidRequest:
    return InvalidRequest(f"The message cannot be read ({error}).")


def _checked(request: Any, raw: Sequence[memoryview], manifest: ManifestBase, most: int) -> Inference:
    given = request.inputs
    _check_counts(request)
    if raw and len(raw) != len(given):
        raise BadTensor(f"raw_input_contents has {len(raw)} tensors for {len(given)} inputs")

    def read(index: int, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
        each = given[index]
        if raw:
            if each.HasField("contents"):
                raise BadTensor(f"input {each.name!r}: has `contents` beside raw_input_contents")
            return from_bytes(each.name, raw[index], spec.dtype, shape)
        if each.datatype not in _FIELDS:
            raise BadTensor(f"input {each.name!r}: {each.datatype} is sent in raw_input_contents alone")
        values = getattr(each.contents, _FIELDS[each.datatype])
        if len(values) > MOST_VALUES:
            raise BadTensor(f"input {each.name!r}: has over {MOST_VALUES} values: {_SEND_RAW}")
        return from_json(each.name, list(values), spec.dtype, shape)

    described = [Given(each.name, each.datatype, each.shape[: MOST_AXES + 1], each.parameters) for each in given]
    return ask(
        manifest,
        read_inputs(manifest, described, most, read),
        id=request.id,
        outputs=[(each.name, parameters_of(each.parameters)) for each in request.outputs],
        parameters=parameters_of(request.parameters),
        binary=True,
    )


def _check_counts(request: Any) -> None:
    """Raises BadTensor if a request has more parts than the loops over them should see."""
    for what, parts, most in (
        ("inputs", request.inputs, MOST_TENSORS),
        ("outputs", request.outputs, MOST_TENSORS),
        ("parameters", request.parameters, _MOST_PARAMETERS),
        *(("parameters", each.parameters, _MOST_PARAMETERS) for each in request.inputs[:MOST_TENSORS]),
        *(("parameters", each.parameters, _MOST_PARAMETERS) for each in request.outputs[:MOST_TENSORS]),
    ):
        if len(parts) > most:
            raise BadTensor(f"the request has {len(parts)} {what}; at most {most} are accepted")
