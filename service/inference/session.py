"""A graph on the device that serves it, validated against its manifest and its golden file."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from service.inference.cards import ManifestBase, TensorSpec
from service.inference.device import available_cpus, cuda_index
from service.inference.golden import Difference, Golden, compare, read_golden
from service.inference.manifest import InvalidModel, without_folders
from service.inference.runtime import CpuGraph, CudaGraph, Tensor
from service.inference.shapes import Array, Shapes


class Session:
    """A graph on one device; it never falls back to another one.

    Args:
        model: the path of an ONNX file.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: of the CPU provider; 0 for as many as there are CPUs.
        shapes: the only shapes that the graph sees on CUDA; a CPU takes any.
        gpu_memory_mb: the most MB that the arena of each shape on CUDA may take; 0 for no limit.

    Attributes:
        inputs: their names, in the graph's order.
        outputs: their names, in the graph's order.
        shapes: the only shapes that run; None for any.

    Raises:
        DeviceUnavailable: CUDA cannot serve this graph.
        InvalidModel: ONNX Runtime cannot run the file.
    """

    def __init__(
        self, model: Path, device: str, threads: int = 0, shapes: Shapes | None = None, gpu_memory_mb: float = 0
    ) -> None:
        self.threads = threads or available_cpus()
        self._file = model.name
        try:
            graph = model.read_bytes()
        except OSError as error:
            raise InvalidModel(f"{self._file}: cannot be read: {error.strerror}") from error
        self._graph: CpuGraph | CudaGraph
        if device == "cpu":
            self._graph = CpuGraph(graph, self._file, self.threads)
        else:
            self._graph = CudaGraph(graph, self._file, self.threads, cuda_index(device), shapes, gpu_memory_mb)
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
            DeviceLost: the GPU's context is unusable.
        """
        return self._graph.run(inputs)

    def check(self, folder: Path, manifest: ManifestBase) -> float:
        """Validates the graph against its manifest and its golden file; see `check_tensors` and `verify`."""
        self.check_tensors(manifest)
        golden = read_golden(folder, manifest)
        self.prepare(manifest, golden)
        return self.verify(golden, manifest)

    def check_tensors(self, manifest: ManifestBase) -> None:
        """Validates the graph's inputs and outputs against its manifest.

        Raises:
            InvalidModel: they have other names, types or shapes.
        """
        for specs, found in ((manifest.inputs, self._graph.inputs), (manifest.outputs, self._graph.outputs)):
            self._check_tensors(specs, found)

    def prepare(self, manifest: ManifestBase, golden: Golden) -> None:
        """Warms up the fixed shapes.

        Raises:
            InvalidModel: one cannot be run.
        """
        # The largest first: if there is no memory for it, the smaller ones need not be tried.
        for shape in self.shapes or ():
            self.warm_up(golden.batch(manifest, shape), shape.batch)

    def verify(self, golden: Golden, manifest: ManifestBase, batch: int | None = None) -> float:
        """The largest absolute difference from golden answers; see `difference`.

        Raises:
            InvalidModel: it exceeds the stated tolerance.
        """
        worst = self.difference(golden, manifest, batch)
        if not worst.acceptable:
            raise InvalidModel(
                f"{self._file}: output {worst.output} differs from {manifest.golden.file}'s by {worst.value:.2g} on "
                f"{self.device}, more than the stated {worst.accepted:.2g}"
            )
        return worst.value

    def difference(self, golden: Golden, manifest: ManifestBase, batch: int | None = None) -> Difference:
        """The largest difference from golden answers, over every fixed shape that holds the inputs.

        Args:
            golden: inputs and answers.
            manifest: states the tolerances.
            batch: items that run at a time on a CPU; None for all.

        Raises:
            InvalidModel: the inputs cannot be run, or the outputs have other shapes.
        """
        file = manifest.golden.file
        try:
            if manifest.batched:
                every = self._graph.replay(golden.inputs, batch, pads=manifest.pads)
            else:
                every = iter([self._run_each(golden.inputs)])
            answers = [dict(zip(golden.answers, outputs, strict=True)) for outputs in every]
        except Exception as error:  # the runtime's exceptions share no public base class
            raise InvalidModel(f"{file}: cannot be replayed: {without_folders(str(error))}") from error
        try:
            found = (compare(golden.answers, got, manifest.golden) for got in answers)
            return max(found, key=lambda difference: difference.ratio)
        except ValueError as error:
            raise InvalidModel(f"{file}: {error}") from None

    def warm_up(self, inputs: Mapping[str, Array], batch: int) -> float:
        """Runs a batch of so many items.

        Returns:
            The seconds it took; for a single-threaded session, processor time, which other load does not change.

        Raises:
            InvalidModel: the runtime cannot run it, for lack of memory say.
        """
        clock = time.thread_time if self.device == "cpu" and self.threads == 1 else time.perf_counter
        started = clock()
        try:
            self.run(inputs)
        except Exception as error:  # the runtime's exceptions share no public base class
            advice = "" if self.device == "cpu" else " (QUARTET_MAX_BATCH and QUARTET_GPU_MEMORY_MB bound its memory)"
            raise InvalidModel(
                f"a batch of {batch} cannot be run on {self.device}: {without_folders(str(error))}{advice}"
            ) from error
        return clock() - started

    def _run_each(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs for golden inputs of a graph without batches, whose first axis is the item."""
        count = len(next(iter(inputs.values())))
        rows = [self.run({name: np.asarray(array[row]) for name, array in inputs.items()}) for row in range(count)]
        return [np.stack(outputs) for outputs in zip(*rows, strict=True)]

    def _check_tensors(self, specs: Sequence[TensorSpec], found: Sequence[Tensor]) -> None:
        actual = [(name, dtype, tuple(x if isinstance(x, int) else -1 for x in shape)) for name, dtype, shape in found]
        stated = [(spec.name, spec.dtype, spec.shape) for spec in specs]
        if actual != stated:
            raise InvalidModel(f"{self._file}: has the tensors {actual}, the manifest says {stated}")
