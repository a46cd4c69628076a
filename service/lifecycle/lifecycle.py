"""Everything that happens to versions while they are served, put together."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from service.drift.observer import Drifts
from service.inference.call import BACKGROUND
from service.inference.leases import Version
from service.inference.observers import Observers
from service.inference.repository import Repository
from service.inference.routing import Served
from service.inference.scope import CallScope
from service.lifecycle.admin import Administration
from service.lifecycle.canary import Canaries
from service.lifecycle.selfcheck import SelfCheck
from service.lifecycle.shadow import Shadows
from service.lifecycle.watcher import Watcher
from service.policy import changes
from service.policy.file import PolicyFiles
from service.policy.policy import Policy, newest_first
from service.processes.board import Board
from service.settings import Settings
from service.tasks.agreement import check_comparable
from service.tasks.base import Task

logger = logging.getLogger(__name__)

_ADVANCE_SECONDS = 1.0
_VERSIONS = "versions"


class Lifecycle:
    """Follows the models folder, and checks, tries, judges and changes versions.

    Args:
        settings: of the service.
        tasks: by name.
        board: exchanges figures with the other processes of the service.

    Attributes:
        shadows: an observer.
        canaries: an observer.
        drifts: an observer.
        administration: changes policies; set by `begin`.
    """

    administration: Administration

    def __init__(self, settings: Settings, tasks: Mapping[str, Task], board: Board) -> None:
        self._settings = settings
        self._tasks = tasks
        self._board = board
        self._repository: Repository
        self._observers = Observers()
        self._deciding: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.shadows = Shadows(tasks, board, self._open_call, self._publish, self._conclude)
        self.canaries = Canaries(tasks, board, self._publish, self._withdraw)
        self.drifts = Drifts(tasks, board)
        self._watcher: Watcher | None = None

    def begin(self, repository: Repository, files: PolicyFiles, observers: Observers) -> None:
        """Called before the models are loaded."""
        self._repository = repository
        self._observers = observers
        self.administration = Administration(repository, files)
        self.administration.check = self._check_shadow
        self.administration.waits_for = self.canaries.waits_for
        if self._settings.watch:
            self._watcher = Watcher(self._settings.models, self._settings.state)

    def update(self) -> None:
        """Called when versions or policies have changed."""
        served = self._repository.served
        self.shadows.update(served)
        self.canaries.update(served)
        self.drifts.update(version for each in served.values() for version in each.loaded.values())
        self._board.publish(_VERSIONS, self._describe)

    async def run(self) -> None:
        """Runs until it is cancelled. An error is logged, and the next turn tries again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_repeat(_ADVANCE_SECONDS, lambda: self.administration.advance(time.time())))
            if self._watcher is not None:
                tasks.create_task(_repeat(self._settings.watch, self._watch))
            if self._settings.self_check:
                period, take_out = self._settings.self_check, self._repository.take_out
                tasks.create_task(SelfCheck(self._repository, period, take_out, self._observers).run())

    async def close(self) -> None:
        """Ends all work."""
        self.canaries.close()
        await self.drifts.close()
        await self.shadows.close()

    async def disagreeing(self) -> dict[str, list[str]]:
        """Models of which the processes of the service load different versions, and what each one serves."""
        found = await self._board.read(_VERSIONS)
        documents = sorted(found, key=lambda document: document["worker"])
        names = {name for document in documents for name in document["models"]}
        said = {name: [document["models"].get(name, "nothing") for document in documents] for name in sorted(names)}
        return {
            name: [f"worker {document['worker'] + 1}: {each}" for document, each in zip(documents, models, strict=True)]
            for name, models in said.items()
            if len(set(models)) > 1
        }

    def _describe(self) -> dict[str, Any]:
        def describe(served: Served) -> str:
            trials = {"canary": served.canary, "shadow": served.shadow}
            on_trial = "".join(f", {what} {version.version}" for what, version in trials.items() if version)
            loaded = ", ".join(newest_first(served.asked))  # after a restart, nothing else is kept for a rollback
            # Aliases and shares are too many to show. The start of a canary may differ if no file states it.
            rest = served.policy.model_dump_json(exclude={"canary": {"started"}})
            policy = hashlib.blake2b(rest.encode(), digest_size=4).hexdigest()
            return f"{served.default.version if served.default else 'nothing'} of {loaded}{on_trial}, policy {policy}"

        models = {name: describe(served) for name, served in self._repository.served.items()}
        return {"worker": self._board.index, "models": models}

    def _check_shadow(self, policy: Policy, versions: Mapping[str, Version]) -> None:
        """Raises `Incomparable` if the answers of a policy's default version and shadow cannot be compared."""
        number = policy.number(policy.shadow.version) if policy.shadow else None
        default = versions.get(policy.default_of(versions) or "")
        if number is not None and number in versions and default is not None:
            check_comparable(self._tasks[default.manifest.task], default.manifest, versions[number].manifest)

    async def _watch(self) -> None:
        if self._watcher is not None and await asyncio.to_thread(self._watcher.changed):
            await self._repository.load_all()

    def _open_call(self) -> CallScope:
        return CallScope(self._repository, owner=BACKGROUND, timeout=self._settings.timeout)

    def _publish(self, event: Any) -> None:
        self._observers.publish(event)

    def _conclude(self, model: str, promote: bool, why: str) -> None:
        """Promotes a shadow or ends it."""
        served = self._repository.served.get(model)
        number = served.shadow.version if served and served.shadow else ""

        def propose(policy: Policy, served: Served) -> Policy:
            # Another process, or an operator, may have been faster.
            if policy.shadow is None or policy.number(policy.shadow.version) != number:
                return policy
            if promote:
                return changes.promote(policy, number, policy.default_of(served.loaded))
            return changes.set_shadow(policy, None, None)

        what = f"promoted {number}" if promote else f"withdrew the shadow {number}"
        self._decide(model, propose, what, why)

    def _withdraw(self, model: str, why: str) -> None:
        """Ends a canary: in this process at once, and for all once that can be written."""
        served = self._repository.served.get(model)
        canary = served.canary if served else None
        if served is None or canary is None:
            return
        number = canary.version
        canary.withdrawn = served.policy.canary

        def propose(policy: Policy, _: Served) -> Policy:
            if policy.canary is None or policy.number(policy.canary.version) != number:
                return policy
            return changes.set_canary(policy, None, None)

        self._decide(model, propose, f"withdrew the canary {number}", why)

    def _decide(self, model: str, propose: Callable[[Policy, Served], Policy], action: str, why: str) -> None:
        if (model, action) in self._deciding:
            return
        task = asyncio.get_running_loop().create_task(self.administration.decide(model, propose, action, why))
        self._deciding[model, action] = task
        task.add_done_callback(lambda _: self._deciding.pop((model, action)))


async def _repeat(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception as error:
            logger.error("the models are looked after again in %g s: %s", seconds, error)
