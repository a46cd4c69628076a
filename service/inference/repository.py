"""The served models: found on disk, loaded, leased to calls, replaced without a gap, closed."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from service.errors import ModelBroken, QuartetError, UnknownModel, truncate
from service.inference.batcher import Batcher
from service.inference.cards import ManifestBase
from service.inference.device import DeviceUnavailable
from service.inference.leases import Lease, Version
from service.inference.loading import Opened
from service.inference.manifest import InvalidModel, has_changed, without_folders
from service.inference.observers import Observers
from service.inference.opener import Opener
from service.inference.routing import Position, Served, anywhere
from service.inference.scheduler import GPU_BATCHES, Scheduler
from service.inference.stacking import runner
from service.inference.versions import Stamp, stamp_of, versions_in, versions_to_open
from service.policy.file import FILE as POLICY_FILE
from service.policy.file import InvalidPolicy, Policies, PolicyFiles
from service.policy.policy import LATEST, Policy, newest_first

logger = logging.getLogger(__name__)

_CHANGED = (
    "its files have changed since it was loaded, and the loaded ones continue to serve: publish the new ones under "
    "another number"
)
_REPLACED = "its files have changed while it was loaded: reload once they are complete"
_NO_MEMORY = "there is no memory for it beside the versions that are loaded"
_RETRY_SECONDS = 5.0
# Of a model, in one round: a folder full of broken versions must not delay the other models without end.
_MOST_REFUSED = 100


class NothingToServe(Exception):
    """The models folder is missing, empty, or holds nothing that can be served."""


class Unservable(InvalidModel):
    """A version that a new policy needs cannot be served.

    Attributes:
        number: of the version.
    """

    def __init__(self, model: str, number: str, why: str) -> None:
        super().__init__(f"{model}/{number} cannot be served: {why}")
        self.number = number


class Repository:
    """Loads models from a folder and leases their versions to calls.

    Args:
        folder: holds `<name>/<version>/`; versions are whole numbers.
        opener: opens versions.
        max_queue: the most items that wait for a model.
        max_wait: seconds of work that may wait for a model.
        observers: are told of batches and drops.
        policies: decide which versions are loaded and which of them answers; by default those in the folder.
        only: names of the models to load; empty for all.

    Attributes:
        refused: why versions, policies or models cannot be served, by `NAME/VERSION`, `NAME/serving.toml` or `NAME`.
        loaded_at: when `load_all` last ended without an error, in seconds since the epoch; 0 before.
        loads_failed: how often it ended with one.
        on_change: called when versions or the way in which they are served have changed.
        on_closed: called when a replaced version has closed and its memory can be freed.
        one_client: whether a single client is connected.
        fits: whether there is memory for a version beside those that are loaded, by its folder.
    """

    def __init__(
        self,
        folder: Path,
        opener: Opener,
        *,
        max_queue: int,
        max_wait: float,
        observers: Observers | None = None,
        policies: Policies | None = None,
        only: Collection[str] = (),
    ) -> None:
        self._folder = folder
        self._opener = opener
        self._only = only
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._observers = observers
        self._policies = policies or PolicyFiles(folder)
        self._schedulers: dict[str, Scheduler] = {}
        self._loading = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._served: dict[str, Served] = {}
        self._retired: set[Version] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._taken_out: dict[str, tuple[Stamp, str]] = {}
        self._answered: set[str] = set()
        self._withheld: set[str] = set()
        # What becomes `refused` when the round that holds `_loading` ends.
        self._refusing: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.loaded_at, self.loads_failed = 0.0, 0
        self.on_change: Callable[[], None] = lambda: None
        self.on_closed: Callable[[], None] = lambda: None
        self.one_client: Callable[[], bool] = lambda: False
        self.fits: Callable[[Path], bool] = lambda _: True

    @property
    def served(self) -> Mapping[str, Served]:
        """The models by name."""
        return self._served

    @property
    def models(self) -> dict[str, Version]:
        """The version of each model that answers unless a call asks for another."""
        return {name: served.default for name, served in self._served.items() if served.default is not None}

    @property
    def versions(self) -> list[Version]:
        """Every loaded version that is not retired, ordered by name."""
        return [version for _, served in sorted(self._served.items()) for version in served.loaded.values()]

    @property
    def open_versions(self) -> list[Version]:
        """Every loaded version, and retired ones that are not closed yet."""
        return [*self.versions, *self._retired]

    @property
    def unready(self) -> dict[str, str]:
        """Models that lost the version that answered, without another one to take its place; and why."""
        lost = [name for name, served in self._served.items() if served.default is None and name in self._answered]
        whys = {label.rpartition("/")[0]: why for label, (_, why) in self._taken_out.items()}
        return {name: whys.get(name, "no version of it can answer") for name in lost}

    def lease(self, model: str, wanted: str | None = None, position: Position = anywhere) -> Lease:
        """Leases a version of a model; the caller releases it.

        Args:
            model: `NAME`, `NAME/VERSION`, `NAME/ALIAS` or `NAME/latest`.
            wanted: the version, unless `model` states it.
            position: of the call among all calls; decides whether a canary answers.

        Raises:
            UnknownModel: no such model or version is served.
            ModelBroken: the version cannot answer now.
        """
        name, _, stated = model.partition("/")
        served = self._served.get(name)
        route = served.route(wanted or stated or None, position) if served else None
        if route is None:
            raise self._unknown(served, name, wanted or stated)
        return Lease(route.version, self._close, route.alias, route.watched, route.shadow)

    def unknown(self, name: str) -> UnknownModel:
        """What answers a caller that may not know of a model: the same as if there were none of that name."""
        return UnknownModel(f"No model {truncate(name)!r} is served", self._served)

    def on_disk(self, name: str) -> list[str]:
        """The versions in the folder of a model, the highest first; reads the disk."""
        try:
            return versions_in(self._folder / name)
        except OSError:
            return []

    def hold(self, version: Version) -> Lease:
        """Leases a version that is not retired."""
        return Lease(version, self._close)

    async def load_all(self, only: Collection[str] = ()) -> None:
        """Loads the versions that the policies ask for, and puts the policies in force.

        A later call follows what has changed on disk. A replaced version finishes its calls. A model whose folder is
        gone, or holds no good version, continues to serve.

        Args:
            only: names of the models to look at; empty for all.

        Raises:
            NothingToServe: the folder is missing or nothing in it can be served.
            DeviceUnavailable: the device that was asked for cannot serve.
        """
        if not self._folder.is_dir():
            raise NothingToServe(f"The models folder {self._folder} does not exist: set QUARTET_MODELS to one.")
        await self.apply_policies(only)
        try:
            await self._load_all(only)
        except Exception:
            self.loads_failed += 1
            raise
        self.loaded_at = time.time()

    async def _load_all(self, only: Collection[str]) -> None:
        async with self._loading:
            known = self.refused
            self._refusing = {what: why for what, why in known.items() if only and what.split("/")[0] not in only}
            names = await asyncio.to_thread(_folders_in, self._folder)
            wanted = only or self._only
            try:
                await self._load([name for name in names if not wanted or name in wanted])
            finally:
                self._opener.forget()
                self.refused = self._refusing
                for what, why in self.refused.items():
                    if known.get(what) != why:
                        logger.error("refused %s: %s", what, why)
        for name in self._opener.selection.by_model.keys() - self._served.keys():
            logger.warning("a variant of %s was asked for, but no such model is served", name)
        if not self._served and not self._withheld:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items()) or "it holds no versions"
            raise NothingToServe(f"Nothing in {self._folder.resolve()} can be served: {reasons}.")

    async def apply_policies(self, only: Collection[str] = ()) -> None:
        """Puts the policies on disk in force of which every version is loaded; loads and closes nothing.

        It does not wait for versions that are being loaded, so a rollback that another process has made takes effect
        at once. Policies that are invalid are left to `load_all`, which reports them.

        Args:
            only: names of the models to look at; empty for all.
        """
        for name in only or list(self._served):
            with contextlib.suppress(InvalidPolicy):
                while True:
                    in_force = self._policy_of(name)
                    policy = await asyncio.to_thread(self._policies.read, name)
                    if self._policy_of(name) is in_force:
                        break
                    # It has changed while the file was read, which may have been before that.
                served = self._served.get(name)
                if served is not None and policy != served.policy and set(policy.named) <= served.loaded.keys():
                    self._serve(name, policy, served.loaded)

    async def change_policy(
        self,
        name: str,
        policy: Policy,
        write: Callable[[], Policy],
        check: Callable[[Policy, Mapping[str, Version]], None] = lambda *_: None,
    ) -> None:
        """Puts another policy in force once the versions that it needs are loaded and it is written.

        A policy whose versions are all loaded waits for nothing. Versions that it does not ask for are closed by the
        next `load_all`; none is closed to make room for another one.

        Args:
            name: of a served model.
            policy: that is going to be written.
            write: writes it, on a thread.
            check: raises if the policy cannot be followed with these loaded versions; nothing is written then.

        Raises:
            Unservable: a version that it needs cannot be served; the policy is not written.
        """
        in_force = self._served[name].policy
        needed = policy.needed_after(in_force)
        if needed <= self._loaded(name).keys():
            check(policy, self._loaded(name))
            written = await self._write(name, write)
            if not written.needed_after(in_force) <= self._loaded(name).keys():
                await self.load_all([name])  # one was closed meanwhile, or others have changed the policy too
            return
        async with self._loading:
            opened: dict[str, Version] = {}
            self._refusing = {}
            try:
                for number in newest_first(needed):
                    if await self._load_version(name, number, opened) is None:
                        raise Unservable(name, number, self._refusing[f"{name}/{number}"])
                check(policy, {**self._loaded(name), **opened})
                await self._write(name, write, opened)
            except BaseException:
                await asyncio.gather(*(version.batcher.close() for version in opened.values()))
                raise

    async def _write(self, name: str, write: Callable[[], Policy], more: Mapping[str, Version] | None = None) -> Policy:
        """Writes a policy and puts it in force, with further versions; one change after another."""
        async with self._writing:
            written = await asyncio.to_thread(write)
            self._serve(name, written, {**self._loaded(name), **(more or {})})
            return written

    def _policy_of(self, name: str) -> Policy | None:
        served = self._served.get(name)
        return served.policy if served else None

    async def take_out(self, version: Version, why: str) -> None:
        """Stops serving a version whose answers are wrong, until its files change or the process is restarted.

        Its alias and the default fall back to the previous version, if that is loaded. Otherwise the model is not ready
        until an older version is loaded.
        """
        served = self._served.get(version.name)
        if served is None or served.loaded.get(version.version) is not version:
            return
        logger.error("%s serves no longer: %s", version.label, why)
        self._taken_out[version.label] = (version.stamp, why)
        rest = {number: each for number, each in served.loaded.items() if each is not version}
        self._serve(version.name, served.policy, rest)
        self.refused[version.label] = why
        await self.load_all([version.name])

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
        found: dict[str, list[str]] = {}
        policies: dict[str, Policy] = {}
        for name in names:
            try:
                found[name] = await asyncio.to_thread(versions_in, self._folder / name)
                policies[name] = await self._read_policy(name)
            except OSError as error:
                self._refusing[name] = f"its folder cannot be read: {error.strerror}"
            except InvalidPolicy as error:
                self._refusing[f"{name}/{POLICY_FILE}"] = str(error)
        self._opener.begin(
            self._folder / name / version
            for name, policy in policies.items()
            if policy.serve and name not in self._served  # versions beside those that serve are opened one by one
            for version in versions_to_open(found[name], policy)
        )
        for name, policy in policies.items():
            await self._load_model(name, policy, found[name])

    async def _read_policy(self, name: str) -> Policy:
        """The policy on disk; the one in force if that is invalid.

        Raises:
            InvalidPolicy: it is invalid, and none is in force.
        """
        try:
            return await asyncio.to_thread(self._policies.read, name)
        except InvalidPolicy as error:
            if name not in self._served:
                raise
            self._refusing[f"{name}/{POLICY_FILE}"] = f"{error}; the previous policy stays in force"
            return self._served[name].policy

    async def _load_model(self, name: str, policy: Policy, found: Sequence[str]) -> None:
        """Loads what a policy asks for, puts the policy in force, and retires what it does not ask for."""
        if not policy.serve:
            self._withhold(name)
            return
        self._withheld.discard(name)
        opened: dict[str, Version] = {}
        while True:
            good = await self._load_versions(name, policy, found, opened)
            in_force = self._policy_of(name)
            latest = await self._read_policy(name)
            if not good or (latest == policy and self._policy_of(name) is in_force):
                break
            # It has changed while versions were loaded or the file was read.
            policy, found = latest, await asyncio.to_thread(versions_in, self._folder / name)
            self._refusing = {what: why for what, why in self._refusing.items() if what.split("/")[0] != name}
        # One may have been taken out meanwhile.
        good = {number: version for number, version in good.items() if not version.retired}
        if good:
            former = self._former(name, policy, good)
            if former is not None and former.version in found:
                good[former.version] = former
            self._serve(name, policy, good)
        await asyncio.gather(
            *(version.batcher.close() for version in opened.values() if version not in self._loaded(name).values())
        )

    async def _load_versions(
        self, name: str, policy: Policy, found: Sequence[str], opened: dict[str, Version]
    ) -> dict[str, Version]:
        """The good versions among those that a policy asks for; those that were not loaded are added to `opened`."""
        candidates, count = policy.candidates(found)
        good: dict[str, Version] = {}

        async def load(number: str) -> bool:
            version = await self._load_version(name, number, opened, kept=policy.named)
            if version is not None:
                good[number] = version
            return version is not None

        for number in policy.named:
            if number not in found and number not in self._loaded(name):
                self._refusing[f"{name}/{number}"] = f"{POLICY_FILE} names it, but it is not on disk"
            else:
                await load(number)
        covered = refused = 0
        for number in candidates:
            if covered == count:
                break
            if refused == _MOST_REFUSED and number not in self._loaded(name):
                self._refusing[name] = f"{refused} of its versions are refused: of the others, none is tried"
                continue
            known = number in good or await load(number)
            covered += known
            refused += not known
        return good

    def _former(self, name: str, policy: Policy, loaded: Mapping[str, Version]) -> Version | None:
        """The version that answered before the newest one did, for a rollback; None if the policy fixes versions."""
        served, number = self._served.get(name), policy.default_of(loaded)
        if served is None or number is None or not policy.follows_newest:
            return None
        older = (each for each in (served.default, served.former) if each and int(each.version) < int(number))
        return next((each for each in older if not each.retired), None)

    def _loaded(self, name: str) -> Mapping[str, Version]:
        served = self._served.get(name)
        return served.loaded if served else {}

    async def _load_version(
        self, name: str, number: str, opened: dict[str, Version], kept: Collection[str] | None = None
    ) -> Version | None:
        """A version that is loaded, or was opened before, or is opened now and added to `opened`; None if it is bad.

        Where memory is short, the versions outside `kept` are closed first; without `kept`, the version is refused.
        """
        folder, label = self._folder / name / number, f"{name}/{number}"
        stamp = await asyncio.to_thread(stamp_of, folder)
        loaded = self._loaded(name).get(number)
        if loaded is not None:
            if stamp and stamp != loaded.stamp:
                if await asyncio.to_thread(has_changed, folder, loaded.manifest):
                    self._refusing[label] = _CHANGED
                else:
                    loaded.stamp = stamp
            return loaded
        if number in opened:
            return opened[number]
        if self._taken_out.get(label, (None,))[0] == stamp:
            self._refusing[label] = self._taken_out[label][1]
            return None
        if not self.fits(folder):
            await self._close_formers()
        if not self.fits(folder):
            if kept is None:
                self._refusing[label] = _NO_MEMORY
                return None
            await self._make_room(name, [*opened, *kept])
        try:
            found = await asyncio.wrap_future(self._opener.open(folder))
        except DeviceUnavailable:
            await asyncio.gather(*(version.batcher.close() for version in opened.values()))
            raise
        except InvalidModel as error:
            self._refusing[label] = str(error)
        except Exception as error:  # one bad version must never keep the others from serving
            logger.debug("%s cannot be loaded", label, exc_info=True)
            self._refusing[label] = f"it cannot be loaded: {without_folders(repr(error))}"
        else:
            if not await asyncio.to_thread(_is_unchanged, folder, stamp, found.manifest):
                self._refusing[label] = _REPLACED
                return None
            opened[number] = self._open(name, number, found, stamp)
            self._taken_out.pop(label, None)
            return opened[number]
        return None

    async def _close_formers(self) -> None:
        """Closes the versions that are kept only for a rollback."""
        for name, served in list(self._served.items()):
            if len(served.asked) < len(served.loaded):
                self._serve(name, served.policy, {number: served.loaded[number] for number in served.asked})
        await self.settled()

    async def _make_room(self, name: str, kept: Collection[str]) -> None:
        """Closes the versions of a model that its policy does not name, before another one is loaded."""
        served = self._served.get(name)
        gone = [each.label for number, each in served.loaded.items() if number not in kept] if served else []
        if served is None or not gone:
            return
        logger.warning(
            "there is no memory for another version of %s: %s is closed first, and nothing answers until it is loaded",
            name, ", ".join(gone),
        )  # fmt: skip
        self._serve(name, served.policy, {number: each for number, each in served.loaded.items() if number in kept})
        await self.settled()

    def _withhold(self, name: str) -> None:
        """Stops serving a model."""
        self._withheld.add(name)
        if (served := self._served.pop(name, None)) is not None:
            for version in served.loaded.values():
                self._retire(version)
            self.on_change()

    def _serve(self, name: str, policy: Policy, loaded: Mapping[str, Version]) -> None:
        """Puts a policy and its versions in force, and retires what they replace."""
        if not policy.serve:
            self._withhold(name)
            return
        replaced = self._loaded(name)
        self._served[name] = served = Served(name, policy, loaded, self._former(name, policy, loaded))
        if served.default is not None:
            self._answered.add(name)
        for number, version in replaced.items():
            if loaded.get(number) is not version:
                self._retire(version)
        self.on_change()

    def _open(self, name: str, number: str, opened: Opened, stamp: Stamp) -> Version:
        performance = opened.performance
        run = runner(opened.session, opened.manifest)
        run_on_one_core = runner(opened.single, opened.manifest) if opened.single else None
        batcher = Batcher(
            run_on_one_core if run_on_one_core and performance.inline else run,
            max_batch=performance.max_batch,
            max_queue=self._max_queue,
            max_wait=self._max_wait,
            label=(name, number, "", opened.variant),
            observers=self._observers,
            scheduler=None if performance.inline else self._scheduler(opened.session.device),
            run_on_one_core=run_on_one_core,
            cores=self._opener.threads,
            probe=opened.probe,
            seconds_per_item=performance.per_item / (self._opener.threads if opened.single else 1),
        )
        return Version(name, number, opened, batcher, stamp)

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

    def _unknown(self, served: Served | None, name: str, wanted: str) -> QuartetError:
        def reason(start: str) -> str:
            return next((f" ({why})" for what, why in self.refused.items() if f"{what}/".startswith(f"{start}/")), "")

        if name in self._withheld:
            return UnknownModel(f"The model {name!r} is unloaded", self._served)
        if served is None:
            return UnknownModel(f"No model {truncate(name)!r} is served{reason(name)}", self._served)
        if not wanted or wanted in served.policy.aliases or wanted == LATEST:
            number = served.policy.number(wanted or served.policy.default)
            return ModelBroken(
                f"The version of {name!r} that {wanted or 'the default'} stands for cannot answer"
                f"{reason(f'{name}/{number}')}: try again later, or name a version.",
                retry_after=_RETRY_SECONDS,
            )
        aliases = [alias for alias in served.policy.aliases if served.route(alias, anywhere)]
        loaded = ", ".join([*served.loaded, *aliases])
        return UnknownModel(
            f"The model {name!r} is served in the version {loaded}, not "
            f"{truncate(wanted)!r}{reason(f'{name}/{wanted}')}"
        )


def _is_unchanged(folder: Path, stamp: Stamp, manifest: ManifestBase) -> bool:
    """Whether the files of a version are those that were read: another version may have come under the same number."""
    return stamp_of(folder) == stamp or not has_changed(folder, manifest)


def _folders_in(folder: Path) -> list[str]:
    """The names of the folders in a folder, in order."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())
