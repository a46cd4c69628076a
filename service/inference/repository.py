"""The models being served: found on disk, checked, loaded, replaced without a gap, closed."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from service.errors import UnknownModel, WrongTask
from service.inference.batcher import Batcher, Observer
from service.inference.cards import ManifestBase
from service.inference.manifest import MODEL, InvalidModel, Manifest, read_manifest
from service.inference.session import Device, Session
from service.inference.stacking import run_batch, run_ragged

logger = logging.getLogger(__name__)

AnyManifest = TypeVar("AnyManifest", bound=ManifestBase)

# A model whose largest batch takes less than this runs on the event loop: handing over to a thread and back costs
# up to half of it, and the loop can wait for so long.
_INLINE_SECONDS = 0.0005
# One that takes longer than this the first time is none of those; a model is ready the earlier for not asking again.
_PERHAPS_INLINE_SECONDS = 0.02
# A CPU gains nothing from batches that take longer on one core; they would cost latency, and memory for good.
_LONGEST_CPU_BATCH_SECONDS = 0.05


class NothingToServe(Exception):
    """The models folder is missing, empty, or holds nothing that can be served."""


@dataclass(frozen=True, slots=True)
class Model:
    """A version that is being served; `companion` is what its task needs beside the graph."""

    name: str
    version: str
    folder: Path
    manifest: Manifest
    companion: Any
    session: Session
    batcher: Batcher
    max_batch: int

    @property
    def device(self) -> str:
        """Where it runs, `cpu` or `cuda`."""
        return self.session.device

    @property
    def signature(self) -> dict[str, str]:
        """What every answer says of who made it."""
        return {"model": self.name, "version": self.version, "device": self.device}

    def manifest_as(self, kind: type[AnyManifest]) -> AnyManifest:
        """The manifest of a model for one task.

        Raises:
            WrongTask: it is for another.
        """
        if not isinstance(self.manifest, kind):
            wanted = kind.model_fields["task"].default
            raise WrongTask(
                f"The model {self.name!r} is for {self.manifest.task}, this route for {wanted}: GET /v1/models lists "
                "the task of each."
            )
        return self.manifest


class _Checked(NamedTuple):
    """A version that can be served.

    Attributes:
        manifest: its card.
        companion: what its task needs beside the graph.
        session: on the device; on the CPU with all threads.
        narrow: the same on one core; CPU alone, and only where there are several.
        batch: its largest batch.
        seconds: what such a batch takes on one core or on the GPU.
    """

    manifest: Manifest
    companion: Any
    session: Session
    narrow: Session | None
    batch: int
    seconds: float


class Repository:
    """Loads models from `folder` and keeps the highest good version of each.

    Args:
        folder: holds `<name>/<version>/`, versions being whole numbers.
        device: as `Session` takes it.
        threads: likewise.
        max_batch: the most items in a batch, unless a manifest states less.
        max_queue: the most items that wait for a model.
        observer: makes the observer of a model's batcher, given its name.
        read_companion: reads what a task needs beside the graph, given a version's folder and manifest; raises
            `InvalidModel` where that is of no use.
        timeout: seconds that a request takes at most: so long is a replaced version kept for those that it began.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: Device,
        threads: int,
        max_batch: int,
        max_queue: int,
        observer: Callable[[str], Observer],
        read_companion: Callable[[Path, Manifest], Any] = lambda _folder, _manifest: None,
        timeout: float = 0.0,
    ) -> None:
        self._folder = folder
        self._device = device
        self._threads = threads
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._observer = observer
        self._read_companion = read_companion
        self._timeout = timeout
        self._loading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self.models: dict[str, Model] = {}
        # "name/version" of what was found unusable, and why.
        self.refused: dict[str, str] = {}

    def get(self, name: str) -> Model:
        """The served version of `name`.

        Raises:
            UnknownModel: nothing of that name is served.
        """
        model = self.models.get(name)
        if model is None:
            reason = next((f" ({why})" for key, why in self.refused.items() if key.split("/")[0] == name), "")
            raise UnknownModel(f"No model {name!r} is served{reason}: there are {', '.join(sorted(self.models))}.")
        return model

    async def load_all(self) -> None:
        """Loads the highest good version of every model in the folder.

        Called again, it does so for what is new there: a version that was replaced finishes what it began, and a
        model whose folder is gone or holds nothing good goes on serving.

        Raises:
            NothingToServe: the folder is missing or nothing in it can be served.
            DeviceUnavailable: the device that was asked for cannot serve.
        """
        if not self._folder.is_dir():
            raise NothingToServe(f"The models folder {self._folder} does not exist: set QUARTET_MODELS to one.")
        async with self._loading:
            self.refused.clear()
            for folder in sorted(path for path in self._folder.iterdir() if path.is_dir()):
                try:
                    await self._load(folder.name)
                except OSError as error:
                    self.refused[folder.name] = f"its folder cannot be read: {error.strerror}"
                    logger.error("refused %s: %s", folder.name, self.refused[folder.name])
        if not self.models:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items()) or "it holds no versions"
            raise NothingToServe(f"Nothing in {self._folder.resolve()} can be served: {reasons}.")

    async def _load(self, name: str) -> None:
        """Serves the highest good version of `name` from now on, if it is not served already."""
        serving = self.models.get(name)
        for version in versions(self._folder / name):
            if serving and version == serving.version:
                return
            try:
                # Hashing, optimising the graph and warming up block for long: off the event loop.
                checked = await asyncio.to_thread(self._open, name, version)
            except InvalidModel as error:
                self.refused[f"{name}/{version}"] = str(error)
                logger.error("refused %s/%s: %s", name, version, error)
                continue
            self.models[name] = self._serve(name, version, checked)
            if serving:
                task = asyncio.create_task(self._retire(serving))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
            return

    def _serve(self, name: str, version: str, checked: _Checked) -> Model:
        manifest, companion, session, narrow, batch, seconds = checked
        # Items of one shape are stacked as they are; where a length is open, they may differ.
        how = run_ragged if any(-1 in spec.shape[1:] for spec in manifest.inputs) else run_batch
        run = partial(how, session.run, tuple(session.inputs))
        run_narrow = partial(how, narrow.run, tuple(narrow.inputs)) if narrow else None
        inline = seconds < _INLINE_SECONDS
        batcher = Batcher(
            run_narrow or run if inline else run,
            max_batch=batch,
            max_queue=self._max_queue,
            observer=self._observer(name),
            name=f"batcher-{name}",
            lanes=0 if inline else session.threads if narrow else 1,
            run_narrow=run_narrow,
        )
        return Model(name, version, self._folder / name / version, manifest, companion, session, batcher, batch)

    async def _retire(self, model: Model) -> None:
        """Ends a version that was replaced, once no request can have it in hand any more."""
        try:
            await asyncio.sleep(self._timeout)
        finally:
            await model.batcher.close(self._timeout)

    async def settled(self) -> None:
        """Returns when every version that was replaced has ended."""
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def close(self, timeout: float | None = None) -> None:
        """Finishes what was accepted and stops every batcher; gives up on one that hangs after `timeout` seconds."""
        for task in self._retiring:
            task.cancel()
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=timeout)
        await asyncio.gather(*(model.batcher.close(timeout) for model in self.models.values()))

    def _open(self, name: str, version: str) -> _Checked:
        """The version, checked and warm.

        Raises:
            InvalidModel: it cannot be served.
        """
        folder = self._folder / name / version
        manifest = read_manifest(folder)
        if manifest.name != name:
            raise InvalidModel(f"the manifest is of a model {manifest.name!r}, the folder says {name!r}")
        companion = self._read_companion(folder, manifest)
        session = Session(folder / MODEL, self._device, self._threads)
        difference = session.check(folder, manifest)
        batch = min(self._max_batch, manifest.max_batch)
        seconds = session.warm_up(manifest, (1,))
        narrow = None
        if session.device == "cpu":
            if session.threads > 1:
                narrow = Session(folder / MODEL, "cpu", 1)
                seconds += narrow.warm_up(manifest, (1,))
            alone = min((narrow or session).warm_up(manifest, (1,)) for _ in range(2))
            batch = max(1, min(batch, int(_LONGEST_CPU_BATCH_SECONDS / alone)))
        largest = 0.0
        for each in filter(None, (session, narrow)):
            largest = each.warm_up(manifest, (batch,))
            seconds += largest
        if largest < _PERHAPS_INLINE_SECONDS:
            # The shortest of some: the first one allocates, and a disturbed one says nothing about the model.
            largest = min((narrow or session).warm_up(manifest, (batch,)) for _ in range(3))
        logger.info(
            "loaded %s/%s on %s%s; golden file reproduced within %.1g; warm after %.2f s",
            name,
            version,
            session.device,
            f" (not cuda: {session.fallback})" if session.fallback else "",
            difference,
            seconds,
        )
        return _Checked(manifest, companion, session, narrow, batch, largest)


def versions(folder: Path) -> list[str]:
    """The version numbers below a model's folder, the highest first."""
    found = [path.name for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=int, reverse=True)
