"""From a folder on disk to a version that can answer: checked, measured and warm."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from service.inference import cuda
from service.inference.cards import AUTO, ManifestBase
from service.inference.device import DeviceUnavailable, cuda_index, cuda_name
from service.inference.golden import Golden
from service.inference.manifest import InvalidModel, check_files, read_manifest, without_folders
from service.inference.performance import Performance, measure
from service.inference.session import Session, read_golden_of
from service.inference.shapes import Shapes
from service.inference.variants import Graph, graphs

logger = logging.getLogger(__name__)

_SLOWER = "it is not the fastest on this machine"
# A lone item that takes less is answered as soon on one core as on all: the threads of a layer wait for each other.
_ALL_CORES_SECONDS = 0.001


class Kind(NamedTuple):
    """What loading has to know of a task.

    Attributes:
        manifest: the class of its manifest.
        read_companion: reads what the task needs beside the graph, from a version's folder; None where it needs
            nothing.
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
    session: Session
    single: Session | None
    performance: Performance
    probe: Any


class _Running(NamedTuple):
    """A graph in a session that has given the golden answers; on a CPU the session is single-threaded."""

    graph: Graph
    session: Session
    performance: Performance
    golden: Golden
    difference: float


def open_version(
    folder: Path,
    name: str,
    kinds: Mapping[str, Kind],
    *,
    device: str,
    threads: int,
    max_batch: int,
    gpu_memory_mb: float = 0,
    wanted: str = AUTO,
) -> Opened:
    """Opens a version; takes a fraction of a second on a CPU, seconds on a GPU.

    The reference is always checked, since it answers where no variant is good.

    Args:
        folder: of the version.
        name: of the model, as its folder says.
        kinds: by the name of the task.
        device: as `Session` takes it.
        threads: of a session that uses all cores.
        max_batch: the most items in a batch, unless the manifest states less.
        gpu_memory_mb: as `Session` takes it.
        wanted: which graph shall answer, as `graphs` takes it.

    Raises:
        InvalidModel: the version cannot be served.
        DeviceUnavailable: the device that was asked for cannot serve.
    """
    started = time.perf_counter()
    manifest, companion = read_version(folder, name, kinds)
    problem = None if device == "cpu" else cuda.cuda_problem(cuda_index(device))
    if problem and device != "auto":
        raise DeviceUnavailable(problem)
    gpu = None if device == "cpu" or problem else cuda_name(cuda_index(device))
    (*variants, reference), others = graphs(manifest, wanted, "cuda" if gpu else "cpu")
    most = min(max_batch, manifest.max_batch)

    def run_on_gpu(graph: Graph, where: str) -> _Running:
        shapes = Shapes.of(manifest, most)
        return _run(folder, graph, Session(folder / graph.file, where, threads, shapes, gpu_memory_mb), most)

    def run_on_cpu(graph: Graph) -> _Running:
        return _run(folder, graph, Session(folder / graph.file, "cpu", 1), most)

    fallback = problem
    try:
        best = run_on_gpu(reference, gpu) if gpu else run_on_cpu(reference)
    except (InvalidModel, DeviceUnavailable) as error:
        if gpu is None or device != "auto":
            raise
        fallback = str(error)  # a GPU without enough memory, say
        best = run_on_cpu(reference)
    for graph in variants:
        try:
            check_files(folder, graph.manifest, graph.files)
            candidate = run_on_gpu(graph, gpu) if gpu else run_on_cpu(graph)
        except (InvalidModel, DeviceUnavailable) as error:
            others[graph.name] = str(error)
            logger.warning("%s: the variant %s is no good here: %s", name, graph.name, error)
            continue
        if wanted == graph.name or candidate.performance.is_worth(best.performance):
            if best.graph is not reference:
                others[best.graph.name] = _SLOWER
            best = candidate
        else:
            others[graph.name] = _SLOWER
    if wanted in others:
        logger.warning("%s/%s: the variant %s was asked for: %s", name, folder.name, wanted, others[wanted])
    session, single = _sessions(folder, best, threads)
    session.fallback = None if session.device != "cpu" else fallback
    logger.info(
        "loaded %s/%s (%s) on %s%s in %.2f s; golden file reproduced within %.1g; batches of at most %d",
        name,
        folder.name,
        best.graph.name,
        session.device,
        f" (not cuda: {session.fallback})" if session.fallback else "",
        time.perf_counter() - started,
        best.difference,
        best.performance.max_batch,
    )
    return Opened(
        folder,
        best.graph.manifest,
        companion,
        best.graph.name,
        others,
        session,
        single,
        best.performance,
        best.golden.item(0),
    )


def read_version(folder: Path, name: str, kinds: Mapping[str, Kind]) -> tuple[ManifestBase, Any]:
    """The manifest of a version, and what its task needs beside the graph.

    Args:
        folder: of the version.
        name: of the model, as its folder says.
        kinds: by the name of the task.

    Raises:
        InvalidModel: one of them cannot be read, or the manifest belongs to another model.
    """
    manifest = read_manifest(folder, {task: kind.manifest for task, kind in kinds.items()})
    if manifest.name != name:
        raise InvalidModel(f"the manifest is of a model {manifest.name!r}, the folder says {name!r}")
    read_companion = kinds[manifest.task].read_companion
    if read_companion is None:
        return manifest, None
    try:
        return manifest, read_companion(folder)
    except Exception as error:  # each library has errors of its own, or raises plain exceptions
        raise InvalidModel(f"what belongs to the model cannot be read: {without_folders(str(error))}") from error


def _run(folder: Path, graph: Graph, session: Session, max_batch: int) -> _Running:
    """Checks, warms up and measures a session.

    Raises:
        InvalidModel: the graph is no good here.
    """
    session.prepare(graph.manifest)
    performance = measure(graph.manifest, session, max_batch)
    golden = read_golden_of(folder, graph.manifest)
    # In batches as the service runs them: a larger one would take memory that is never needed again.
    difference = session.verify(golden, graph.manifest, performance.max_batch)
    return _Running(graph, session, performance, golden, difference)


def _sessions(folder: Path, running: _Running, threads: int) -> tuple[Session, Session | None]:
    """The session that runs lone items, and the one on a single core; see `Opened`."""
    single = running.session
    if single.device != "cpu" or threads == 1:
        return single, None
    if running.performance.alone < _ALL_CORES_SECONDS:
        return single, single
    session = Session(folder / running.graph.file, "cpu", threads)
    # The same kernels in more threads: one item shows that they work.
    session.verify(running.golden.first(1), running.graph.manifest)
    return session, single
