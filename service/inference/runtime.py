"""ONNX Runtime as the service uses it: how sessions are opened, on a CPU and on a GPU."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import onnxruntime as ort

from service.inference import cuda
from service.inference.device import DeviceLost, DeviceUnavailable
from service.inference.manifest import InvalidModel, without_folders
from service.inference.shapes import Shape, Shapes

# No telemetry from inside somebody's network.
ort.disable_telemetry_events()
# Errors alone: with a device's number, the runtime warns at each session of a kind of plugin that is not used here.
ort.set_default_logger_severity(3)

# Name, dtype as numpy has it, and dimensions: an int, or the name of an open one (None if it has none).
Tensor = tuple[str, str, tuple[int | str | None, ...]]
_DTYPES = {"tensor(uint8)": "uint8", "tensor(int64)": "int64", "tensor(float)": "float32"}


def open_on_cpu(graph: bytes, name: str, threads: int) -> ort.InferenceSession:
    """A session on the CPU.

    Args:
        graph: an ONNX file's bytes; external data is refused.
        name: of the file, for messages.
        threads: of the session.

    Raises:
        InvalidModel: it is no graph that ONNX Runtime can run.
    """
    return _open(graph, name, _options(threads))


def open_on_cuda(
    graph: bytes, name: str, threads: int, inputs: Sequence[Tensor], index: int, shapes: Shapes | None, memory_mb: float
) -> dict[Shape | None, ort.InferenceSession]:
    """A session on a GPU for each shape, to which its dimensions are pinned; without shapes one for any.

    Args:
        graph: an ONNX file's bytes.
        name: of the file, for messages.
        threads: for what runs on the CPU even so.
        inputs: as `header` gives them.
        index: of the GPU.
        shapes: all that are going to be run, the open axes of the outputs being the batch axis alone.
        memory_mb: the most that each session's arena may take; 0 for no limit.

    Raises:
        DeviceUnavailable: the CUDA provider cannot be loaded, or cannot take the graph.
        InvalidModel: it cannot be opened for another reason, memory say.
    """
    sessions: dict[Shape | None, ort.InferenceSession] = {}
    for shape in shapes or (None,):
        options = _options(threads)
        for _, _, dimensions in inputs:
            for axis, size in enumerate(dimensions):
                if shape and isinstance(size, str):
                    options.add_free_dimension_override_by_name(size, shape.length if axis else shape.batch)
        session = _open(graph, name, options, cuda.provider(index, memory_mb))
        if session.get_providers()[0] != cuda.PROVIDER:
            # Where the provider's library cannot be loaded, the runtime says so in its log alone.
            raise DeviceUnavailable(f"the CUDA provider cannot run {name}: see the runtime's own message above")
        sessions[shape] = session
    return sessions


def header(graph: bytes, name: str) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs and outputs of a graph as its file states them, whatever a session pins.

    Raises:
        InvalidModel: it is no graph that ONNX Runtime can run.
    """
    options = _options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return tensors(_open(graph, name, options))


def tensors(session: ort.InferenceSession) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs and outputs of a session."""
    inputs, outputs = (
        [(value.name, _DTYPES.get(value.type, value.type), tuple(value.shape)) for value in values]
        for values in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs


def open_axes(dimensions: Sequence[int | str | None]) -> tuple[int, ...]:
    """The axes whose size is open, the batch axis aside."""
    return tuple(axis for axis, size in enumerate(dimensions) if axis and not isinstance(size, int))


def _open(graph: bytes, name: str, options: ort.SessionOptions, *providers: Any) -> ort.InferenceSession:
    try:
        # Without the runtime's own fallback, which goes on with the CPU after a line on stdout.
        every = [*providers, "CPUExecutionProvider"]
        session = ort.InferenceSession(graph, options, providers=every, enable_fallback=0)
    except Exception as error:  # the runtime's exceptions share no public base class
        if reason := cuda.fatal(error):
            raise DeviceLost(f"the GPU is unusable after {reason}") from error
        if reason := cuda.failure(error):
            raise DeviceUnavailable(f"the CUDA provider cannot run {name}: {reason}") from error
        raise InvalidModel(f"{name}: {without_folders(str(error))}") from error
    # The runtime keeps them for that fallback.
    session._model_bytes = None
    return session


@cache
def _share_memory() -> None:
    """Gives all sessions of the process one arena on the CPU, instead of one each that keeps its largest batch."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # Extended by what is needed (strategy 1), not by powers of two; -1: the runtime's defaults.
    arena = {"max_mem": 0, "arena_extend_strategy": 1, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(arena))


def _options(threads: int) -> ort.SessionOptions:
    _share_memory()
    options = ort.SessionOptions()
    # A graph that is opened from bytes would read its external data from anywhere below the working directory, and no
    # sha256 covers them: nothing lies below this folder.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.use_env_allocators", "1")
    # A spinning pool would burn the CPU of an idle server, and of the event loop beside a busy one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
