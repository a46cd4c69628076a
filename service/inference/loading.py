"""From a folder on disk to a version that can answer: checked, measured and warm."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from service.inference import cuda
from service.inference.cards import ManifestBase
from service.inference.device import DeviceUnavailable, cuda_index, cuda_name
from service.inference.golden import Golden, read_golden
from service.inference.manifest import InvalidModel, check_files, read_manifest, without_folders
from service.inference.performance import Performance, measure
from service.inference.session import Session
from service.inference.shapes import Shapes
from service.inference.variants import Graph, graphs

logger = logging.getLogger(__name__)

_SLOWER = "it is not the fastest on this machine"
# Below this, several cores do not answer a lone item sooner than one: the threads of a layer wait for each other.
_ALL_CORES_SECONDS = 0.001


class Kind(NamedTuple):
    """What loading has to know of a task.

    Attributes:
        manifest: the class of its manifest.
        read_companion: reads what the task needs beside the graph, from a version's folder.
    """

    manifest: type[ManifestBase]
    read_companion: Callable[[Path], Any] | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A version that can answer.

    Attributes:
        folder: of the version.
        manifest: the manifest, with the values that hold for the graph that answers.
        companion: what the task needs beside the graph.
        variant: the name of the graph that answers.
        others: why each other variant does not answer, by name.
        fallback: why the graph does not run on CUDA where the device is `auto`; None if it does.
        session: on the device; on a CPU with all cores where that is faster for a lone item.
        single: a session on one core; None on a GPU, and with one thread.
        performance: how fast the graph is, and how it is best run.
        probe: an item of the golden file, to tell a broken model from bad items.
    """

    folder: Path
    manifest: ManifestBase
    companion: Any
    variant: str
    others: Mapping[str, str]
    fallback: str | None
    session: Session
    single: Session | None
    performance: Performance
    probe: Any


class _Running(NamedTuple):
    """A graph in a session that has reproduced the golden file; on a CPU the session has a single thread."""

    graph: Graph
    session: Session
    performance: Performance
    golden: Golden
    difference: float


@dataclass(frozen=True, slots=True)
class Loader:
    """Opens versions: checks and measures their graphs, and chooses the one that answers.

    Attributes:
        kinds: by the name of the task.
        device: `cpu`; `cuda` or `cuda:N`; `auto`, which takes CUDA where it works.
        threads: of a session that uses all cores.
        max_batch: the most items in a batch, unless a manifest states less.
        gpu_memory_mb: see `Session`.
    """

    kinds: Mapping[str, Kind]
    device: str
    threads: int
    max_batch: int
    gpu_memory_mb: float = 0

    def open(self, folder: Path, wanted: str) -> Opened:
        """Opens the version in `<name>/<version>`; takes a fraction of a second on a CPU, seconds on a GPU.

        The reference is always checked, since it answers where no variant is good. `wanted` is the graph that should
        answer, see `graphs`.

        Raises:
            InvalidModel: the version cannot be served.
            DeviceUnavailable: the device that was asked for cannot serve.
        """
        started = time.perf_counter()
        label = f"{folder.parent.name}/{folder.name}"
        manifest, companion = read_version(folder, self.kinds)
        device, unavailable = self._resolve_device()
        fallback = unavailable
        (*variants, reference), others = graphs(manifest, wanted, "cpu" if device == "cpu" else "cuda")
        try:
            best = self._run(folder, reference, device)
        except (InvalidModel, DeviceUnavailable) as error:
            if device == "cpu" or self.device != "auto":
                raise
            fallback = str(error)  # for lack of GPU memory, say
            best = self._run(folder, reference, "cpu")
        for graph in variants:
            try:
                check_files(folder, graph.manifest, graph.files)
                candidate = self._run(folder, graph, device)
            except (InvalidModel, DeviceUnavailable) as error:
                others[graph.name] = str(error)
                logger.warning("%s: the variant %s cannot answer here: %s", label, graph.name, error)
                continue
            slower = graph
            if wanted == graph.name or candidate.performance.is_worth(best.performance):
                slower, best = best.graph, candidate
            if slower is not reference:
                others[slower.name] = _SLOWER
        if wanted in others:
            logger.warning("%s: the variant %s was asked for: %s", label, wanted, others[wanted])
        session, single = self._sessions(folder, best)
        if session.device != "cpu":
            fallback = None
        logger.info(
            "loaded %s (%s) on %s%s in %.2f s; golden file reproduced within %.1g; batches of at most %d",
            label,
            best.graph.name,
            session.device,
            f" (not cuda: {fallback})" if fallback != unavailable else "",
            time.perf_counter() - started,
            best.difference,
            best.performance.max_batch,
        )
        return Opened(
            folder=folder,
            manifest=best.graph.manifest,
            companion=companion,
            variant=best.graph.name,
            others=others,
            fallback=fallback,
            session=session,
            single=single,
            performance=best.performance,
            probe=best.golden.probe,
        )

    def _resolve_device(self) -> tuple[str, str | None]:
        """The device to run on, and why `auto` does not take CUDA."""
        if self.device == "cpu":
            return "cpu", None
        index = cuda_index(self.device)
        problem = cuda.cuda_problem(index)
        if problem is None:
            return cuda_name(index), None
        if self.device != "auto":
            raise DeviceUnavailable(problem)
        _warn_of_cpu(problem)
        return "cpu", problem

    def _run(self, folder: Path, graph: Graph, device: str) -> _Running:
        max_batch = min(self.max_batch, graph.manifest.max_batch)
        if device == "cpu":
            session = Session(folder / graph.file, "cpu", 1)
        else:
            shapes = Shapes.of(graph.manifest, max_batch)
            session = Session(folder / graph.file, device, self.threads, shapes, self.gpu_memory_mb)
        session.check_tensors(graph.manifest)
        golden = read_golden(folder, graph.manifest)
        session.prepare(graph.manifest, golden)
        performance = measure(graph.manifest, session, golden, max_batch)
        # In batches as the service runs them: a larger one would take memory that is never needed again.
        difference = session.verify(golden, graph.manifest, performance.max_batch)
        return _Running(graph, session, performance, golden, difference)

    def _sessions(self, folder: Path, running: _Running) -> tuple[Session, Session | None]:
        """The session that runs lone items, and the one on a single core; see `Opened`."""
        single = running.session
        if single.device != "cpu" or self.threads == 1:
            return single, None
        if running.performance.alone < _ALL_CORES_SECONDS:
            return single, single
        session = Session(folder / running.graph.file, "cpu", self.threads)
        # The same kernels in more threads: one item shows that they work.
        session.verify(running.golden.first, running.graph.manifest)
        return session, single


@cache
def _warn_of_cpu(problem: str) -> None:
    """Logs once, and not for every model, why the service runs on the CPU."""
    logger.info("CUDA is not available, so models run on the CPU: %s", problem)


def read_version(folder: Path, kinds: Mapping[str, Kind]) -> tuple[ManifestBase, Any]:
    """The manifest of the version in `<name>/<version>`, and what its task needs beside the graph.

    Raises:
        InvalidModel: one of them cannot be read, or the manifest belongs to another model.
    """
    manifest = read_manifest(folder, {task: kind.manifest for task, kind in kinds.items()})
    name = folder.parent.name
    if manifest.name != name:
        raise InvalidModel(f"the manifest is of a model {manifest.name!r}, the folder says {name!r}")
    read_companion = kinds[manifest.task].read_companion
    if read_companion is None:
        return manifest, None
    try:
        return manifest, read_companion(folder)
    except Exception as error:  # each library has errors of its own, or raises plain exceptions
        raise InvalidModel(f"what belongs to the model cannot be read: {without_folders(str(error))}") from error
