"""The checks of the protocol over gRPC, and of Triton's extensions; they need the extra `grpc`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from quartet.conformance.suite import Failed, NotOffered, Session, Suite, check_same, need
from quartet.conformance.tensors import Tensor, parse_binary
from quartet.protocol import inference_pb2

CHECKS = Suite("gRPC: ")
check = CHECKS.check

pb: Any = inference_pb2  # the generated module has no types

_SERVICE = "/inference.GRPCInferenceService"
_SECONDS = 60
_SHOWN = 1_000
# The response of each call.
_RESPONSES = {
    "ServerLive": pb.Live,
    "ServerReady": pb.Ready,
    "ServerMetadata": pb.Server,
    "ModelReady": pb.Ready,
    "ModelMetadata": pb.Model,
    "ModelConfig": pb.ConfigurationResponse,
    "ModelStatistics": pb.Statistics,
    "ModelInfer": pb.InferResponse,
    "RepositoryIndex": pb.Index,
}
# The field of `Contents` that holds the values of a datatype; FP16 has none.
_FIELDS = {
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
}


class Calls:
    """The calls of a server.

    Args:
        address: HOST:PORT, without TLS.
        metadata: of every call, such as a key.
    """

    def __init__(self, address: str, metadata: Mapping[str, str]) -> None:
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("receive", "send")]
        self._channel = grpc.insecure_channel(address, unlimited)
        self._metadata = [(name.lower(), value) for name, value in metadata.items()]
        self.exchanges: list[str] = []

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def call(self, name: str, request: Any) -> Any:
        """The response; raises NotOffered if the server has no such call, and Failed if it fails."""
        try:
            return self.attempt(name, request)
        except grpc.RpcError as error:
            why = f"{name}: {error.code().name} {error.details()}"
            raise (NotOffered(why) if error.code() is grpc.StatusCode.UNIMPLEMENTED else Failed(why)) from None

    def attempt(self, name: str, request: Any) -> Any:
        """The response; raises grpc.RpcError, also for a response that cannot be read."""
        send = self._channel.unary_unary(
            f"{_SERVICE}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=_RESPONSES[name].FromString,
        )
        try:
            response = send(request, timeout=_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            self.exchanges.append(f"> {name} {_shown(request)}\n< {error.code().name} {error.details()}")
            raise
        self.exchanges.append(f"> {name} {_shown(request)}\n< {_shown(response)}")
        return response

    def refused(self, what: str, name: str, request: Any, *codes: str) -> None:
        """Raises Failed unless a call is refused with one of the codes and a message."""
        try:
            self.attempt(name, request)
        except grpc.RpcError as error:
            if error.code().name not in codes:
                raise Failed(f"{what}: {error.code().name}, expected {' or '.join(codes)}") from None
            if not error.details():
                raise Failed(f"{what}: {error.code().name} without a message") from None
        else:
            raise Failed(f"{what}: answered, expected {' or '.join(codes)}")


def _shown(message: Any) -> str:
    text = " ".join(str(message).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({message.ByteSize()} bytes)"


def _request(session: Session, *, raw: bool = True, **more: Any) -> Any:
    """An inference request with the inputs of the session."""
    request = pb.InferRequest(model_name=session.model, model_version=session.version, **more)
    for each in session.inputs:
        tensor = request.inputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        if raw:
            request.raw_input_contents.append(each.to_binary()[1])
        elif each.datatype not in _FIELDS:
            raise NotOffered(f"{each.datatype} has no typed contents")
        else:
            values = [value.encode() for value in each.values] if each.datatype == "BYTES" else each.values
            getattr(tensor.contents, _FIELDS[each.datatype]).extend(values)
    return request


def _outputs(response: Any) -> dict[str, Tensor]:
    """The outputs of a response by name, raw or typed."""
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise Failed(f"raw_output_contents has {len(raw)} tensors for {len(response.outputs)} outputs")
    outputs = {}
    for index, each in enumerate(response.outputs):
        if raw:
            values = parse_binary(each.datatype, raw[index])
        else:
            values = list(getattr(each.contents, _FIELDS[each.datatype]))
            values = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]
        need(len(values) == math.prod(each.shape), f"the output {each.name!r} has other values than shape")
        outputs[each.name] = Tensor(each.name, each.datatype, tuple(each.shape), values)
    return outputs


def _which(session: Session) -> Any:
    return pb.Which(name=session.model, version=session.version)


@check("server live")
def _(session: Session) -> None:
    need(session.calls.call("ServerLive", pb.Empty()).live, "live is false")


@check("server ready")
def _(session: Session) -> None:
    need(session.calls.call("ServerReady", pb.Empty()).ready, "ready is false")


@check("server metadata")
def _(session: Session) -> None:
    server = session.calls.call("ServerMetadata", pb.Empty())
    need(server.name and server.version, "it has no name, or no version")


@check("model ready")
def _(session: Session) -> None:
    need(session.calls.call("ModelReady", _which(session)).ready, "ready is false")


@check("model metadata, as over REST")
def _(session: Session) -> None:
    model, described = session.calls.call("ModelMetadata", _which(session)), session.metadata
    need(model.name == session.model, f"its name is {model.name!r}")
    for part in ("inputs", "outputs"):
        found = [(each.name, each.datatype, list(each.shape)) for each in getattr(model, part)]
        over_rest = [(each["name"], each["datatype"], list(map(int, each["shape"]))) for each in described[part]]
        need(found == over_rest, f"{part} are {found}, over REST {over_rest}")


@check("inference, raw contents")
def _(session: Session) -> None:
    response = session.calls.call("ModelInfer", _request(session))
    need(response.model_name == session.model, f"model_name is {response.model_name!r}")
    outputs = _outputs(response)
    need(outputs.keys() == session.reference.keys(), f"the outputs are {', '.join(outputs)}")
    check_same(outputs, session.reference)


@check("inference, typed contents", required=False)
def _(session: Session) -> None:
    check_same(_outputs(session.calls.call("ModelInfer", _request(session, raw=False))), session.reference)


@check("the id is repeated")
def _(session: Session) -> None:
    response = session.calls.call("ModelInfer", _request(session, id="conformance-1"))
    need(response.id == "conformance-1", f"the id is {response.id!r}")


@check("only the outputs that are asked for")
def _(session: Session) -> None:
    name = session.metadata["outputs"][-1]["name"]
    outputs = _outputs(session.calls.call("ModelInfer", _request(session, outputs=[{"name": name}])))
    need(list(outputs) == [name], f"the outputs are {', '.join(outputs)}")
    check_same(outputs, session.reference)


@check("a version of the model", required=False)
def _(session: Session) -> None:
    versions = session.calls.call("ModelMetadata", pb.Which(name=session.model)).versions
    if not versions:
        raise NotOffered("the metadata names no versions")
    need(session.calls.call("ModelReady", pb.Which(name=session.model, version=versions[-1])).ready, "ready is false")
    request = _request(session)
    request.model_version = versions[-1]
    response = session.calls.call("ModelInfer", request)
    need(response.model_version == versions[-1], f"model_version is {response.model_version!r}")


@check("unknown model: NOT_FOUND or INVALID_ARGUMENT")
def _(session: Session) -> None:
    request = _request(session)
    request.model_name = "no-such-model"
    for name, sent in (("ModelMetadata", pb.Which(name="no-such-model")), ("ModelInfer", request)):
        session.calls.refused(name, name, sent, "NOT_FOUND", "INVALID_ARGUMENT")


@check("malformed requests: INVALID_ARGUMENT")
def _(session: Session) -> None:
    failures = []
    for what, spoil in _SPOILT.items():
        request = _request(session)
        spoil(request)
        try:
            session.calls.refused(what, "ModelInfer", request, "INVALID_ARGUMENT")
        except Failed as error:
            failures.append(str(error))
    if failures:
        raise Failed("; ".join(failures))


def _without_inputs(request: Any) -> None:
    del request.inputs[:], request.raw_input_contents[:]


def _renamed(request: Any) -> None:
    request.inputs[0].name = "no-such-input"


def _another_datatype(request: Any) -> None:
    request.inputs[0].datatype = "FP64" if request.inputs[0].datatype != "FP64" else "INT8"


def _negative_axis(request: Any) -> None:
    request.inputs[0].shape[0] = -1


def _truncated(request: Any) -> None:
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]


def _more_tensors(request: Any) -> None:
    request.raw_input_contents.append(b"\0")


def _more_axes(request: Any) -> None:
    request.inputs[0].shape.extend((1, 1))


def _unknown_output(request: Any) -> None:
    request.outputs.add(name="no-such-output")


_SPOILT: dict[str, Callable[[Any], None]] = {
    "no inputs": _without_inputs,
    "an input of another name": _renamed,
    "another datatype": _another_datatype,
    "a negative axis": _negative_axis,
    "fewer bytes than the shape says": _truncated,
    "more tensors than inputs": _more_tensors,
    "more axes than the model has": _more_axes,
    "an unknown output": _unknown_output,
}


@check("the server still answers")
def _(session: Session) -> None:
    check_same(_outputs(session.calls.call("ModelInfer", _request(session))), session.reference)


@check("classification", required=False)
def _(session: Session) -> None:
    if "classification" not in session.calls.call("ServerMetadata", pb.Empty()).extensions:
        raise NotOffered("the server's extensions do not name it")
    name = next((each["name"] for each in session.metadata["outputs"] if each["datatype"].startswith("FP")), None)
    if name is None:
        raise NotOffered("the model has no output of numbers")
    asked = [{"name": name, "parameters": {"classification": {"int64_param": 1}}}]
    (output,) = _outputs(session.calls.call("ModelInfer", _request(session, outputs=asked))).values()
    need(output.datatype == "BYTES", f"the output is {output.datatype}")
    need(all(len(value.split(":")) in (2, 3) for value in output.values), "an element is not VALUE:INDEX[:LABEL]")


@check("model configuration", required=False)
def _(session: Session) -> None:
    config = session.calls.call("ModelConfig", _which(session)).config
    need(config.name == session.model, f"its name is {config.name!r}")
    for part in ("input", "output"):
        names = {each.name for each in getattr(config, part)}
        need(names == {each["name"] for each in session.metadata[f"{part}s"]}, f"{part} are {', '.join(names)}")


@check("statistics", required=False)
def _(session: Session) -> None:
    found = session.calls.call("ModelStatistics", _which(session)).model_stats
    need(session.model in [each.name for each in found], "the model is not in it")


@check("repository index", required=False)
def _(session: Session) -> None:
    models = session.calls.call("RepositoryIndex", pb.IndexRequest()).models
    need(session.model in [each.name for each in models], "the model is not in it")


@check("sequences are refused, or served", required=False)
def _(session: Session) -> None:
    parameters = {
        "sequence_id": {"int64_param": 7},
        "sequence_start": {"bool_param": True},
        "sequence_end": {"bool_param": True},
    }
    request = _request(session, parameters=parameters)
    try:
        session.calls.attempt("ModelInfer", request)
    except grpc.RpcError:
        session.calls.refused("a sequence for a model without", "ModelInfer", request, "INVALID_ARGUMENT")
    else:
        raise NotOffered("the parameters are ignored, or the model has sequences")
