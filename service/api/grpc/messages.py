"""Inference requests and responses of the Open Inference Protocol as protobuf messages."""

from collections.abc import Mapping, Sequence
from typing import Any

from quartet.protocol import inference_pb2
from service.api.v2.inference import Given, Inference, ask, output_of, read_inputs
from service.api.v2.tensors import Array, BadTensor, datatype_of, from_bytes, from_json, to_bytes
from service.errors import InvalidRequest
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


def read_request(request: Any, manifest: ManifestBase, most: int) -> Inference:
    """A request that was checked against the model, whose largest batch is `most`; raises InvalidRequest."""
    try:
        return _checked(request, manifest, most)
    except BadTensor as error:
        raise InvalidRequest(f"{error}.") from None


def write_response(asked: Inference, manifest: ManifestBase, version: str, rows: Sequence[tuple[Any, ...]]) -> Any:
    """The response; its tensors are raw."""
    response = pb.InferResponse(model_name=manifest.name, model_version=version, id=asked.id)
    for wanted in asked.outputs:
        spec, array = output_of(wanted, manifest, rows)
        response.outputs.add(name=spec.name, datatype=datatype_of(array), shape=array.shape)
        response.raw_output_contents.append(to_bytes(array))
    return response


def parameters_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values of parameters, each of which is one of several types."""
    return {name: getattr(value, field) for name, value in parameters.items() if (field := value.WhichOneof("choice"))}


def _checked(request: Any, manifest: ManifestBase, most: int) -> Inference:
    raw, given = request.raw_input_contents, request.inputs
    if raw and len(raw) != len(given):
        raise BadTensor(f"raw_input_contents has {len(raw)} tensors for {len(given)} inputs")

    def read(index: int, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
        each = given[index]
        if raw:
            if each.HasField("contents"):
                raise BadTensor(f"input {each.name!r}: has `contents` beside raw_input_contents")
            return from_bytes(each.name, memoryview(raw[index]), spec.dtype, shape)
        if each.datatype not in _FIELDS:
            raise BadTensor(f"input {each.name!r}: {each.datatype} is sent in raw_input_contents alone")
        return from_json(each.name, list(getattr(each.contents, _FIELDS[each.datatype])), spec.dtype, shape)

    described = [Given(each.name, each.datatype, list(each.shape), each.parameters) for each in given]
    return ask(
        manifest,
        read_inputs(manifest, described, most, read),
        id=request.id,
        outputs=[(each.name, parameters_of(each.parameters)) for each in request.outputs],
        parameters=parameters_of(request.parameters),
        binary=True,
    )
