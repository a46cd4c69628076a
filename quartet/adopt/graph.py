"""From any ONNX file to a graph that the service can run: one file, tensors in and tensors out, distinct names."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import onnx
import onnx.inliner
import onnxruntime as ort
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.external_data_helper import uses_external_data

from service.inference.manifest import InvalidModel
from service.inference.runtime import CpuGraph, Tensor

Array = npt.NDArray[Any]

# Protocol buffers cannot be larger.
_MOST_BYTES = 2**31 - 1
# The first IR version in which inputs need not list weights.
_IR_WITHOUT = 4
# Built into the C library.
_LOCALE = "C.UTF-8"
# Exporters write these where they know no name.
_NO_NAME = re.compile(r"\W*|None|-1")
_DTYPES: dict[int, str] = {
    TensorProto.BOOL: "bool",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.STRING: "str",
}
_ELEMENTS = {dtype: element for element, dtype in _DTYPES.items()}
_UNREGISTERED = re.compile(r"(?P<domain>[\w.]*):(?P<name>\w+)\(-?\d+\) is not a registered function/op")
_NO_KERNEL = re.compile(r"Could not find an implementation for (?P<name>\w+)\((?P<opset>\d+)\)")
_OPSET = re.compile(r"[Oo]pset (\d+) (?:is under development|of domain)")
_NOISE = re.compile(
    r"^[\w.]+\.onnx: |\[ONNXRuntimeError\] : \d+ : \w+ : |Non-zero status code returned while running |Name:'[^']*' |"
    r"Status Message: |/?(?:[\w.]+/)*[\w.]+\.(?:cc|h):\d+ (?:.*?\) (?:const )?)?(?:\[with [^\]]*\] )?"
)
_IR = re.compile(r"model IR version: (\d+), max supported IR version: (\d+)")


class CannotAdopt(ValueError):
    """A graph cannot be served; the message says why, and what to do.

    Args:
        reason: the kind of the reason, in a few words that are the same for all graphs.
        message: one or two sentences.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RunFailed(Exception):
    """A graph cannot run some inputs; the message says why."""


class _NewerIR(CannotAdopt):
    """The file has a newer IR version than `most`, which ONNX Runtime reads."""

    def __init__(self, found: int, most: int) -> None:
        super().__init__(
            "opset", f"The file has IR version {found}; this ONNX Runtime reads up to {most}: export an older one."
        )
        self.most = most


class Value(NamedTuple):
    """An input or an output of a graph.

    Attributes:
        dtype: as NumPy names it; `str` for strings.
        shape: sizes, and names of open axes; None if the rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None

    @classmethod
    def of(cls, value: onnx.ValueInfoProto) -> "Value":
        """What a declaration says; its dtype is one that is served."""
        tensor = value.type.tensor_type
        shape = tuple(
            dimension.dim_value if dimension.WhichOneof("value") == "dim_value" else dimension.dim_param
            for dimension in tensor.shape.dim
        )
        return cls(value.name, _DTYPES[tensor.elem_type], shape if tensor.HasField("shape") else None)


@dataclass(frozen=True)
class Source:
    """The file as it was given.

    Attributes:
        file: its name.
        sha256: in hex.
        size: bytes.
        producer: as the file states it; may be empty.
        opsets: their versions, by domain; the domain of ONNX's own operators is empty.
        metadata: what the exporter wrote beside the graph, such as `names`.
    """

    file: str
    sha256: str
    size: int
    producer: str
    opsets: Mapping[str, int]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Loaded:
    """A graph that ONNX Runtime runs on a CPU, whose inputs and outputs are tensors of dtypes that are served.

    Attributes:
        model: the graph, with what was changed.
        source: the file.
        changes: one line for each thing that was changed.
        classes: of a ZipMap that was removed, by the name of its output; as strings.
    """

    model: ModelProto
    source: Source
    changes: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def changed(self, model: ModelProto, *changes: str) -> "Loaded":
        """The same with another graph, and what was changed in it."""
        return replace(self, model=model, changes=(*self.changes, *changes))


def load(path: Path) -> Loaded:
    """Reads an ONNX file, changes what has to be changed to serve it, and tries it in a session on the CPU.

    Changes: initializers that are listed as inputs are taken off the inputs, a ZipMap is removed (the output of its
    name becomes the tensor of probabilities), a StringNormalizer without a locale gets one, an IR version that ONNX
    Runtime does not read yet is lowered. Open axes of inputs get names where they have none.

    Raises:
        CannotAdopt: it is no ONNX file, is too large, keeps weights in other files, uses an operator, an opset or a
            type that cannot be served, or has an input of unknown rank.
    """
    model, source = _read(path)
    _refuse_external_data(model, path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _sort(model.graph)
    changes = [*_take_initializers_off(model)]
    classes, removed = _remove_zip_maps(model)
    _check_values(model.graph)
    _name_axes(model.graph)
    changes += [*removed, *set_locales(model), *_lower_ir(model, source.file)]
    return Loaded(model, source, tuple(changes), classes)


def _lower_ir(model: ModelProto, name: str) -> list[str]:
    """Tries the graph in a session, with an IR version that ONNX Runtime reads; versions differ in their dtypes."""
    try:
        open_session(model, name)
    except _NewerIR as error:
        change = f"IR version {error.most} instead of {model.ir_version}, which this ONNX Runtime does not read"
        model.ir_version = error.most
        open_session(model, name)
        return [change]
    return []


class Runner(NamedTuple):
    """A session on the CPU, which prints nothing where a run fails.

    Attributes:
        inputs: name, dtype and dimensions, as the session sees them.
        outputs: the same, in the order of the answers.
    """

    session: CpuGraph
    inputs: list[Tensor]
    outputs: list[Tensor]

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs for arrays by the name of the input.

        Raises:
            RunFailed: the graph cannot run them; the message is short.
        """
        options = ort.RunOptions()
        options.log_severity_level = 4
        try:
            return self.session.run(inputs, options)
        except Exception as error:  # the runtime's exceptions share no public base class
            raise RunFailed(_short(str(error))) from None


def open_session(model: ModelProto, name: str, threads: int = 1) -> Runner:
    """A session on the CPU: `run` takes arrays by the name of the input, and gives the outputs in the graph's order.

    Args:
        name: of the file, for messages.
        threads: of the session.

    Raises:
        CannotAdopt: ONNX Runtime does not take the graph; the message names the operator or the opset.
    """
    try:
        session = CpuGraph(model.SerializeToString(), name, threads)
    except InvalidModel as error:
        raise _explained(str(error)) from None
    return Runner(session, session.inputs, session.outputs)


def inputs_of(model: ModelProto) -> tuple[Value, ...]:
    """The inputs of a graph, in its order."""
    return tuple(map(Value.of, model.graph.input))


def outputs_of(model: ModelProto) -> tuple[Value, ...]:
    """The outputs of a graph, in its order, as they are declared."""
    return tuple(map(Value.of, model.graph.output))


def declare(name: str, dtype: str, shape: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    """The declaration of an input or an output; open axes have names."""
    return helper.make_tensor_value_info(name, _ELEMENTS[dtype], shape)


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, including those of the bodies of conditions and loops."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from nodes(body)


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _read(path: Path) -> tuple[ModelProto, Source]:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise CannotAdopt("not ONNX", f"{path} is no file: give the path of an ONNX file.")
        if size > _MOST_BYTES:
            raise CannotAdopt(
                "too large",
                f"{path} has {size / 1e9:.1f} GB; an ONNX file may have 2 GB: export it in float16 or int8.",
            )
        data = path.read_bytes()
    except OSError as error:
        raise CannotAdopt("not ONNX", f"{path} cannot be read: {error.strerror}.") from None
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf's DecodeError is in a package that onnx brings
        model.Clear()
    if not model.ir_version or not model.HasField("graph"):
        raise CannotAdopt("not ONNX", f"{path} is no ONNX file, or it is cut off.")
    producer = " ".join(part for part in (model.producer_name, model.producer_version) if part)
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    metadata = {each.key: each.value for each in model.metadata_props}
    return model, Source(path.name, hashlib.sha256(data).hexdigest(), size, producer, opsets, metadata)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == AttributeProto.TENSORS:
                yield from attribute.tensors
        for body in bodies(node):
            yield from _tensors(body)


def _refuse_external_data(model: ModelProto, path: Path) -> None:
    files = sorted(
        {
            entry.value
            for tensor in _tensors(model.graph)
            if uses_external_data(tensor)
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )
    if files:
        raise CannotAdopt(
            "external data",
            f"{path} keeps weights in another file ({', '.join(files[:3])}). Put them into one file, up to 2 GB: "
            f"python -c \"import onnx; onnx.save(onnx.load('{path}'), 'whole.onnx')\".",
        )


def _take_initializers_off(model: ModelProto) -> Iterator[str]:
    """Takes weights off the inputs, where files before IR version 4 list them."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    kept = [value for value in graph.input if value.name not in weights]
    if count := len(graph.input) - len(kept):
        del graph.input[:]
        graph.input.extend(kept)
        model.ir_version = max(model.ir_version, _IR_WITHOUT)
        yield f"{count} initializer{'s' if count > 1 else ''} taken off the inputs"


def _sort(graph: GraphProto) -> None:
    """Puts every node after those whose outputs it takes; converters append nodes anywhere."""
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needed = {
        index: {producers[name] for name in _taken(node) if name in producers} for index, node in enumerate(graph.node)
    }
    try:
        order = list(TopologicalSorter(needed).static_order())
    except CycleError:
        raise CannotAdopt("invalid graph", "The nodes of the graph form a cycle.") from None
    if all(index < later for later, earlier in needed.items() for index in earlier):
        return
    sorted_nodes = [NodeProto() for _ in order]
    for node, index in zip(sorted_nodes, order, strict=True):
        node.CopyFrom(graph.node[index])
    del graph.node[:]
    graph.node.extend(sorted_nodes)


def _taken(node: NodeProto) -> Iterator[str]:
    """The names that a node takes, also inside of its bodies."""
    yield from node.input
    for body in bodies(node):
        for inner in nodes(body):
            yield from inner.input


def _remove_zip_maps(model: ModelProto) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Makes tensors of outputs that a ZipMap turns into sequences of maps; returns its classes by output."""
    graph = model.graph
    outputs = {value.name: value for value in graph.output}
    classes, changes = {}, []
    for node in list(graph.node):
        if node.op_type != "ZipMap" or node.output[0] not in outputs:
            continue
        labels = [
            each.decode() if isinstance(each, bytes) else str(each)
            for attribute in node.attribute
            for each in helper.get_attribute_value(attribute)
        ]
        name = node.output[0]
        outputs[name].CopyFrom(declare(name, "float32", ["batch", len(labels)]))
        # Of columns in float64 the probabilities are too.
        node.CopyFrom(helper.make_node("Cast", [node.input[0]], [name], name=node.name, to=TensorProto.FLOAT))
        classes[name] = tuple(labels)
        changes.append(f"output {name}: a tensor of {len(labels)} probabilities instead of a sequence of maps (ZipMap)")
    return classes, changes


def set_locales(model: ModelProto) -> list[str]:
    """Names the locale of a StringNormalizer that states none, and returns a line that says so.

    ONNX Runtime's default is missing on many machines.
    """
    unset = [
        node
        for node in nodes(model.graph)
        if node.op_type == "StringNormalizer" and not any(each.name == "locale" for each in node.attribute)
    ]
    for node in unset:
        node.attribute.append(helper.make_attribute("locale", _LOCALE))
    return [f"StringNormalizer: the locale {_LOCALE}, since the default is missing on many machines"] if unset else []


def _check_values(graph: GraphProto) -> None:
    """Raises CannotAdopt for an input or output that is no tensor of a dtype and a rank that are served."""
    for what, values in (("input", graph.input), ("output", graph.output)):
        if not values:
            raise CannotAdopt(f"no {what}", f"The graph has no {what}s, so there is nothing to serve.")
        names = [value.name for value in values]
        if "" in names:
            raise CannotAdopt("names", f"An {what} of the graph has no name: name it in the export.")
        if twice := {name for name in names if names.count(name) > 1}:
            raise CannotAdopt("names", f"Two {what}s of the graph are called {sorted(twice)[0]!r}: rename one.")
        for value in values:
            _check_type(what, value)
            if what == "input" and not value.type.tensor_type.HasField("shape"):
                raise CannotAdopt(
                    "unknown rank",
                    f"The input {value.name!r} states no shape, not even how many axes it has: export it with a shape, "
                    "in which axes may be open.",
                )
    if both := {value.name for value in graph.input} & {value.name for value in graph.output}:
        # The manifest and the golden file know tensors by their names.
        raise CannotAdopt("names", f"{sorted(both)[0]!r} is an input and an output: pass it through an Identity.")


def _check_type(what: str, value: onnx.ValueInfoProto) -> None:
    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        name = kind.removesuffix("_type").replace("_", " ")
        raise CannotAdopt(
            f"{name} type",
            f"The {what} {value.name!r} is of the type {name}; only tensors can be served: end the export before it, "
            "or join it into a tensor.",
        )
    element = value.type.tensor_type.elem_type
    if element not in _DTYPES:
        name = TensorProto.DataType.Name(element).lower()
        raise CannotAdopt(
            "dtype", f"The {what} {value.name!r} is {name}, which the protocol cannot carry: cast it inside the graph."
        )


def _name_axes(graph: GraphProto) -> None:
    """Gives names to the open axes of inputs that have none, and opens axes of impossible sizes."""
    for value in graph.input:
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.WhichOneof("value") == "dim_value" and dimension.dim_value >= 0:
                continue
            if _NO_NAME.fullmatch(dimension.dim_param):
                dimension.dim_param = f"{value.name}_{axis}"


def _explained(message: str) -> CannotAdopt:
    """What ONNX Runtime's refusal means."""
    if found := _UNREGISTERED.search(message):
        name, domain = found["name"], found["domain"]
        where = f"the domain {domain}" if domain else "ONNX's own domain"
        return CannotAdopt(
            "operator",
            f"The graph uses the operator {name} of {where}, which ONNX Runtime does not know here: export without "
            "custom operators.",
        )
    if found := _IR.search(message):
        return _NewerIR(int(found[1]), int(found[2]))
    if found := _OPSET.search(message):
        return CannotAdopt(
            "opset", f"The graph uses opset {found[1]}, which this ONNX Runtime does not know: export an older opset."
        )
    if found := _NO_KERNEL.search(message):
        return CannotAdopt(
            "operator",
            f"ONNX Runtime has no CPU kernel for the operator {found['name']} (opset {found['opset']}) with these "
            "types: export a newer opset (7 or later), or cast its inputs to float32 in the export.",
        )
    return CannotAdopt("invalid graph", f"ONNX Runtime does not take the graph: {_short(message)}")


def _short(message: str) -> str:
    """ONNX Runtime's message without the places in its own code."""
    return " ".join(_NOISE.sub("", message).split())
