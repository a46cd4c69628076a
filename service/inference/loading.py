"""From a folder on disk to a version that can answer: checked, measured and warm."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from service.inference.cards import AUTO, REFERENCE, ManifestBase
from service.inference.cuda import serving_device
from service.inference.device import DeviceUnavailable
from service.inference.manifest import InvalidModel, check_files, read_manifest, without_folders
from service.inference.performance import WORTHWHILE, Performance, measure
from service.inference.session import Session, read_golden_item
from service.inference.shapes import Shapes
from service.inference.variants import Graph, graphs

logger = logging.getLogger(__name__)

_SLOWER = "it is not the fastest on this machine"


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
class Running:
    """A graph that is open on a device, and known to be good there.

    Attributes:
        graph: which.
        session: on the device; on a CPU with all cores.
        single: the same on one core; None on a GPU, and where there is one core.
        performance: how fast it is.
        difference: the largest from its golden file.
        warm: the seconds that warming up took.
    """

    graph: Graph
    session: Session
    single: Session | None
    performance: Performance
    difference: float
    warm: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A version that can answer.

    Attributes:
        folder: where it lies.
        manifest: its card, as it holds for the graph that answers.
        companion: what its task needs beside the graph.
        variant: the name of the graph that answers.
        others: why other variants do not, by name.
        session: on the device; on a CPU with all cores.
        single: the same on one core; None on a GPU, and where there is one core.
        performance: how fast the graph is, and how it is best run.
        probe: an item of the golden file, which the model is known to be good at.
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
    quiet: bool = True,
    predecessor: str | None = None,
) -> Opened:
    """Opens a version; takes seconds.

    Args:
        folder: of the version.
        name: of the model, as its folder says.
        kinds: by the name of the task.
        device: as `Session` takes it.
        threads: likewise.
        max_batch: the most items in a batch, unless the manifest states less.
        gpu_memory_mb: likewise.
        wanted: which of its graphs shall answer, as `graphs` takes it.
        quiet: whether nothing is served meanwhile, so that measurements mean something.
        predecessor: which graph of the version that answers now does so; None where it has no variants, or there is
            none.

    Raises:
        InvalidModel: it cannot be served.
        DeviceUnavailable: the device that was asked for cannot serve.
    """
    manifest, companion = read_version(folder, name, kinds)
    serving = serving_device(device)
    may_answer, others = graphs(manifest, wanted, "cpu" if serving == "cpu" else "cuda")
    batch = min(max_batch, manifest.max_batch)

    def run_on(where: str, graph: Graph) -> Running:
        opened = Session(folder / graph.file, where, threads, Shapes.of(manifest, batch), gpu_memory_mb)
        return _run(folder, graph, opened, batch, quiet)

    def run(graph: Graph) -> Running:
        # A variant runs on the device that it is meant for, or not at all.
        if graph.name != REFERENCE:
            check_files(folder, graph.manifest, graph.files)
            return run_on(device if serving == "cpu" else serving, graph)
        # The files of the reference have been checked with the manifest.
        try:
            return run_on(device, graph)
        except InvalidModel as error:
            if device != "auto" or serving == "cpu":
                raise
            running = run_on("cpu", graph)  # without the memory for it, say, the GPU is no better than an absent one
            running.session.fallback = str(error)
            return running

    def check(graph: Graph) -> None:
        Session(folder / graph.file, "cpu", threads).check(folder, graph.manifest)

    # While requests are served, measurements mean nothing.
    best = None if quiet else _recommended(may_answer, predecessor)
    running, beaten = _choose(may_answer, run, check, best, by_speed=wanted == AUTO)
    others |= beaten
    if wanted in others:
        logger.warning("%s/%s: the variant %s was asked for: %s", name, folder.name, wanted, others[wanted])
    session, performance = running.session, running.performance
    logger.info(
        "loaded %s/%s (%s) on %s%s; golden file reproduced within %.1g; batches of at most %d; warm after %.2f s",
        name,
        folder.name,
        running.graph.name,
        session.device,
        f" (not cuda: {session.fallback})" if session.fallback else "",
        running.difference,
        performance.max_batch,
        running.warm,
    )
    return Opened(
        folder,
        running.graph.manifest,
        companion,
        running.graph.name,
        others,
        session,
        running.single,
        performance,
        read_golden_item(folder, running.graph.manifest),
    )


def read_version(folder: Path, name: str, kinds: Mapping[str, Kind]) -> tuple[ManifestBase, Any]:
    """The manifest of a version, and what its task needs beside the graph.

    Args:
        folder: of the version.
        name: of the model, as its folder says.
        kinds: by the name of the task.

    Raises:
        InvalidModel: one of them cannot be read, or the manifest is another model's.
    """
    manifest = read_manifest(folder, {task: kind.manifest for task, kind in kinds.items()})
    if manifest.name != name:
        raise InvalidModel(f"the manifest is of a model {manifest.name!r}, the folder says {name!r}")
    return manifest, _read_companion(folder, kinds[manifest.task])


def _choose(
    may_answer: Sequence[Graph],
    run: Callable[[Graph], Running],
    check: Callable[[Graph], None],
    fastest: Graph | None,
    *,
    by_speed: bool,
) -> tuple[Running, dict[str, str]]:
    """The graph that answers, and why the others that were tried do not.

    Args:
        may_answer: the reference last; it answers where no other is good.
        run: opens a graph.
        check: checks a graph that is not going to answer as long as another one does.
        fastest: of them, where that need not be measured.
        by_speed: whether the fastest shall answer; otherwise the first that is good.

    Raises:
        InvalidModel: the reference is not valid, whichever graph would answer.
        DeviceUnavailable: likewise.
    """
    *variants, reference = may_answer
    others: dict[str, str] = {}
    best: Running | None = None
    if by_speed and variants:
        if fastest is None:  # measured against the reference
            best = run(reference)
        else:  # the others need not even be opened
            others = {graph.name: _SLOWER for graph in variants if graph is not fastest}
            variants = [graph for graph in variants if graph is fastest]
    if best is None and variants:
        check(reference)
    for graph in variants:
        others[graph.name] = _SLOWER
        try:
            candidate = run(graph)
        except (InvalidModel, DeviceUnavailable) as error:
            others[graph.name] = str(error)
            logger.warning("%s: the variant %s is no good here: %s", graph.manifest.name, graph.name, error)
        else:
            if best is None or candidate.performance.is_worth(best.performance):
                best = candidate
    best = best or run(reference)
    others.pop(best.graph.name, None)
    return best, others


def _recommended(may_answer: Sequence[Graph], predecessor: str | None) -> Graph:
    """The graph that is probably the fastest, without a measurement.

    Args:
        may_answer: the reference last.
        predecessor: which graph of the version before answers here; the same of this one does, where there is one.
            Otherwise the one that was the fastest where it was made.
    """
    *variants, reference = may_answer
    if predecessor is not None:
        return next((graph for graph in variants if graph.name == predecessor), reference)
    return max(
        (graph for graph in variants if graph.gain > WORTHWHILE), key=lambda graph: graph.gain, default=reference
    )


def _run(folder: Path, graph: Graph, session: Session, max_batch: int, quiet: bool) -> Running:
    """Checks a graph that has been opened, warms it up and measures it.

    Raises:
        InvalidModel: it is no good here.
    """
    manifest = graph.manifest
    difference = session.check(folder, manifest)
    warm = session.warm_up(manifest, 1)
    single = None
    if session.device == "cpu" and session.threads > 1:
        single = Session(folder / graph.file, "cpu", 1)
        warm += single.warm_up(manifest, 1)
    performance, seconds = measure(manifest, session, single, max_batch, quiet=quiet)
    return Running(graph, session, single, performance, difference, warm + seconds)


def _read_companion(folder: Path, kind: Kind) -> Any:
    if kind.read_companion is None:
        return None
    try:
        return kind.read_companion(folder)
    except Exception as error:  # each library has errors of its own, or raises plain exceptions
        raise InvalidModel(f"what belongs to the model cannot be read: {without_folders(str(error))}") from error
