"""Inference requests and responses of the Open Inference Protocol, as JSON with or without binary tensors."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.api.v2.tensors import (
    Array,
    BadTensor,
    check_shape,
    classify,
    datatype,
    datatype_of,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)
from service.errors import InvalidRequest, truncate
from service.inference.cards import ManifestBase, TensorSpec
from service.inference.rows import Rows
from service.tasks.documents import parse_json

# The most values in JSON, or in typed contents of gRPC; binary tensors take a tenth of the time.
MOST_VALUES = 2_000_000
MOST_TENSORS = 256
# The most values of a response that `classification` names; each takes a microsecond.
_MOST_NAMED = 200_000
_MOST_TIMEOUT = 2**63
_SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")

_Parameters = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    parameters: _Parameters = {}


class _Input(_Part):
    name: str
    shape: list[Any]
    datatype: str
    data: Any = None


class _Output(_Part):
    name: str


class _Request(_Part):
    id: str = ""
    inputs: Annotated[list[_Input], Field(max_length=MOST_TENSORS)]
    outputs: Annotated[list[_Output], Field(max_length=MOST_TENSORS)] = []


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a request asks for.

    Attributes:
        index: of the model's output.
        classes: how many of the largest values to name; 0 for the tensor itself.
        binary: whether it is sent as binary data.
    """

    index: int
    classes: int
    binary: bool


@dataclass(frozen=True, slots=True)
class Inference:
    """A request that was checked against the model.

    Attributes:
        id: that the response repeats.
        inputs: an array for each input of the model, in its order; all with the same number of items.
        batched: whether the first axis of the arrays is the item; otherwise they are one item.
        outputs: that are asked for, in the order of the response.
        timeout: seconds that the caller waits; None for as long as the service allows.
        background: whether it may be late.
    """

    id: str
    inputs: tuple[Array, ...]
    batched: bool
    outputs: tuple[Wanted, ...]
    timeout: float | None = None
    background: bool = False

    @property
    def count(self) -> int:
        """The number of items."""
        return len(self.inputs[0]) if self.batched else 1

    @property
    def size(self) -> int:
        """The bytes of the inputs, without those of strings."""
        return sum(array.nbytes for array in self.inputs)

    @property
    def items(self) -> Sequence[Any]:
        """The items as `CallScope.infer` takes them."""
        if not self.batched:
            return [self.inputs[0] if len(self.inputs) == 1 else self.inputs]
        return Rows(self.inputs)


def read_request(body: bytes, header_length: int | None, manifest: ManifestBase, most: int) -> Inference:
    """Reads a request in JSON, after which binary tensors may follow.

    Args:
        body: decompressed.
        header_length: bytes of the JSON; 0 if the whole body is the only input; None if it is all JSON.
        manifest: of the model.
        most: the largest batch.

    Raises:
        InvalidRequest: it is not as the protocol says, or does not fit the model.
        BodyTooLarge: its JSON holds too many values.
    """
    if header_length == 0:
        return _raw(body, manifest)
    if header_length is not None and header_length > len(body):
        raise InvalidRequest(f"Inference-Header-Content-Length is {header_length}, but the body has {len(body)} bytes.")
    end = len(body) if header_length is None else header_length
    document = parse_json(body[:end] if end < len(body) else body, strings=MOST_VALUES, values=MOST_VALUES)
    try:
        request = _Request.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = truncate(".".join(str(part) for part in first["loc"])) or "the request"
        raise InvalidRequest(f"{where}: {first['msg']}.") from None
    blobs = _Blobs(memoryview(body)[end:] if header_length is not None else None)
    try:
        return _checked(request, blobs, manifest, most)
    except BadTensor as error:
        raise InvalidRequest(f"{error}.") from None


def ask(
    manifest: ManifestBase,
    inputs: Sequence[Array],
    *,
    id: str,  # noqa: A002 - the protocol's name
    outputs: Sequence[tuple[str, _Parameters]],
    parameters: _Parameters,
    binary: bool,
) -> Inference:
    """What a request asks for, whose inputs were read already.

    Args:
        manifest: of the model.
        inputs: in its order.
        id: of the request.
        outputs: names and parameters of those that are asked for; empty for all.
        parameters: of the request.
        binary: whether outputs are binary unless they say otherwise.

    Raises:
        BadTensor: an output or a parameter is not possible.
    """
    if manifest.batched and len({len(array) for array in inputs}) > 1:
        raise BadTensor(f"the inputs have different numbers of items: {', '.join(str(len(each)) for each in inputs)}")
    timeout, background = _schedule(parameters)
    indices = {spec.name: index for index, spec in enumerate(manifest.outputs)}
    wanted = []
    for name, own in outputs or [(name, {}) for name in indices]:
        if name not in indices:
            raise BadTensor(f"the model has no output {truncate(name)!r}; it has {', '.join(indices)}")
        if any(key.startswith("shared_memory") for key in own):
            raise BadTensor(f"output {name!r}: shared memory is not supported")
        classes = own.get("classification", 0)
        if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0:
            raise BadTensor(f"output {name!r}: `classification` must be a whole number")
        if classes and manifest.outputs[indices[name]].dtype == "str":
            raise BadTensor(f"output {name!r}: holds strings, which `classification` cannot order")
        sent = own.get("binary_data", binary)
        if not isinstance(sent, bool):
            raise BadTensor(f"output {name!r}: `binary_data` must be true or false")
        wanted.append(Wanted(indices[name], classes, sent))
        size = math.prod(shape := manifest.outputs[indices[name]].shape[manifest.batched :])
        if -1 not in shape:  # otherwise it is known once the model has run
            _check_size(name, wanted[-1], len(inputs[0]) if manifest.batched else 1, size)
    if len({each.index for each in wanted}) < len(wanted):
        raise BadTensor("an output is asked for twice")
    return Inference(id, tuple(inputs), manifest.batched, tuple(wanted), timeout, background)


def _check_size(name: str, wanted: Wanted, count: int, size: int) -> None:
    """Raises BadTensor if an output of `count` items, each of `size` values, takes too long to write."""
    if wanted.classes and count * min(wanted.classes, size) > _MOST_NAMED:
        raise BadTensor(f"output {name!r}: `classification` names at most {_MOST_NAMED} values in a response")
    if not wanted.classes and not wanted.binary and count * size > MOST_VALUES:
        raise BadTensor(
            f"output {name!r}: has {count * size} values, and JSON holds at most {MOST_VALUES}: ask for binary data"
        )


class Given(NamedTuple):
    """An input as a request describes it."""

    name: str
    datatype: str
    shape: Sequence[Any]
    parameters: Collection[str]


def read_inputs(
    manifest: ManifestBase, given: Sequence[Given], most: int, read: Callable[[int, TensorSpec, tuple[int, ...]], Array]
) -> list[Array]:
    """The inputs of a request, in the order of the model's.

    Args:
        manifest: of the model.
        given: in the order of the request.
        most: the largest batch.
        read: gives the array of an input, by its index; called in the order of the request.

    Raises:
        BadTensor: they do not fit the model.
    """
    known = {spec.name: spec for spec in manifest.inputs}
    if len({each.name for each in given}) < len(given):
        raise BadTensor("an input is given twice")
    for each in given:
        if each.name not in known:
            raise BadTensor(f"the model has no input {truncate(each.name)!r}; it has {', '.join(known)}")
    if missing := known.keys() - {each.name for each in given}:
        first = next(name for name in known if name in missing)
        raise BadTensor(f"the input {first!r} is missing; the model takes {', '.join(known)}")
    arrays = {}
    for index, (name, stated, sizes, parameters) in enumerate(given):
        spec = known[name]
        if stated != datatype(spec.dtype):
            raise BadTensor(
                f"input {name!r}: has the datatype {truncate(stated)}; the model takes {datatype(spec.dtype)}"
            )
        shape = check_shape(name, sizes, spec, most if manifest.batched else None, manifest.longest)
        if any(key.startswith("shared_memory") for key in parameters):
            raise BadTensor(f"input {name!r}: shared memory is not supported")
        arrays[name] = read(index, spec, shape)
        _check_values(name, arrays[name], manifest)
    return [arrays[name] for name in known]


def _check_values(name: str, array: Array, manifest: ManifestBase) -> None:
    """Raises BadTensor if a value is out of the range that the graph can look up, or missing where it must not be."""
    required = manifest.required.get(name)
    if required is not None and (missing := np.isnan(array) & required).any():
        raise BadTensor(f"input {name!r}: the value at {np.argwhere(missing)[0].tolist()} must not be NaN")
    least, greatest = manifest.bounds.get(name, (None, None))
    if least is None:
        return
    outside = (array < least) | (array > greatest)  # neither for NaN
    if outside.any():
        first = tuple(int(each) for each in np.argwhere(outside)[0])
        low, high = (np.broadcast_to(bound, array.shape)[first] for bound in (least, greatest))
        raise BadTensor(f"input {name!r}: the value at {list(first)} must be from {low:g} to {high:g}")


def write_response(
    asked: Inference, manifest: ManifestBase, version: str, rows: Sequence[tuple[Any, ...]]
) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if binary tensors follow.

    Raises:
        InvalidRequest: an output cannot be written as JSON.
    """
    outputs, blobs = [], []
    for wanted in asked.outputs:
        spec, array = output_of(wanted, manifest, rows)
        described: dict[str, Any] = {"name": spec.name, "datatype": datatype_of(array), "shape": list(array.shape)}
        if wanted.binary:
            blobs.append(to_bytes(array))
            described["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            try:
                described["data"] = to_json(array)
            except BadTensor as error:
                raise InvalidRequest(f"The output {spec.name!r} cannot be sent: {error}.") from None
        outputs.append(described)
    document = {"model_name": manifest.name, "model_version": version, "outputs": outputs}
    if asked.id:
        document["id"] = asked.id
    head = pydantic_core.to_json(document)
    return (b"".join([head, *blobs]), len(head)) if blobs else (head, None)


def output_of(wanted: Wanted, manifest: ManifestBase, rows: Sequence[tuple[Any, ...]]) -> tuple[TensorSpec, Array]:
    """An output of all items; raises InvalidRequest if it is too large to be written."""
    spec = manifest.outputs[wanted.index]
    try:
        _check_size(spec.name, wanted, len(rows), rows[0][wanted.index].size)
    except BadTensor as error:
        raise InvalidRequest(f"{error}.") from None
    array = np.stack([row[wanted.index] for row in rows])
    if wanted.classes:
        array = classify(array, wanted.classes, manifest.labels)
    return spec, array if manifest.batched else array[0]


class _Blobs:
    """The binary data after the JSON, which inputs take in their order."""

    def __init__(self, data: memoryview | None) -> None:
        self._data, self._start = data, 0

    def take(self, name: str, size: Any) -> memoryview:
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise BadTensor(f"input {name!r}: `binary_data_size` must be a number of bytes")
        if self._data is None:
            raise BadTensor(
                f"input {name!r}: has binary data, but the header Inference-Header-Content-Length is missing"
            )
        end = self._start + size
        if end > len(self._data):
            left = len(self._data) - self._start
            raise BadTensor(f"input {name!r}: `binary_data_size` is {size}, but only {left} bytes are left of the body")
        found, self._start = self._data[self._start : end], end
        return found

    def check_end(self) -> None:
        if self._data is not None and self._start < len(self._data):
            raise BadTensor(f"{len(self._data) - self._start} bytes of the body belong to no input")


def _checked(request: _Request, blobs: _Blobs, manifest: ManifestBase, most: int) -> Inference:
    def read(index: int, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
        each = request.inputs[index]
        size = each.parameters.get("binary_data_size")
        if (size is None) == (each.data is None):
            raise BadTensor(f"input {each.name!r}: needs either `data` or the parameter `binary_data_size`")
        if size is None:
            return from_json(each.name, each.data, spec.dtype, shape)
        return from_bytes(each.name, blobs.take(each.name, size), spec.dtype, shape)

    given = [Given(each.name, each.datatype, each.shape, each.parameters) for each in request.inputs]
    inputs = read_inputs(manifest, given, most, read)
    blobs.check_end()
    return ask(
        manifest,
        inputs,
        id=request.id,
        outputs=[(each.name, each.parameters) for each in request.outputs],
        parameters=request.parameters,
        binary=request.parameters.get("binary_data_output") is True,
    )


def _raw(body: bytes, manifest: ManifestBase) -> Inference:
    """A request whose body is the only input, a batch of one; all outputs are binary."""
    if len(manifest.inputs) != 1:
        raise InvalidRequest("The model has several inputs: send them with their names.")
    (spec,) = manifest.inputs
    shape = [1, *spec.shape[1:]] if manifest.batched else [*spec.shape]
    open_axes = [axis for axis, size in enumerate(shape) if size < 0]
    try:
        if len(open_axes) == 1 and spec.dtype != "str":
            rest = math.prod(size for size in shape if size >= 0) * np.dtype(spec.dtype).itemsize
            shape[open_axes[0]] = len(body) // rest if rest else 0
        elif open_axes:
            raise BadTensor(f"input {spec.name!r}: has open axes; send its shape")
        checked = check_shape(spec.name, shape, spec, 1 if manifest.batched else None, manifest.longest)
        array = from_bytes(spec.name, memoryview(body), spec.dtype, checked)
        _check_values(spec.name, array, manifest)
        return ask(manifest, [array], id="", outputs=(), parameters={}, binary=True)
    except BadTensor as error:
        raise InvalidRequest(f"{error}.") from None


def _schedule(parameters: _Parameters) -> tuple[float | None, bool]:
    """The timeout in seconds, and whether a call may be late."""
    for name in _SEQUENCES:
        if parameters.get(name):
            raise BadTensor(f"parameter {name!r}: the model has no sequences")
    values = [parameters.get(name, 0) for name in ("timeout", "priority")]
    for name, value in zip(("timeout", "priority"), values, strict=True):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST_TIMEOUT:
            raise BadTensor(f"parameter {name!r}: must be a whole number, 0 or more")
    timeout, priority = values
    return (timeout / 1e6 if timeout else None), priority > 1
