"""ONNX Runtime as the service uses it: a graph on a CPU, or on a GPU."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort

from service.inference import cuda
from service.inference.device import DeviceLost, DeviceUnavailable, cuda_name
from service.inference.manifest import InvalidModel, without_folders
from service.inference.shapes import Array, Shape, Shapes, trim

ort.disable_telemetry_events()
# Errors only: with a device's number, the runtime warns in each session of a kind of plugin that is not used here.
ort.set_default_logger_severity(3)

# Errors of a run are raised. The runtime's lines about them would let clients fill the log.
_RUN = ort.RunOptions()
_RUN.log_severity_level = 4
# Runs with these options return free memory of the arena to the system afterwards.
_RELEASE_MEMORY = ort.RunOptions()
_RELEASE_MEMORY.log_severity_level = 4
_RELEASE_MEMORY.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

# Name, dtype as numpy names it, and dimensions: an int, or the name of an open one (None if it has none).
Tensor = tuple[str, str, tuple[int | str | None, ...]]
_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "str",
    **{f"tensor({name})": name for name in ("bool", "uint8", "uint16", "uint32", "uint64")},
    **{f"tensor({name})": name for name in ("int8", "int16", "int32", "int64")},
}


class CpuGraph:
    """A graph in a session on the CPU, which takes any shape.

    Args:
        graph: an ONNX file's bytes; external data is refused.
        name: of the file, for messages.
        threads: of the session.

    Raises:
        InvalidModel: ONNX Runtime cannot run the graph.
    """

    device = "cpu"
    shapes = None

    def __init__(self, graph: bytes, name: str, threads: int) -> None:
        self._session = _open(graph, name, _options(threads))
        self.inputs, self.outputs = _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())

    def run(self, inputs: Mapping[str, Array], options: ort.RunOptions = _RUN) -> list[Array]:
        """The outputs, in the graph's order."""
        outputs: list[Array] = self._session.run(None, dict(inputs), options)
        return outputs

    def replay(self, inputs: Mapping[str, Array], batch: int | None, *, pads: bool) -> Iterator[list[Array]]:
        """The outputs for golden inputs, `batch` items at a time; free memory returns to the system afterwards.

        With `pads`, zeros at the end of open axes are dropped.
        """
        count = len(next(iter(inputs.values())))
        step = batch or count
        parts = []
        for start in range(0, count, step):
            part = {name: array[start : start + step] for name, array in inputs.items()}
            parts.append(self.run(self._without_padding(part) if pads else part, _RELEASE_MEMORY))
        yield [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _without_padding(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Drops the zeros at the end of open axes, as the service does; see `shapes`."""
        if not any(_open_axes(dimensions) for _, _, dimensions in self.outputs):
            for name, _, dimensions in self.inputs:
                for axis in _open_axes(dimensions):
                    inputs[name] = trim(inputs[name], axis)
        return inputs


class CudaGraph:
    """A graph on a GPU, in a session for each shape that has its dimensions pinned.

    Args:
        graph: an ONNX file's bytes; external data is refused.
        name: of the file, for messages.
        threads: for the nodes that have no CUDA kernel.
        index: of the GPU.
        shapes: every shape that is going to be run; None for one session that takes any.
        memory_mb: the most MB that the arena of each session may take; 0 for no limit.

    Raises:
        DeviceUnavailable: the GPU or its libraries are missing, or the CUDA provider cannot take the graph.
        InvalidModel: it cannot be opened for another reason, such as too little memory.
    """

    def __init__(
        self, graph: bytes, name: str, threads: int, index: int, shapes: Shapes | None, memory_mb: float
    ) -> None:
        if problem := cuda.cuda_problem(index):
            raise DeviceUnavailable(problem)
        self.device = cuda_name(index)
        self.shapes = shapes
        # Read from a session without pinned dimensions.
        options = _options(1)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        whole = _open(graph, name, options)
        self.inputs, self.outputs = _tensors(whole.get_inputs()), _tensors(whole.get_outputs())
        if shapes and any(_open_axes(dimensions) for _, _, dimensions in self.outputs):
            raise InvalidModel(
                f"{name}: the length of its outputs depends on that of its inputs, which are padded on a GPU: "
                "serve it with QUARTET_DEVICE=cpu"
            )
        self._open_axes = {name: _open_axes(dimensions) for name, _, dimensions in self.inputs}
        self._sessions: dict[Shape | None, ort.InferenceSession] = {}
        for shape in shapes or (None,):
            options = _options(threads)
            for _, _, dimensions in self.inputs:
                for axis, size in enumerate(dimensions):
                    if shape and isinstance(size, str):
                        options.add_free_dimension_override_by_name(size, shape.length if axis else shape.batch)
            session = _open(graph, name, options, cuda.provider(index, memory_mb))
            if session.get_providers()[0] != cuda.PROVIDER:
                # If the provider's library cannot be loaded, only the runtime's own log says so.
                raise DeviceUnavailable(f"the CUDA provider cannot run {name}: see the runtime's own message above")
            self._sessions[shape] = session

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs, in the graph's order.

        Raises:
            DeviceLost: the GPU's context is unusable.
        """
        return self._run(inputs, self.shapes)

    def replay(
        self,
        inputs: Mapping[str, Array],
        batch: int | None,  # noqa: ARG002
        *,
        pads: bool,  # noqa: ARG002
    ) -> Iterator[list[Array]]:
        """The outputs for golden inputs, from every shape that is long enough; shapes have batch sizes of their own."""
        if self.shapes is None:
            yield self._run(inputs, None)
            return
        lengths = [array.shape[axis] for name, array in inputs.items() for axis in self._open_axes[name]]
        for shape in self.shapes:
            if not lengths or shape.length >= min(max(lengths), self.shapes.lengths[-1]):
                yield self._run(inputs, Shapes((shape.batch,), (shape.length,) if lengths else ()))

    def _run(self, inputs: Mapping[str, Array], shapes: Shapes | None) -> list[Array]:
        try:
            if shapes is None:
                return self._run_shape(None, inputs)
            return shapes.run(self._run_shape, inputs, self._open_axes)
        except Exception as error:
            if reason := cuda.fatal(error):
                raise DeviceLost(f"{self.device} is unusable after {reason}") from error
            raise

    def _run_shape(self, shape: Shape | None, inputs: Mapping[str, Array]) -> list[Array]:
        outputs: list[Array] = self._sessions[shape].run(None, dict(inputs), _RUN)
        return outputs


def _open_axes(dimensions: Sequence[int | str | None]) -> tuple[int, ...]:
    """The axes whose size is open, except the batch axis."""
    return tuple(axis for axis, size in enumerate(dimensions) if axis and not isinstance(size, int))


def _tensors(values: Sequence[ort.NodeArg]) -> list[Tensor]:
    return [(value.name, _DTYPES.get(value.type, value.type), tuple(value.shape)) for value in values]


def _open(graph: bytes, name: str, options: ort.SessionOptions, *providers: Any) -> ort.InferenceSession:
    try:
        # The runtime's own fallback would continue on the CPU after a line on stdout.
        session = ort.InferenceSession(
            graph, options, providers=[*providers, "CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # the runtime's exceptions share no public base class
        if reason := cuda.fatal(error):
            raise DeviceLost(f"the GPU is unusable after {reason}") from error
        if reason := cuda.failure(error):
            raise DeviceUnavailable(f"the CUDA provider cannot run {name}: {reason}") from error
        raise InvalidModel(f"{name}: {without_folders(str(error))}") from error
    # The runtime keeps the bytes for that fallback.
    session._model_bytes = None
    return session


@cache
def _share_memory() -> None:
    """Creates one CPU arena for all sessions; an arena per session would keep the memory of its largest batch."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # Strategy 1 extends the arena by what is needed, not by powers of two; -1 is the runtime's default.
    arena = {"max_mem": 0, "arena_extend_strategy": 1, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(arena))


def _options(threads: int) -> ort.SessionOptions:
    _share_memory()
    options = ort.SessionOptions()
    # A graph opened from bytes would read external data, which no sha256 covers, from anywhere below the working
    # directory. Nothing lies below this path.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.intra_op_num_threads = threads
    # The runtime would keep a plan of memory for each shape of the inputs, without a limit: 5 kB for each length of a
    # text. For the committed models a plan does not change the time of a batch measurably.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Spinning threads would use the CPU of an idle server, and that of the event loop of a busy one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
