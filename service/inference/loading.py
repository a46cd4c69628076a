"""From a folder on disk to a version that can answer: checked, measured and warm."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from service.inference.cards import ManifestBase
from service.inference.manifest import MODEL, InvalidModel, read_manifest, without_folders
from service.inference.session import Device, Session, read_golden_item

logger = logging.getLogger(__name__)

# A CPU gains nothing from batches that take longer on one core; they would cost latency, and memory for good.
_LONGEST_CPU_BATCH_SECONDS = 0.05
# A model that takes longer the first time is too slow to run on the event loop, so it is not measured again.
_PERHAPS_INLINE_SECONDS = 0.02


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
        manifest: its card.
        companion: what its task needs beside the graph.
        session: on the device; on a CPU with all cores.
        single: the same on one core; None on a GPU, and where there is one core.
        max_batch: its largest batch.
        seconds: what such a batch takes, on one core or on the GPU.
        probe: an item of the golden file, which the model is known to be good at.
    """

    manifest: ManifestBase
    companion: Any
    session: Session
    single: Session | None
    max_batch: int
    seconds: float
    probe: Any


def open_version(
    folder: Path, name: str, kinds: Mapping[str, Kind], *, device: Device, threads: int, max_batch: int
) -> Opened:
    """Opens a version; takes seconds.

    Args:
        folder: of the version.
        name: of the model, as its folder says.
        kinds: by the name of the task.
        device: as `Session` takes it.
        threads: likewise.
        max_batch: the most items in a batch, unless the manifest states less.

    Raises:
        InvalidModel: it cannot be served.
        DeviceUnavailable: the device that was asked for cannot serve.
    """
    manifest = read_manifest(folder, {task: kind.manifest for task, kind in kinds.items()})
    if manifest.name != name:
        raise InvalidModel(f"the manifest is of a model {manifest.name!r}, the folder says {name!r}")
    companion = _read_companion(folder, kinds[manifest.task])
    session = Session(folder / MODEL, device, threads)
    difference = session.check(folder, manifest)
    seconds = session.warm_up(manifest, 1)
    batch = min(max_batch, manifest.max_batch)
    single = None
    if session.device == "cpu":
        if session.threads > 1:
            single = Session(folder / MODEL, "cpu", 1)
            seconds += single.warm_up(manifest, 1)
        alone = min((single or session).warm_up(manifest, 1) for _ in range(2))
        batch = max(1, min(batch, int(_LONGEST_CPU_BATCH_SECONDS / alone)))
    largest = 0.0
    for each in filter(None, (session, single)):
        largest = each.warm_up(manifest, batch)
        seconds += largest
    if largest < _PERHAPS_INLINE_SECONDS:
        # The shortest of some: the first one allocates, and a disturbed one says nothing about the model.
        largest = min((single or session).warm_up(manifest, batch) for _ in range(3))
    logger.info(
        "loaded %s/%s on %s%s; golden file reproduced within %.1g; batches of at most %d; warm after %.2f s",
        name,
        folder.name,
        session.device,
        f" (not cuda: {session.fallback})" if session.fallback else "",
        difference,
        batch,
        seconds,
    )
    return Opened(manifest, companion, session, single, batch, largest, read_golden_item(folder, manifest))


def _read_companion(folder: Path, kind: Kind) -> Any:
    if kind.read_companion is None:
        return None
    try:
        return kind.read_companion(folder)
    except Exception as error:  # each library has errors of its own, or raises plain exceptions
        raise InvalidModel(f"what belongs to the model cannot be read: {without_folders(str(error))}") from error
