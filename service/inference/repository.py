"""The served models: found on disk, loaded, leased to calls, replaced without a gap, closed."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from service.errors import UnknownModel, truncate
from service.inference.batcher import Batcher
from service.inference.device import DeviceUnavailable
from service.inference.leases import Lease, Version
from service.inference.loading import Opened
from service.inference.manifest import InvalidModel, without_folders
from service.inference.observers import Observers
from service.inference.opener import Opener
from service.inference.scheduler import GPU_BATCHES, Scheduler
from service.inference.stacking import runner
from service.inference.versions import Newest, versions_in

logger = logging.getLogger(__name__)


class NothingToServe(Exception):
    """The models folder is missing, empty, or holds nothing that can be served."""


class Repository:
    """Loads models from a folder and leases their versions to calls.

    Args:
        folder: holds `<name>/<version>/`; versions are whole numbers.
        opener: opens versions.
        max_queue: the most items that wait for a model.
        max_wait: seconds of work that may wait for a model.
        observers: are told of batches and drops.
        policy: decides which versions are loaded and which of them answers.
        only: names of the models to load; empty for all.

    Attributes:
        refused: why versions or models cannot be served, by `NAME/VERSION` or `NAME`.
        on_closed: called when a replaced version has closed and its memory can be freed.
        one_client: whether a single client is connected.
    """

    def __init__(
        self,
        folder: Path,
        opener: Opener,
        *,
        max_queue: int,
        max_wait: float,
        observers: Observers | None = None,
        policy: Newest | None = None,
        only: Collection[str] = (),
    ) -> None:
        self._folder = folder
        self._opener = opener
        self._only = only
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._observers = observers
        self._policy = policy or Newest()
        self._schedulers: dict[str, Scheduler] = {}
        self._loading = asyncio.Lock()
        self._loaded: dict[str, dict[str, Version]] = {}
        self._retired: set[Version] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.refused: dict[str, str] = {}
        self.on_closed: Callable[[], None] = lambda: None
        self.one_client: Callable[[], bool] = lambda: False

    @property
    def models(self) -> dict[str, Version]:
        """The version of each model that answers unless a call asks for another."""
        return {
            name: loaded[version]
            for name, loaded in self._loaded.items()
            if (version := self._policy.resolve(loaded, None)) is not None
        }

    @property
    def versions(self) -> list[Version]:
        """Every loaded version that is not retired, ordered by name."""
        return [version for _, loaded in sorted(self._loaded.items()) for version in loaded.values()]

    @property
    def open_versions(self) -> list[Version]:
        """Every loaded version, and retired ones that are not closed yet."""
        return [*self.versions, *self._retired]

    def lease(self, model: str) -> Lease:
        """Leases a version of a model; the caller releases it.

        Args:
            model: `NAME`, `NAME/VERSION` or `NAME/latest`.

        Raises:
            UnknownModel: no such model or version is served.
        """
        name, _, wanted = model.partition("/")
        loaded = self._loaded.get(name, {})
        version = self._policy.resolve(loaded, wanted or None)
        if version is None:
            raise self._unknown(model, name, loaded)
        return Lease(loaded[version], self._close)

    def unknown(self, name: str) -> UnknownModel:
        """What answers a caller that may not know of a model: the same as if there were none of that name."""
        return UnknownModel(f"No model {truncate(name)!r} is served", self._loaded)

    async def load_all(self) -> bool:
        """Loads the versions that the policy wants.

        A later call loads new versions. A replaced version finishes its calls. A model whose folder is gone, or holds
        no good version, continues to serve.

        Returns:
            Whether the loaded versions have changed.

        Raises:
            NothingToServe: the folder is missing or nothing in it can be served.
            DeviceUnavailable: the device that was asked for cannot serve.
        """
        if not self._folder.is_dir():
            raise NothingToServe(f"The models folder {self._folder} does not exist: set QUARTET_MODELS to one.")
        async with self._loading:
            before = {version.label for version in self.versions}
            self.refused = {}
            names = sorted(path.name for path in self._folder.iterdir() if path.is_dir())
            try:
                await self._load([name for name in names if not self._only or name in self._only])
            finally:
                self._opener.forget()
        for name in self._opener.selection.by_model.keys() - self._loaded.keys():
            logger.warning("a variant of %s was asked for, but no such model is served", name)
        if not self._loaded:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items()) or "it holds no versions"
            raise NothingToServe(f"Nothing in {self._folder.resolve()} can be served: {reasons}.")
        return {version.label for version in self.versions} != before

    async def settled(self) -> None:
        """Waits until every retired version without leases has closed."""
        while self._closing:
            await asyncio.wait(self._closing)

    async def close(self, timeout: float | None = None) -> None:
        """Finishes accepted calls and closes every version; after `timeout` seconds, abandons those that hang."""
        end = None if timeout is None else time.monotonic() + timeout
        await asyncio.gather(*(version.batcher.close(timeout) for version in self.open_versions))
        left = None if end is None else max(0.1, end - time.monotonic())
        await asyncio.gather(*(scheduler.close(left) for scheduler in self._schedulers.values()))

    async def _load(self, names: Sequence[str]) -> None:
        candidates: dict[str, list[str]] = {}
        for name in names:
            try:
                candidates[name] = self._policy.candidates(versions_in(self._folder / name))
            except OSError as error:
                self._refuse(name, f"its folder cannot be read: {error.strerror}")
        self._opener.begin(
            self._folder / name / version
            for name, versions in candidates.items()
            for version in versions[: self._policy.count]
            if version not in self._loaded.get(name, {})
        )
        for name, versions in candidates.items():
            await self._load_model(name, versions)

    async def _load_model(self, name: str, candidates: Sequence[str]) -> None:
        """Loads the first good candidates, and retires the versions that they replace."""
        before = self._loaded.get(name, {})
        good: dict[str, Version] = {}
        for version in candidates:
            if len(good) == self._policy.count:
                break
            if version in before:
                good[version] = before[version]
                continue
            try:
                opened = await asyncio.wrap_future(self._opener.open(self._folder / name / version))
            except DeviceUnavailable:
                await asyncio.gather(*(new.batcher.close() for key, new in good.items() if key not in before))
                raise
            except InvalidModel as error:
                self._refuse(f"{name}/{version}", str(error))
            except Exception as error:  # one bad version must never keep the others from serving
                logger.debug("%s/%s cannot be loaded", name, version, exc_info=True)
                self._refuse(f"{name}/{version}", f"it cannot be loaded: {without_folders(repr(error))}")
            else:
                good[version] = self._serve(name, version, opened)
        if good:
            self._loaded[name] = good
            for version, replaced in before.items():
                if version not in good:
                    self._retire(replaced)

    def _serve(self, name: str, version: str, opened: Opened) -> Version:
        performance = opened.performance
        run = runner(opened.session, opened.manifest)
        run_on_one_core = runner(opened.single, opened.manifest) if opened.single else None
        batcher = Batcher(
            run_on_one_core if run_on_one_core and performance.inline else run,
            max_batch=performance.max_batch,
            max_queue=self._max_queue,
            max_wait=self._max_wait,
            label=(name, version),
            observers=self._observers,
            scheduler=None if performance.inline else self._scheduler(opened.session.device),
            run_on_one_core=run_on_one_core,
            cores=self._opener.threads,
            probe=opened.probe,
            seconds_per_item=performance.per_item / (self._opener.threads if opened.single else 1),
        )
        return Version(name, version, opened, batcher)

    def _scheduler(self, device: str) -> Scheduler:
        """The scheduler of a device; its threads start with the first model."""
        if device not in self._schedulers:
            threads = self._opener.threads if device == "cpu" else GPU_BATCHES
            self._schedulers[device] = Scheduler(
                threads, name=f"scheduler-{device}", one_client=lambda: self.one_client()
            )
        return self._schedulers[device]

    def _retire(self, version: Version) -> None:
        """Closes a replaced version once its last lease is released."""
        version.retired = True
        self._retired.add(version)
        if not version.leases:
            self._close(version)

    def _close(self, version: Version) -> None:
        async def close() -> None:
            await version.batcher.close()
            self._retired.discard(version)
            logger.info("closed %s, which was replaced", version.label)
            self.on_closed()

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _refuse(self, what: str, why: str) -> None:
        self.refused[what] = why
        logger.error("refused %s: %s", what, why)

    def _unknown(self, model: str, name: str, loaded: Mapping[str, Version]) -> UnknownModel:
        if loaded:
            return UnknownModel(
                f"The model {name!r} is served in the version {', '.join(loaded)}, not {truncate(model)!r}"
            )
        reason = next((f" ({why})" for key, why in self.refused.items() if key.split("/")[0] == name), "")
        return UnknownModel(f"No model {truncate(name)!r} is served{reason}", self._loaded)
