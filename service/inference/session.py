"""A graph on one device, in as many runtime sessions as it needs there, checked against the answers it is to give."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.inference import cuda
from service.inference.cards import ManifestBase, TensorSpec
from service.inference.device import DeviceLost, DeviceUnavailable, available_cpus, cuda_index, cuda_name
from service.inference.golden import Difference, compare, read_golden
from service.inference.manifest import InvalidModel, without_folders
from service.inference.runtime import Tensor, header, open_axes, open_on_cpu, open_on_cuda, tensors
from service.inference.shapes import Shape, Shapes

Array = npt.NDArray[Any]


class Session:
    """Runs one graph.

    Args:
        model: the path of an ONNX file.
        device: `cpu`; `cuda` or `cuda:N`, which never fall back; `auto`, which takes CUDA where it works.
        threads: of the CPU provider; 0 for as many as there are CPUs.
        shapes: the only ones that the graph sees on CUDA, each in a session of its own; a CPU takes any.
        gpu_memory_mb: the most MB that the arena of each session on CUDA may take; 0 for no limit.

    Attributes:
        device: where it really runs: `cpu`, `cuda` or `cuda:N`.
        fallback: why `auto` did not take CUDA, or None.
        threads: of the CPU provider.
        shapes: None where any will do.

    Raises:
        DeviceUnavailable: CUDA was asked for and cannot serve this graph.
        InvalidModel: the file is no graph that ONNX Runtime can run.
    """

    def __init__(
        self,
        model: Path,
        device: str = "auto",
        threads: int = 0,
        shapes: Shapes | None = None,
        gpu_memory_mb: float = 0,
    ) -> None:
        self.threads = threads or available_cpus()
        self.fallback: str | None = None
        self.shapes: Shapes | None = None
        self._file = model.name
        try:
            graph = model.read_bytes()
        except OSError as error:
            raise InvalidModel(f"{model.name}: cannot be read: {error.strerror}") from error
        if device != "cpu":
            try:
                self._open_on_cuda(graph, cuda_index(device), shapes, gpu_memory_mb)
            except DeviceUnavailable as error:
                if device != "auto":
                    raise
                self.fallback = str(error)
        if device == "cpu" or self.fallback:
            self.device = "cpu"
            session = open_on_cpu(graph, self._file, self.threads)
            self._sessions: dict[Shape | None, Any] = {None: session}
            self._inputs, self._outputs = tensors(session)
        self.inputs = [name for name, _, _ in self._inputs]
        self.outputs = [name for name, _, _ in self._outputs]

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths to which open axes are padded, ascending; empty where any will do."""
        return self.shapes.lengths if self.shapes else ()

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The graph's outputs, in its order, for the inputs named as in the graph.

        Raises:
            DeviceLost: the GPU is of no more use to this process.
        """
        return self._run_in(self.shapes, inputs)

    def check(self, folder: Path, manifest: ManifestBase) -> float:
        """Holds the graph against its manifest and replays the golden file on this device; see `prepare` and `replay`.

        Returns:
            The largest absolute difference.

        Raises:
            InvalidModel: tensors of other names, types or shapes, or a difference beyond the stated tolerance.
        """
        self.prepare(manifest)
        worst = self.replay(folder, manifest)
        if not worst.acceptable:
            raise InvalidModel(
                f"{self._file}: output {worst.output} differs from {manifest.golden.file}'s by {worst.value:.2g} on "
                f"{self.device}, more than the stated {worst.accepted:.2g}"
            )
        return worst.value

    def prepare(self, manifest: ManifestBase) -> None:
        """Holds the graph's tensors against its manifest, and warms up its fixed shapes.

        Raises:
            InvalidModel: they have other names, types or shapes, or a shape cannot be run.
        """
        for specs, found in ((manifest.inputs, self._inputs), (manifest.outputs, self._outputs)):
            self._check_tensors(specs, found)
        # The largest first: if there is no memory for it, the smaller ones need not be tried.
        for shape in self.shapes or ():
            self._warm_up(manifest, shape)

    def replay(self, folder: Path, manifest: ManifestBase) -> Difference:
        """The largest difference from the golden file, over every fixed shape that holds its inputs.

        Raises:
            InvalidModel: it cannot be replayed, or its outputs have other shapes.
        """
        file = manifest.golden.file
        try:
            inputs, expected = read_golden(folder, manifest)
            answers = [
                dict(zip(expected, self._run_in(shapes, inputs), strict=True)) for shapes in self._each_shape(inputs)
            ]
        except Exception as error:  # numpy, zipfile and the runtime each have their own
            raise InvalidModel(f"{file}: cannot be replayed: {without_folders(str(error))}") from error
        try:
            return max((compare(expected, got, manifest.golden) for got in answers), key=lambda found: found.ratio)
        except ValueError as error:
            raise InvalidModel(f"{file}: {error}") from None

    def warm_up(self, manifest: ManifestBase, batch: int) -> float:
        """Runs a batch of zeros, as long as they may be, so that no client waits for allocations.

        Returns:
            The seconds it took; of a single-threaded session those of the processor, whatever else it does meanwhile.

        Raises:
            InvalidModel: the runtime cannot run it, for want of memory say.
        """
        return self._warm_up(manifest, Shape(batch, manifest.longest))

    def _warm_up(self, manifest: ManifestBase, shape: Shape) -> float:
        clock = time.thread_time if self.device == "cpu" and self.threads == 1 else time.perf_counter
        started = clock()
        try:
            self.run(
                {
                    spec.name: np.zeros(
                        (shape.batch, *(shape.length if axis < 0 else axis for axis in spec.shape[1:])), spec.dtype
                    )
                    for spec in manifest.inputs
                }
            )
        except Exception as error:  # the runtime's exceptions share no public base class
            advice = "" if self.device == "cpu" else " (QUARTET_MAX_BATCH and QUARTET_GPU_MEMORY_MB bound its memory)"
            raise InvalidModel(
                f"a batch of {shape.batch} cannot be run on {self.device}: {without_folders(str(error))}{advice}"
            ) from error
        return clock() - started

    def _run_in(self, shapes: Shapes | None, inputs: Mapping[str, Array]) -> list[Array]:
        try:
            if shapes is None:
                return self._run_shape(None, inputs)
            return shapes.run(self._run_shape, inputs, self._open_axes)
        except Exception as error:
            if reason := cuda.fatal(error):
                raise DeviceLost(f"{self.device} is unusable after {reason}") from error
            raise

    def _run_shape(self, shape: Shape | None, inputs: Mapping[str, Array]) -> list[Array]:
        outputs: list[Array] = self._sessions[shape].run(None, dict(inputs))
        return outputs

    def _each_shape(self, inputs: Mapping[str, Array]) -> Iterator[Shapes | None]:
        """Every fixed shape that is long enough, as a set of its own; None where any shape will do."""
        if self.shapes is None:
            yield None
            return
        lengths = [array.shape[axis] for name, array in inputs.items() for axis in self._open_axes[name]]
        for shape in self.shapes:
            if not lengths or shape.length >= min(max(lengths), self.lengths[-1]):
                yield Shapes((shape.batch,), (shape.length,) if lengths else ())

    def _open_on_cuda(self, graph: bytes, index: int, shapes: Shapes | None, memory_mb: float) -> None:
        """Raises `DeviceUnavailable` or `InvalidModel`."""
        if problem := cuda.cuda_problem(index):
            raise DeviceUnavailable(problem)
        self._inputs, self._outputs = header(graph, self._file)
        self._open_axes = {name: open_axes(dimensions) for name, _, dimensions in self._inputs}
        if shapes and any(open_axes(dimensions) for _, _, dimensions in self._outputs):
            raise InvalidModel(
                f"{self._file}: the length of its outputs depends on that of its inputs, which are padded on a GPU: "
                "serve it with QUARTET_DEVICE=cpu"
            )
        self._sessions = {
            **open_on_cuda(graph, self._file, self.threads, self._inputs, index, shapes, memory_mb),
        }
        self.device, self.shapes = cuda_name(index), shapes

    def _check_tensors(self, specs: Sequence[TensorSpec], found: Sequence[Tensor]) -> None:
        actual = [(name, dtype, tuple(x if isinstance(x, int) else -1 for x in shape)) for name, dtype, shape in found]
        stated = [(spec.name, spec.dtype, spec.shape) for spec in specs]
        if actual != stated:
            raise InvalidModel(f"{self._file}: has the tensors {actual}, the manifest says {stated}")


def read_golden_item(folder: Path, manifest: ManifestBase) -> Any:
    """The first input of the golden file, as `stacking` takes items: an array, or a tuple of one per input."""
    first = tuple(array[0] for array in read_golden(folder, manifest)[0].values())
    return first if len(first) > 1 else first[0]
