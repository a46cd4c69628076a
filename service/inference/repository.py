"""The models being served: found on disk, checked, loaded, replaced without a gap, closed."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from service.errors import UnknownModel, WrongTask
from service.inference.batcher import Batcher, Observer
from service.inference.cards import ManifestBase
from service.inference.manifest import MODEL, InvalidModel, Manifest, read_manifest
from service.inference.session import Array, Device, Session

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
    """A version that is being served."""

    name: str
    version: str
    folder: Path
    manifest: Manifest
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


class Repository:
    """Loads models from `folder` and keeps the highest good version of each.

    Args:
        folder: holds `<name>/<version>/`, versions being whole numbers.
        device: as `Session` takes it.
        threads: likewise.
        max_batch: the most items in a batch, unless a manifest states less.
        max_queue: the most items that wait for a model.
        observer: makes the observer of a model's batcher, given its name.
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
    ) -> None:
        self._folder = folder
        self._device = device
        self._threads = threads
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._observer = observer
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

        Raises:
            NothingToServe: the folder is missing or nothing in it can be served.
            DeviceUnavailable: the device that was asked for cannot serve.
        """
        if not self._folder.is_dir():
            raise NothingToServe(f"The models folder {self._folder} does not exist: set QUARTET_MODELS to one.")
        for folder in sorted(path for path in self._folder.iterdir() if path.is_dir()):
            try:
                await self.load(folder.name)
            except OSError as error:
                self.refused[folder.name] = f"its folder cannot be read: {error.strerror}"
                logger.error("refused %s: %s", folder.name, self.refused[folder.name])
        if not self.models:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items()) or "it holds no versions"
            raise NothingToServe(f"Nothing in {self._folder.resolve()} can be served: {reasons}.")

    async def load(self, name: str) -> Model | None:
        """Loads the highest good version of `name`, then lets the one that served before finish and go.

        Returns:
            The model that is served from now on; None if no version is good and none was served.
        """
        serving = self.models.get(name)
        for version in versions(self._folder / name):
            if serving and version == serving.version:
                return serving
            try:
                # Hashing, optimising the graph and warming up block for long: off the event loop.
                manifest, session, narrow, batch, seconds = await asyncio.to_thread(self._open, name, version)
            except InvalidModel as error:
                self.refused[f"{name}/{version}"] = str(error)
                logger.error("refused %s/%s: %s", name, version, error)
                continue
            self.refused.pop(f"{name}/{version}", None)
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
            self.models[name] = Model(name, version, self._folder / name / version, manifest, session, batcher, batch)
            if serving:
                await serving.batcher.close()
            return self.models[name]
        return serving

    async def close(self, timeout: float | None = None) -> None:
        """Finishes what was accepted and stops every batcher; gives up on one that hangs after `timeout` seconds."""
        await asyncio.gather(*(model.batcher.close(timeout) for model in self.models.values()))

    def _open(self, name: str, version: str) -> tuple[Manifest, Session, Session | None, int, float]:
        """The checked version.

        Returns:
            Its manifest, its session, the same on one core (CPU alone), its largest batch, and the seconds that such
            a batch takes on one core or on the GPU.
        """
        folder = self._folder / name / version
        manifest = read_manifest(folder)
        if manifest.name != name:
            raise InvalidModel(f"the manifest is of a model {manifest.name!r}, the folder says {name!r}")
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
        return manifest, session, narrow, batch, largest


def versions(folder: Path) -> list[str]:
    """The version numbers below a model's folder, the highest first."""
    found = [path.name for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=int, reverse=True)


def run_batch(
    run: Callable[[Mapping[str, Array]], list[Array]], names: tuple[str, ...], items: list[Any]
) -> list[tuple[Array, ...]]:
    """Stacks items along a new first axis, runs them, and splits the outputs again.

    Args:
        run: takes the named inputs, returns the outputs.
        names: of the inputs.
        items: each an array, or a tuple of one per input.

    Returns:
        For each item one row of every output.
    """
    columns = zip(*items, strict=True) if len(names) > 1 else (items,)
    outputs = run({name: np.stack(column) for name, column in zip(names, columns, strict=True)})
    return list(zip(*outputs, strict=True))


def run_ragged(
    run: Callable[[Mapping[str, Array]], list[Array]], names: tuple[str, ...], items: list[Any]
) -> list[tuple[Array, ...]]:
    """As `run_batch`, for items of different lengths along their first axis and a model that ignores zeros at the end.

    Items of about one length run together, so that a long one does not make all the others as long.
    """
    order = sorted(range(len(items)), key=lambda index: len(items[index]))
    results: list[tuple[Array, ...]] = [()] * len(items)
    start = 0
    while start < len(order):
        # A run of its own costs about as much as these few more steps of padding would.
        most = len(items[order[start]]) * 1.5 + 16
        group = [index for index in order[start:] if len(items[index]) <= most]
        longest = len(items[group[-1]])
        stacked = np.zeros((len(group), longest, *items[group[0]].shape[1:]), dtype=items[group[0]].dtype)
        for row, index in enumerate(group):
            stacked[row, : len(items[index])] = items[index]
        for index, row_outputs in zip(group, zip(*run({names[0]: stacked}), strict=True), strict=True):
            results[index] = row_outputs
        start += len(group)
    return results
