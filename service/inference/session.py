"""A graph on the device that serves it, checked against its manifest and its golden answers."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from service.inference.cards import ManifestBase, TensorSpec
from service.inference.device import DeviceUnavailable, available_cpus, cuda_index
from service.inference.golden import Difference, Golden, compare, read_golden
from service.inference.manifest import InvalidModel, without_folders
from service.inference.runtime import Array, CpuGraph, CudaGraph, Tensor
from service.inference.shapes import Shape, Shapes


class Session:
    """A graph on one device.

    Args:
        model: the path of an ONNX file.
        device: `cpu`; `cuda` or `cuda:N`, which never fall back; `auto`, which takes CUDA where it works.
        threads: of the CPU provider; 0 for as many as there are CPUs.
        shapes: the only shapes that the graph sees on CUDA; a CPU takes any.
        gpu_memory_mb: the most MB that the arena of each shape on CUDA may take; 0 for no limit.

    Attributes:
        device: where it runs: `cpu`, `cuda` or `cuda:N`.
        fallback: why `auto` did not take CUDA, or None.
        threads: of the CPU provider.
        shapes: the only shapes that run; None for any.
        inputs: their names, in the graph's order.
        outputs: their names, in the graph's order.

    Raises:
        DeviceUnavailable: CUDA was asked for and cannot serve this graph.
        InvalidModel: ONNX Runtime cannot run the file.
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
        self._file = model.name
        try:
            graph = model.read_bytes()
        except OSError as error:
            raise InvalidModel(f"{model.name}: cannot be read: {error.strerror}") from error
        opened: CpuGraph | CudaGraph | None = None
        if device != "cpu":
            try:
                index = cuda_index(device)
                opened = CudaGraph(graph, self._file, self.threads, index, shapes, gpu_memory_mb)
            except DeviceUnavailable as error:
                if device != "auto":
                    raise
                self.fallback = str(error)
        self._graph = opened or CpuGraph(graph, self._file, self.threads)
        self.device: str = self._graph.device
        self.shapes: Shapes | None = self._graph.shapes
        self.inputs = [name for name, _, _ in self._graph.inputs]
        self.outputs = [name for name, _, _ in self._graph.outputs]

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths to which open axes are padded, ascending; empty if any length runs."""
        return self.shapes.lengths if self.shapes else ()

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The graph's outputs, in its order, for the inputs named as in the graph.

        Raises:
            DeviceLost: the GPU is of no more use to this process.
        """
        return self._graph.run(inputs)

    def check(self, folder: Path, manifest: ManifestBase) -> float:
        """Validates the graph against its manifest and replays the golden file; see `prepare` and `verify`.

        Returns:
            The largest absolute difference.

        Raises:
            InvalidModel: tensors of other names, types or shapes, or a difference beyond the stated tolerance.
        """
        self.prepare(manifest)
        return self.verify(read_golden_of(folder, manifest), manifest)

    def prepare(self, manifest: ManifestBase) -> None:
        """Validates the graph's inputs and outputs against its manifest, and warms up its fixed shapes.

        Raises:
            InvalidModel: they have other names, types or shapes, or a shape cannot be run.
        """
        for specs, found in ((manifest.inputs, self._graph.inputs), (manifest.outputs, self._graph.outputs)):
            self._check_tensors(specs, found)
        # The largest first: if there is no memory for it, the smaller ones need not be tried.
        for shape in self.shapes or ():
            self._warm_up(manifest, shape)

    def verify(self, golden: Golden, manifest: ManifestBase, batch: int | None = None) -> float:
        """Compares the answers with golden ones.

        Args:
            golden: inputs and answers.
            manifest: states the tolerances.
            batch: items that run at a time on a CPU; None for all.

        Returns:
            The largest absolute difference.

        Raises:
            InvalidModel: a difference exceeds the stated tolerance.
        """
        worst = self.difference(golden, manifest, batch)
        if not worst.acceptable:
            raise InvalidModel(
                f"{self._file}: output {worst.output} differs from {manifest.golden.file}'s by {worst.value:.2g} on "
                f"{self.device}, more than the stated {worst.accepted:.2g}"
            )
        return worst.value

    def replay(self, folder: Path, manifest: ManifestBase) -> Difference:
        """The largest difference from the golden file; see `difference`."""
        return self.difference(read_golden_of(folder, manifest), manifest)

    def difference(self, golden: Golden, manifest: ManifestBase, batch: int | None = None) -> Difference:
        """The largest difference from golden answers, over every fixed shape that holds the inputs.

        On a CPU, memory that no run needs is given back to the system afterwards.

        Raises:
            InvalidModel: the inputs cannot be run, or the outputs have other shapes.
        """
        file = manifest.golden.file
        try:
            every = self._graph.replay(golden.inputs, batch)
            answers = [dict(zip(golden.answers, outputs, strict=True)) for outputs in every]
        except Exception as error:  # the runtime's exceptions share no public base class
            raise InvalidModel(f"{file}: cannot be replayed: {without_folders(str(error))}") from error
        try:
            found = (compare(golden.answers, got, manifest.golden) for got in answers)
            return max(found, key=lambda difference: difference.ratio)
        except ValueError as error:
            raise InvalidModel(f"{file}: {error}") from None

    def warm_up(self, manifest: ManifestBase, batch: int) -> float:
        """Runs a batch of zeros with open axes at their longest.

        Returns:
            The seconds it took; for a single-threaded session, processor time, which other load does not change.

        Raises:
            InvalidModel: the runtime cannot run it, for lack of memory say.
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

    def _check_tensors(self, specs: Sequence[TensorSpec], found: Sequence[Tensor]) -> None:
        actual = [(name, dtype, tuple(x if isinstance(x, int) else -1 for x in shape)) for name, dtype, shape in found]
        stated = [(spec.name, spec.dtype, spec.shape) for spec in specs]
        if actual != stated:
            raise InvalidModel(f"{self._file}: has the tensors {actual}, the manifest says {stated}")


def read_golden_of(folder: Path, manifest: ManifestBase) -> Golden:
    """Reads a version's golden file.

    Raises:
        InvalidModel: it cannot be read, or lacks an input or an output.
    """
    try:
        return read_golden(folder, manifest)
    except Exception as error:  # numpy and zipfile raise many kinds
        raise InvalidModel(f"{manifest.golden.file}: cannot be read: {without_folders(str(error))}") from error
