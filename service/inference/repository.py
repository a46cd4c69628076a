"""The models being served: found on disk, loaded, lent to calls, replaced without a gap, closed."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from service.errors import UnknownModel, WrongTask, shown
from service.inference.batcher import Batcher
from service.inference.device import DeviceLost, DeviceUnavailable, available_cpus, end_process
from service.inference.loading import Kind, Opened, open_version
from service.inference.manifest import InvalidModel, without_folders
from service.inference.observers import Observers
from service.inference.scheduler import GPU_BATCHES, Scheduler
from service.inference.session import Session
from service.inference.stacking import runner
from service.inference.variants import Selection
from service.inference.versions import Newest, versions_in

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class NothingToServe(Exception):
    """The models folder is missing, empty, or holds nothing that can be served."""


class Version:
    """A version that is loaded, and what it needs to answer.

    Attributes:
        name: of the model.
        version: its number.
        label: both, as a call may ask for it.
        folder: where it lies.
        signature: what every answer says of who made it.
        manifest: its card, as it holds for the graph that answers.
        companion: what its task needs beside the graph.
        variant: the name of the graph that answers.
        others: why other variants do not, by name.
        session: on the device.
        batcher: takes its items.
    """

    def __init__(self, name: str, version: str, opened: Opened, batcher: Batcher) -> None:
        self.name = name
        self.version = version
        self.label = f"{name}/{version}"
        self.folder = opened.folder
        self.variant = opened.variant
        self.others = opened.others
        self.signature = {
            "model": name,
            "version": version,
            "device": opened.session.device,
            "variant": opened.variant,
        }
        self.manifest = opened.manifest
        self.companion = opened.companion
        self.session: Session = opened.session
        self.batcher = batcher
        self.leases = 0
        self.retired = False

    @property
    def device(self) -> str:
        """Where it runs: `cpu`, `cuda` or `cuda:N`."""
        return self.session.device

    @property
    def max_batch(self) -> int:
        """The most items in a batch."""
        return self.batcher.max_batch

    def check_task(self, task: str) -> None:
        """Refuses a call that is meant for models of another task.

        Raises:
            WrongTask: says which task this one is for.
        """
        if self.manifest.task != task:
            raise WrongTask(
                f"The model {self.name!r} is for the task {self.manifest.task!r}, not {task!r}: GET /v1/models lists "
                "the task of each."
            )


class Lease:
    """A call's right to use a loaded version, which stays open until its last lease is returned."""

    __slots__ = ("_closing", "version")

    def __init__(self, version: Version, closing: Callable[[Version], None]) -> None:
        self.version = version
        self._closing: Callable[[Version], None] | None = closing
        version.leases += 1

    def release(self) -> None:
        """Returns it; a second time does nothing."""
        if self._closing is not None:
            closing, self._closing = self._closing, None
            self.version.leases -= 1
            if self.version.retired and not self.version.leases:
                closing(self.version)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


async def _on_daemon_thread(work: Callable[[], Result]) -> Result:
    """The result of `work`, on a thread that nobody waits for when the process ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(cast(Result, result))
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        except DeviceLost as lost:
            end_process(lost)
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await future


class Repository:
    """Loads models from a folder and lends their versions to calls.

    Args:
        folder: holds `<name>/<version>/`, versions being whole numbers.
        kinds: what loading has to know, by the name of the task.
        device: as `Session` takes it.
        threads: CPU threads, which all models share; 0 for as many as there are CPUs.
        max_batch: the most items in a batch, unless a manifest states less.
        max_queue: the most items that wait for a model.
        max_wait: seconds of work that may wait for a model.
        gpu_memory_mb: as `Session` takes it.
        observers: are told of batches and drops.
        selection: which variants answer.
        policy: which versions are loaded and which of them answers.
        only: names of the models that are loaded; all of the folder, where there are none.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Mapping[str, Kind],
        *,
        device: str,
        threads: int,
        max_batch: int,
        max_queue: int,
        max_wait: float,
        observers: Observers | None = None,
        gpu_memory_mb: float = 0,
        selection: Selection | None = None,
        policy: Newest | None = None,
        only: Collection[str] = (),
    ) -> None:
        self._folder = folder
        self._only = only
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._observers = observers
        self._selection = selection or Selection()
        self._policy = policy or Newest()
        self._threads = threads or available_cpus()
        self._open = partial(
            open_version,
            kinds=kinds,
            device=device,
            threads=self._threads,
            max_batch=max_batch,
            gpu_memory_mb=gpu_memory_mb,
        )
        self._schedulers: dict[str, Scheduler] = {}
        self._loading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._retired: set[Version] = set()
        self._loaded: dict[str, dict[str, Version]] = {}
        # "name/version" of what was found unusable, and why.
        self.refused: dict[str, str] = {}
        # Called when a version that was replaced has been closed, and its memory can be had back.
        self.on_closed: Callable[[], None] | None = None
        # Whether a single client is connected: only a server knows.
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
        """Every version that is loaded, in the order of names; those that are retired are not among them."""
        return [version for _, loaded in sorted(self._loaded.items()) for version in loaded.values()]

    @property
    def open_versions(self) -> list[Version]:
        """Every version that is loaded, and those that were replaced and still have to answer calls or to close."""
        return [*self.versions, *self._retired]

    def lease(self, model: str) -> Lease:
        """The right to use a model.

        Args:
            model: `NAME`, or `NAME/VERSION` where the version matters; the caller returns the lease.

        Raises:
            UnknownModel: nothing of that name, or no such version of it, is served.
        """
        name, _, wanted = model.partition("/")
        loaded = self._loaded.get(name)
        version = self._policy.resolve(loaded, wanted or None) if loaded else None
        if loaded is None or version is None:
            raise self._unknown(model, name, loaded or {})
        return Lease(loaded[version], self._close_version)

    async def load_all(self) -> bool:
        """Loads from the folder what the policy wants of each model.

        Called again, it does so for what is new there: a version that was replaced finishes what it began, and a
        model whose folder is gone or holds nothing good goes on serving.

        Returns:
            Whether there was anything new.

        Raises:
            NothingToServe: the folder is missing or nothing in it can be served.
            DeviceUnavailable: the device that was asked for cannot serve.
        """
        if not self._folder.is_dir():
            raise NothingToServe(f"The models folder {self._folder} does not exist: set QUARTET_MODELS to one.")
        async with self._loading:
            before = {version.label for version in self.versions}
            self.refused = {}
            for folder in sorted(path for path in self._folder.iterdir() if path.is_dir()):
                if self._only and folder.name not in self._only:
                    continue
                try:
                    await self._load(folder.name, quiet=not before)
                except OSError as error:
                    self._refuse(folder.name, f"its folder cannot be read: {error.strerror}")
        for name in self._selection.by_model.keys() - self._loaded.keys():
            logger.warning("a variant of %s was asked for, but no such model is served", name)
        if not self._loaded:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items()) or "it holds no versions"
            raise NothingToServe(f"Nothing in {self._folder.resolve()} can be served: {reasons}.")
        return {version.label for version in self.versions} != before

    async def settled(self) -> None:
        """Returns when every replaced version that has no leases left has been closed."""
        while self._closing:
            await asyncio.wait(self._closing)

    async def close(self, timeout: float | None = None) -> None:
        """Finishes what was accepted and closes every version; gives up on one that hangs after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        await asyncio.gather(*(version.batcher.close(timeout) for version in self.open_versions))
        left = None if end is None else max(0.1, end - time.monotonic())
        await asyncio.gather(*(scheduler.close(left) for scheduler in self._schedulers.values()))

    async def _load(self, name: str, *, quiet: bool) -> None:
        """Loads what the policy wants of a model, and retires what it no longer wants.

        Args:
            name: of the model.
            quiet: whether nothing is served meanwhile.
        """
        before = self._loaded.get(name, {})
        answers = self.models.get(name)
        good: dict[str, Version] = {}
        for version in self._policy.candidates(versions_in(self._folder / name)):
            if len(good) == self._policy.count:
                break
            if version in before:
                good[version] = before[version]
                continue
            try:
                # Hashing, optimising the graph and warming up block for long: off the event loop.
                work = partial(
                    self._open,
                    self._folder / name / version,
                    name,
                    wanted=self._selection.of(name),
                    quiet=quiet,
                    predecessor=answers.variant if answers and answers.manifest.variants else None,
                )
                opened = await _on_daemon_thread(work)
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
        run = runner(opened.session, opened.manifest)
        run_on_one_core = runner(opened.single, opened.manifest) if opened.single else None
        performance = opened.performance
        # Never on a GPU, however short its batches: the event loop would wait for the device.
        inline = opened.session.device == "cpu" and performance.inline
        batcher = Batcher(
            run_on_one_core or run if inline else run,
            max_batch=performance.max_batch,
            max_queue=self._max_queue,
            max_wait=self._max_wait,
            label=(name, version),
            observers=self._observers,
            scheduler=None if inline else self._scheduler(opened.session.device),
            run_on_one_core=run_on_one_core,
            cores=self._threads,
            probe=opened.probe,
            seconds_per_item=performance.per_item / (self._threads if opened.single else 1),
        )
        return Version(name, version, opened, batcher)

    def _scheduler(self, device: str) -> Scheduler:
        """The scheduler of a device, whose threads begin with its first model."""
        if device not in self._schedulers:
            threads = self._threads if device == "cpu" else GPU_BATCHES
            self._schedulers[device] = Scheduler(
                threads, name=f"scheduler-{device}", one_client=lambda: self.one_client()
            )
        return self._schedulers[device]

    def _retire(self, version: Version) -> None:
        """Has a version that was replaced closed once its last lease is returned."""
        version.retired = True
        self._retired.add(version)
        if not version.leases:
            self._close_version(version)

    def _close_version(self, version: Version) -> None:
        task = asyncio.get_running_loop().create_task(version.batcher.close())
        self._closing.add(task)
        task.add_done_callback(partial(self._closed, version))

    def _closed(self, version: Version, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        self._retired.discard(version)
        logger.info("closed %s, which was replaced", version.label)
        if self.on_closed:
            self.on_closed()

    def _refuse(self, what: str, why: str) -> None:
        self.refused[what] = why
        logger.error("refused %s: %s", what, why)

    def _unknown(self, model: str, name: str, loaded: Mapping[str, Any]) -> UnknownModel:
        if loaded:
            return UnknownModel(
                f"The model {name!r} is served in the version {', '.join(loaded)}, not {shown(model)!r}."
            )
        reason = next((f" ({why})" for key, why in self.refused.items() if key.split("/")[0] == name), "")
        return UnknownModel(f"No model {shown(name)!r} is served{reason}: there are {', '.join(sorted(self._loaded))}.")
