"""Tensors of the Open Inference Protocol: from the data of a request to arrays, and from arrays to a response."""

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import truncate
from service.inference.cards import TensorSpec

Array = npt.NDArray[Any]

# By the protocol's names; BYTES has elements of any length.
DATATYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_NAMES = {np.dtype(dtype).name: name for name, dtype in DATATYPES.items()} | {"str": "BYTES"}
# Of the values in JSON, by the kind of a dtype.
_PYTHON_TYPES: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}
# The most axes of a tensor.
MOST_AXES = 16
_SHOWN = 8


class BadTensor(ValueError):
    """A tensor that a model does not take; the message names it and says why."""


def datatype(dtype: str) -> str:
    """The protocol's name of a manifest's dtype."""
    return _NAMES[dtype]


def datatype_of(array: Array) -> str:
    """The protocol's name of an array's dtype."""
    return "BYTES" if array.dtype.kind in "OUS" else _NAMES[array.dtype.name]


def check_shape(name: str, shape: Sequence[Any], spec: TensorSpec, most: int | None, longest: int) -> tuple[int, ...]:
    """The shape of an input that fits the model.

    Args:
        name: of the input.
        shape: as the client states it.
        spec: of the model.
        most: the largest batch that a request may hold; None if the first axis is no batch.
        longest: the largest size of an axis that the model leaves open.

    Raises:
        BadTensor: it does not fit.
    """
    expected = f"the model takes {describe_shape(spec.shape)}"
    if len(shape) > MOST_AXES or not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
        raise BadTensor(f"input {name!r}: its shape must be a list of whole numbers; {expected}")
    shown = describe_shape(shape)
    if len(shape) != len(spec.shape):
        raise BadTensor(f"input {name!r}: has the shape {shown}; {expected}")
    rest = zip(shape, spec.shape, strict=True)
    if most is not None:
        batch, _ = next(rest)
        if batch < 1:
            raise BadTensor(f"input {name!r}: has the shape {shown}: the batch must have at least one item")
        if batch > most:
            raise BadTensor(f"input {name!r}: has {batch} items; at most {most} are accepted in a request")
    for size, wanted in rest:
        if wanted >= 0 and size != wanted:
            raise BadTensor(f"input {name!r}: has the shape {shown}; {expected}")
        if wanted < 0 and not 1 <= size <= longest:
            raise BadTensor(f"input {name!r}: has the shape {shown}; an open axis may be from 1 to {longest}")
    return tuple(shape)


def describe_shape(shape: Sequence[Any]) -> str:
    """A shape of at most a few axes in a message."""
    more = ", …" if len(shape) > _SHOWN else ""
    return f"[{', '.join(truncate(str(size), 20) for size in shape[:_SHOWN])}{more}]"


def from_json(name: str, data: Any, dtype: str, shape: tuple[int, ...]) -> Array:
    """The array of a JSON list, nested or flat.

    Raises:
        BadTensor: the list has another number of values, or values of another type or range.
    """
    if not isinstance(data, list):
        raise BadTensor(f"input {name!r}: `data` must be a list")
    count = math.prod(shape)
    values, found = _flatten(name, data)
    if len(values) != count or (len(found) > 1 and found != shape):
        raise BadTensor(
            f"input {name!r}: `data` has the shape {describe_shape(found)}, its shape says "
            f"{describe_shape(shape)}, which are {count} values"
        )
    if dtype == "str":
        return _texts(name, values).reshape(shape)
    wanted = np.dtype(dtype)
    # NumPy would find a type that holds all values: beside a long string, every number takes as much as the string.
    if not set(map(type, values)) <= _PYTHON_TYPES[wanted.kind]:
        raise BadTensor(f"input {name!r}: `data` holds values that are no {_NAMES[wanted.name]}")
    try:
        with np.errstate(over="raise"):
            # In two steps: a Python number that is out of range becomes infinite without a word.
            exact = np.array(values, np.float64 if wanted.kind == "f" else wanted)
            return exact.astype(wanted, copy=False).reshape(shape)
    except (OverflowError, FloatingPointError):
        limits = np.finfo(wanted) if wanted.kind == "f" else np.iinfo(wanted)
        raise BadTensor(f"input {name!r}: {_NAMES[wanted.name]} goes from {limits.min} to {limits.max}") from None


def from_bytes(name: str, data: memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    """The array of a binary tensor: little-endian, in C order; a view of `data`, except for texts.

    Raises:
        BadTensor: there is another number of bytes.
    """
    count = math.prod(shape)
    if dtype == "str":
        return _texts(name, _elements(name, data, count)).reshape(shape)
    wanted = np.dtype(dtype)
    if len(data) != count * wanted.itemsize:
        raise BadTensor(
            f"input {name!r}: has {len(data)} bytes; {_NAMES[wanted.name]} of the shape {describe_shape(shape)} has "
            f"{count * wanted.itemsize}"
        )
    if wanted.kind == "b" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise BadTensor(f"input {name!r}: a byte of BOOL must be 0 or 1")
    return np.frombuffer(data, wanted.newbyteorder("<")).reshape(shape)


def to_bytes(array: Array) -> bytes | memoryview:
    """The bytes of a binary tensor, as a view where that is possible."""
    if array.dtype.kind in "OUS":
        encoded = [each if isinstance(each, bytes) else str(each).encode() for each in array.ravel()]
        return b"".join(part for each in encoded for part in (struct.pack("<I", len(each)), each))
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little_endian).reshape(-1).view(np.uint8).data


def to_json(array: Array) -> list[Any]:
    """The values of a tensor in C order, as JSON has them.

    Raises:
        BadTensor: a number is infinite or NaN, which JSON cannot express.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadTensor("it holds numbers that are infinite or NaN, which JSON cannot express: ask for binary data")
    flat: list[Any] = array.ravel().tolist()
    return [each.decode(errors="replace") for each in flat] if array.dtype.kind == "S" else flat


def classify(array: Array, most: int, labels: Sequence[str]) -> Array:
    """The largest values of each row as `VALUE:INDEX[:LABEL]`, the largest first.

    Args:
        array: shape (batch, classes), or more axes, of which all but the first are one.
        most: of them.
        labels: of the classes; empty without any.
    """
    rows = array.reshape(len(array), -1)
    most = min(most, rows.shape[1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :most]
    named = len(labels) == rows.shape[1]
    texts = [
        [f"{row[index]:.6f}:{index}" + (f":{labels[index]}" if named else "") for index in indices]
        for row, indices in zip(rows, order, strict=True)
    ]
    return np.array(texts, dtype=np.object_).reshape(len(array), most)


def _flatten(name: str, data: list[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """The values of nested lists of the same lengths, and their shape; without a loop over the values in Python."""
    shape = [len(data)]
    while data and isinstance(data[0], list):
        lengths = set(map(len, data)) if set(map(type, data)) == {list} else set()
        if len(lengths) != 1 or len(shape) == MOST_AXES:
            raise BadTensor(f"input {name!r}: the lists in `data` have different lengths, or hold no numbers")
        shape += lengths
        data = list(chain.from_iterable(data))
    return data, tuple(shape)


def _elements(name: str, data: memoryview, count: int) -> list[bytes]:
    """The elements of BYTES, each of which follows its length."""
    values: list[bytes] = []
    start = 0
    while start < len(data):
        if len(values) == count or start + 4 > len(data):
            break
        (length,) = struct.unpack_from("<I", data, start)
        end = start + 4 + length
        if end > len(data):
            break
        values.append(bytes(data[start + 4 : end]))
        start = end
    if start != len(data) or len(values) != count:
        raise BadTensor(f"input {name!r}: its bytes are not {count} elements of BYTES, each after its length")
    return values


def _texts(name: str, values: Sequence[Any]) -> Array:
    try:
        texts = [each.decode() if isinstance(each, bytes) else each for each in values]
    except UnicodeDecodeError:
        raise BadTensor(f"input {name!r}: an element of BYTES is not UTF-8") from None
    if not set(map(type, texts)) <= {str}:
        raise BadTensor(f"input {name!r}: `data` holds values that are no strings")
    found = np.empty(len(texts), np.object_)
    found[:] = texts
    return found
