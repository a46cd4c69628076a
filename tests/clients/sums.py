"""Inputs of the example models, and the answers to them."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DTYPES = {"simple": np.int32, "simple_int8": np.int8, "simple_string": np.object_}
DATATYPES = {"simple": "INT32", "simple_int8": "INT8", "simple_string": "BYTES"}
MODELS = tuple(DTYPES)


def numbers(batch: int = 1) -> tuple[Array, Array]:
    """As the examples have them: 0 to 15, and ones."""
    return np.tile(np.arange(16, dtype=np.int32), (batch, 1)), np.ones((batch, 16), np.int32)


def arrays(model: str, batch: int = 1) -> tuple[Array, Array]:
    """The inputs of a model; those of strings are bytes."""
    one, two = numbers(batch)
    if model == "simple_string":
        return tuple(np.array([str(each).encode() for each in array.ravel()], np.object_).reshape(array.shape)
                     for array in (one, two))  # fmt: skip
    return one.astype(DTYPES[model]), two.astype(DTYPES[model])


def inputs(triton: ModuleType, model: str, batch: int = 1, **options: Any) -> list[Any]:
    """The inputs as one of Triton's clients has them."""
    made = []
    for name, array in zip(("INPUT0", "INPUT1"), arrays(model, batch), strict=True):
        tensor = triton.InferInput(name, list(array.shape), DATATYPES[model])
        tensor.set_data_from_numpy(array, **options)
        made.append(tensor)
    return made


def check(result: Any, batch: int = 1) -> None:
    """Whether a result of one of Triton's clients has the sum and the difference."""
    one, two = numbers(batch)
    for name, expected in (("OUTPUT0", one + two), ("OUTPUT1", one - two)):
        found = result.as_numpy(name)
        if found.dtype == np.object_:
            found = np.array([int(each) for each in found.ravel()]).reshape(found.shape)
        np.testing.assert_array_equal(found, expected)


def not_offered(client: Any) -> list[Callable[[], Any]]:
    """The calls of a client, synchronous or not, that the server refuses."""
    return [
        client.get_system_shared_memory_status,
        lambda: client.register_system_shared_memory("region", "/key", 64),
        client.unregister_system_shared_memory,
        client.get_cuda_shared_memory_status,
        lambda: client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 64),
        client.unregister_cuda_shared_memory,
        client.get_trace_settings,
        lambda: client.update_trace_settings("simple", {"trace_level": ["OFF"]}),
        client.get_log_settings,
        lambda: client.update_log_settings({"log_info": True}),
    ]
