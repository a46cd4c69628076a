"""Inputs for any model, made from its metadata, as JSON and as binary data."""

import math
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# As `struct` has them.
FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_OPEN_AXIS = 4


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input, or an output of a response: its values in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]

    def to_json(self, *, nested: bool = False) -> dict[str, Any]:
        """The input as JSON."""
        data = nest(self.values, self.shape) if nested else list(self.values)
        return {"name": self.name, "shape": list(self.shape), "datatype": self.datatype, "data": data}

    def to_binary(self) -> tuple[dict[str, Any], bytes]:
        """The input as JSON without its data, and the binary data."""
        if self.datatype == "BYTES":
            encoded = [str(value).encode() for value in self.values]
            data = b"".join(struct.pack("<I", len(each)) + each for each in encoded)
        else:
            data = struct.pack(f"<{len(self.values)}{FORMATS[self.datatype]}", *self.values)
        described = {"name": self.name, "shape": list(self.shape), "datatype": self.datatype}
        return {**described, "parameters": {"binary_data_size": len(data)}}, data


def make_inputs(metadata: dict[str, Any], batch: int, seed: int = 0) -> list[Tensor]:
    """Random inputs that fit a model's metadata; integers are 0 or 1, which are indices of most models too."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    made = []
    for described in metadata["inputs"]:
        stated = [int(size) for size in described["shape"]]
        shape = tuple(size if size >= 0 else batch if axis == 0 else _OPEN_AXIS for axis, size in enumerate(stated))
        datatype = described["datatype"]
        made.append(
            Tensor(described["name"], datatype, shape, [_value(datatype, rng) for _ in range(math.prod(shape))])
        )
    return made


def parse_binary(datatype: str, data: bytes) -> list[Any]:
    """The values of a binary tensor."""
    if datatype != "BYTES":
        size = struct.calcsize(FORMATS[datatype])
        return list(struct.unpack(f"<{len(data) // size}{FORMATS[datatype]}", data))
    values, start = [], 0
    while start < len(data):
        (length,) = struct.unpack_from("<I", data, start)
        values.append(data[start + 4 : start + 4 + length].decode(errors="replace"))
        start += 4 + length
    return values


def nest(values: Sequence[Any], shape: Sequence[int]) -> Any:
    """Nested lists of a shape."""
    left: list[Any] = list(values)
    for size in reversed(shape[1:]):
        left = [left[start : start + size] for start in range(0, len(left), size)]
    return left


def flatten(data: Any) -> list[Any]:
    """The values of nested lists."""
    return [value for each in data for value in flatten(each)] if isinstance(data, list) else [data]


def close(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two tensors have the same values, within the rounding of another batch."""
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) if isinstance(a, float) else a == b
        for a, b in zip(one, other, strict=True)
    )


def _value(datatype: str, rng: random.Random) -> Any:
    if datatype == "BYTES":
        return rng.choice(("a", "quick", "brown fox"))
    if datatype == "BOOL":
        return rng.random() < 0.5
    return rng.choice((0.0, 0.25, 0.5, 1.0)) if datatype.startswith("FP") else rng.randrange(2)
