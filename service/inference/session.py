"""One ONNX Runtime session on one device, checked against the answers that it is to give."""

import ctypes
import math
import os
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.inference.cards import ManifestBase, TensorSpec
from service.inference.golden import compare
from service.inference.manifest import InvalidModel, without_folders

# No telemetry from inside somebody's network.
ort.disable_telemetry_events()

Device = Literal["auto", "cpu", "cuda"]
Array = npt.NDArray[Any]


class DeviceUnavailable(Exception):
    """The device that was asked for cannot serve; the message says what is missing."""


def available_cpus() -> int:
    """CPUs that this process may use: its affinity, cut to the container's quota (cgroup v2, v1)."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for path, parse in (
        ("/sys/fs/cgroup/cpu.max", lambda text: text.split()),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", lambda text: (text.strip(), "100000")),
    ):
        try:
            quota, period = parse(Path(path).read_text())
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            return max(1, min(cpus, math.ceil(int(quota) / int(period))))
    return cpus


class Session:
    """Runs one graph.

    Args:
        model: the path of an ONNX file.
        device: `cpu`; `cuda`, which never falls back; `auto`, which takes CUDA where it works.
        threads: of the CPU provider; 0 for as many as there are CPUs.

    Attributes:
        device: where it really runs, `cpu` or `cuda`.
        fallback: why `auto` did not take CUDA, or None.
        threads: of the CPU provider.

    Raises:
        DeviceUnavailable: `cuda` was asked for and cannot serve this graph.
        InvalidModel: the file is no graph that ONNX Runtime can run.
    """

    device: Literal["cpu", "cuda"]
    fallback: str | None
    threads: int

    def __init__(self, model: Path, device: Device = "auto", threads: int = 0) -> None:
        self.fallback = None if device == "cpu" else cuda_problem()
        if device == "cuda" and self.fallback:
            raise DeviceUnavailable(self.fallback)
        self.device = "cpu" if device == "cpu" or self.fallback else "cuda"
        self.threads = threads or available_cpus()
        self._file = model.name
        self._session = _open(model, self.device, self.threads)
        if self.device == "cuda" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            # The runtime falls back in silence where the provider cannot take the graph.
            self.fallback = f"the CUDA provider cannot run {model.name}: see the runtime's own message above"
            if device == "cuda":
                raise DeviceUnavailable(self.fallback)
            self.device = "cpu"
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]
        self._specs = (self._session.get_inputs(), self._session.get_outputs())

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The graph's outputs, in its order, for the inputs named as in the graph."""
        outputs: list[Array] = self._session.run(None, dict(inputs))
        return outputs

    def check(self, folder: Path, manifest: ManifestBase) -> float:
        """Holds the graph against its manifest and replays the golden file on this device.

        Returns:
            The largest absolute difference.

        Raises:
            InvalidModel: tensors of other names, types or shapes, or a difference beyond the stated tolerance.
        """
        for specs, values in ((manifest.inputs, self._specs[0]), (manifest.outputs, self._specs[1])):
            self._check_tensors(specs, values)
        file = manifest.golden.file
        try:
            with (folder / file).open("rb") as opened, np.load(opened) as golden:
                inputs = {spec.name: golden[spec.name] for spec in manifest.inputs}
                expected = [golden[spec.name] for spec in manifest.outputs]
            answers = self.run(inputs)
        except Exception as error:  # numpy, zipfile and the runtime each have their own
            raise InvalidModel(f"{file}: cannot be replayed: {without_folders(str(error))}") from error
        names = [spec.name for spec in manifest.outputs]
        try:
            worst = compare(
                dict(zip(names, expected, strict=True)), dict(zip(names, answers, strict=True)), manifest.golden
            )
        except ValueError as error:
            raise InvalidModel(f"{file}: {error}") from None
        if not worst.acceptable:
            raise InvalidModel(
                f"{self._file}: output {worst.output} differs from {file}'s by {worst.value:.2g} on {self.device}, "
                f"more than the stated {worst.accepted:.2g}"
            )
        return worst.value

    def warm_up(self, manifest: ManifestBase, batch: int) -> float:
        """Runs a batch of zeros, as long as they may be, so that no client waits for allocations.

        Returns:
            The seconds it took; of a single-threaded session those of the processor, whatever else it does meanwhile.

        Raises:
            InvalidModel: the runtime cannot run it, for want of memory say.
        """
        clock = time.thread_time if self.device == "cpu" and self.threads == 1 else time.perf_counter
        started = clock()
        try:
            self.run(
                {
                    spec.name: np.zeros(
                        (batch, *(manifest.longest if axis < 0 else axis for axis in spec.shape[1:])), dtype=spec.dtype
                    )
                    for spec in manifest.inputs
                }
            )
        except Exception as error:  # the runtime's exceptions share no public base class
            raise InvalidModel(
                f"a batch of {batch} cannot be run on {self.device}: {without_folders(str(error))}"
            ) from error
        return clock() - started

    def _check_tensors(self, specs: Sequence[TensorSpec], values: Sequence[Any]) -> None:
        names = {"tensor(uint8)": "uint8", "tensor(int64)": "int64", "tensor(float)": "float32"}
        actual = [
            (value.name, names.get(value.type, value.type), tuple(x if isinstance(x, int) else -1 for x in value.shape))
            for value in values
        ]
        stated = [(spec.name, spec.dtype, spec.shape) for spec in specs]
        if actual != stated:
            raise InvalidModel(f"{self._file}: has the tensors {actual}, the manifest says {stated}")


def read_golden_item(folder: Path, manifest: ManifestBase) -> Any:
    """The first input of the golden file, as `stacking` takes items: an array, or a tuple of one per input."""
    with (folder / manifest.golden.file).open("rb") as file, np.load(file) as golden:
        first = tuple(golden[spec.name][0] for spec in manifest.inputs)
    return first if len(first) > 1 else first[0]


@cache
def _share_memory() -> None:
    """Gives all sessions of the process one arena on the CPU, instead of one each that keeps its largest batch."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # Extended by what is needed (strategy 1), not by powers of two; -1: the runtime's defaults.
    arena = {"max_mem": 0, "arena_extend_strategy": 1, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(arena))


def _open(model: Path, device: str, threads: int) -> ort.InferenceSession:
    _share_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.use_env_allocators", "1")
    # A spinning pool would burn the CPU of an idle server, and of the event loop beside a busy one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda":
        # Exhaustive search would stall on every new batch size.
        providers.insert(0, ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}))
    try:
        # From its bytes: a graph that reads further files, which no sha256 covers, is refused so.
        session = ort.InferenceSession(model.read_bytes(), options, providers=providers)
    except Exception as error:  # the runtime's exceptions share no public base class
        raise InvalidModel(f"{model.name}: {without_folders(str(error))}") from error
    session.disable_fallback()
    # The runtime keeps them for a fall-back that is disabled.
    session._model_bytes = None
    return session


def cuda_problem() -> str | None:
    """Why CUDA cannot serve on this machine, naming the first missing library; None if it can."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA provider: install onnxruntime-gpu"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"no NVIDIA driver ({error}): install it, or start the container with its GPUs"
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return f"the NVIDIA driver offers no GPU (CUDA error {code}, {count.value} devices): check nvidia-smi"
    ort.preload_dlls()
    # What the provider links against; loading the provider itself outside the runtime is not supported.
    major = ort.cuda_version.split(".")[0]
    for name in (f"cudart.so.{major}", f"cublasLt.so.{major}", f"cublas.so.{major}", "curand.so.10", "cudnn.so.9"):
        try:
            ctypes.CDLL(f"lib{name}")
        except OSError as error:
            return f"a CUDA library is missing ({error}): pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return None
