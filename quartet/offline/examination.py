"""Checks and times every graph of a models folder on the devices of this machine."""

import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.inference.cards import AUTO, REFERENCE
from service.inference.device import DeviceUnavailable
from service.inference.golden import Difference, read_golden
from service.inference.loading import Kind, read_version
from service.inference.manifest import InvalidModel, check_files
from service.inference.session import Session
from service.inference.shapes import Array, Shape, Shapes
from service.inference.variants import graphs
from service.inference.versions import versions_in

# A CPU gains nothing from larger batches.
_CPU_BATCH = 16


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for a graph on a device.

    Attributes:
        model: its name.
        version: its number.
        graph: `reference`, or the variant's name.
        device: that it ran on.
        problem: why it cannot serve there; None if it can.
        difference: from its golden file; None if that could not be replayed.
        alone: seconds for a batch of one; 0 if not measured.
        batch: the size of a large batch; 0 if not measured.
        rate: items per second in such batches; 0 if not measured.
    """

    model: str
    version: str
    graph: str
    device: str
    problem: str | None
    difference: Difference | None = None
    alone: float = 0.0
    batch: int = 0
    rate: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the graph can serve on the device."""
        return self.problem is None


def examine(
    models: Path,
    kinds: Mapping[str, Kind],
    devices: Sequence[str],
    *,
    threads: int,
    max_batch: int,
    gpu_memory_mb: float,
    seconds: float,
    names: Collection[str] = (),
) -> Iterator[Finding]:
    """Examines the newest version of each model, and older ones until one can serve on the last device.

    Args:
        models: the folder.
        kinds: by the name of the task.
        devices: `cpu`, `cuda`, `cuda:N`; the last is the one that should serve.
        threads: as for `Session`.
        max_batch: the most items in a batch, unless a manifest states less.
        gpu_memory_mb: as for `Session`.
        seconds: how long to measure each graph, on each device and for each batch size.
        names: of the models; empty for all.

    Yields:
        A finding for each graph on each device it is meant for.
    """
    for folder in sorted(path for path in models.iterdir() if path.is_dir() and (not names or path.name in names)):
        for version in versions_in(folder):
            found = []
            for finding in _examine_version(
                folder / version, kinds, devices, threads, max_batch, gpu_memory_mb, seconds
            ):
                yield finding
                found.append(finding)
            if any(each.good and (each.graph, each.device) == (REFERENCE, devices[-1]) for each in found):
                break


def _examine_version(
    folder: Path,
    kinds: Mapping[str, Kind],
    devices: Sequence[str],
    threads: int,
    max_batch: int,
    gpu_memory_mb: float,
    seconds: float,
) -> Iterator[Finding]:
    name = folder.parent.name
    try:
        manifest, _ = read_version(folder, kinds)
    except InvalidModel as error:
        yield from (Finding(name, folder.name, REFERENCE, device, str(error)) for device in devices)
        return
    batch = min(max_batch, manifest.max_batch)
    for device in devices:
        for graph in reversed(graphs(manifest, AUTO, "cpu" if device == "cpu" else "cuda")[0]):
            label = (name, folder.name, graph.name, device)
            try:
                check_files(folder, graph.manifest, graph.files)
                session = Session(folder / graph.file, device, threads, Shapes.of(manifest, batch), gpu_memory_mb)
                session.check_tensors(graph.manifest)
                golden = read_golden(folder, graph.manifest)
                session.prepare(graph.manifest, golden)
                difference = session.difference(golden, graph.manifest)
            except (InvalidModel, DeviceUnavailable) as error:
                yield Finding(*label, str(error))
                continue
            if not difference.acceptable:
                yield Finding(*label, f"output {difference.output} differs by more than is accepted", difference)
                continue
            if manifest.batched:
                large = min(batch, _CPU_BATCH) if device == "cpu" else batch
                alone, together = (seconds_per_batch(session, golden.inputs, size, seconds) for size in (1, large))
            else:
                large, feed = 1, golden.batch(manifest, Shape(1))
                alone = together = seconds_per_run(session, feed, seconds)
            yield Finding(*label, None, difference, alone, large, large / together)


def seconds_per_batch(session: Session, inputs: Mapping[str, Array], batch: int, seconds: float) -> float:
    """The median time of a batch in a session, without a service around it.

    Args:
        session: to measure.
        inputs: real inputs, repeated to fill a batch.
        batch: its size.
        seconds: how long to measure; at least one batch is timed, after one that is not.
    """
    feed = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in inputs.items()}
    return seconds_per_run(session, feed, seconds)


def seconds_per_run(session: Session, feed: Mapping[str, Array], seconds: float) -> float:
    """The median time of these inputs in a session; see `seconds_per_batch`."""
    session.run(feed)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        session.run(feed)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
