"""Changes of the policies of a running server, by operators and by what it measures itself."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from service.errors import Conflict, QuartetError
from service.inference.leases import Version
from service.inference.manifest import InvalidModel
from service.inference.repository import NothingToServe, Repository
from service.inference.routing import Served
from service.policy.changes import Unchangeable, promote
from service.policy.file import InvalidPolicy, PolicyFiles, ReadOnly
from service.policy.policy import Policy

logger = logging.getLogger(__name__)

# The new policy, given the one on disk and the model as it is served.
Propose = Callable[[Policy, Served], Policy]

# A change that the server has decided and that is not possible is tried again after this long, which doubles each time.
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0


class _Failure(NamedTuple):
    reason: str
    delay: float
    until: float  # monotonic time


class Administration:
    """Writes policies and puts them in force.

    Args:
        repository: serves the models.
        files: the policies.

    Attributes:
        notify: tells the other processes of the server that a policy has changed.
        check: raises if a policy cannot be followed with some loaded versions.
        waits_for: why the canary of a model must not become the default yet, though its last step has ended; None if
            it may.
    """

    def __init__(self, repository: Repository, files: PolicyFiles) -> None:
        self._repository = repository
        self._files = files
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: dict[tuple[str, str], _Failure] = {}
        self.notify: Callable[[], None] = lambda: None
        self.check: Callable[[Policy, Mapping[str, Version]], None] = lambda *_: None
        self.waits_for: Callable[[str], Awaitable[str | None]]

    async def change(self, model: str, propose: Propose, *, actor: str, action: str) -> None:
        """Changes the policy of a model, and waits until the change is in force.

        Args:
            model: its name.
            propose: gives the new policy; called again if the file changes meanwhile.
            actor: who changes it.
            action: in a few words.

        Raises:
            UnknownModel: it is not served.
            Conflict: the change is not possible; nothing has changed. Its cause is `Unservable` if a version is bad.
        """
        served = self._repository.served.get(model)
        if served is None:
            raise self._repository.unknown(model)
        changed = False

        def change(policy: Policy) -> Policy:
            nonlocal changed
            after = propose(policy, served)
            changed = after != policy
            return after

        try:
            proposed = propose(await asyncio.to_thread(self._files.read, model), served)
            write = partial(self._files.edit, model, change, actor=actor, action=action)
            await self._repository.change_policy(model, proposed, write, self.check)
        except (Unchangeable, InvalidPolicy, ReadOnly, InvalidModel) as error:
            raise Conflict(str(error)) from error
        if not changed:  # the policy says so already: another process was faster, for example
            return
        logger.info("%s: %s, by %s", model, action, actor)
        self.notify()
        # Closes what is not asked for any more. The answer does not wait for that.
        task = asyncio.get_running_loop().create_task(self._follow(model))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def serve(self, model: str, serve: bool, *, actor: str) -> None:
        """Serves a model from the models folder, with what is new there, or stops serving it.

        Raises:
            UnknownModel: the folder has no such model.
            Conflict: no version of it can be served, or its policy cannot be changed.
        """
        repository = self._repository
        if not await asyncio.to_thread(repository.on_disk, model):
            raise repository.unknown(model)
        action = "serve" if serve else "stop serving"
        try:
            change = partial(self._files.edit, model, lambda policy: policy.model_copy(update={"serve": serve}))
            await asyncio.to_thread(change, actor=actor, action=action)
            await repository.load_all([model])
        except (InvalidPolicy, ReadOnly, NothingToServe) as error:
            raise Conflict(str(error)) from error
        logger.info("%s: %s, by %s", model, action, actor)
        self.notify()
        if serve and model not in repository.served:
            refused = [f"{what}: {why}" for what, why in repository.refused.items() if what.split("/")[0] == model]
            raise Conflict(f"No version of {model!r} can be served: {'; '.join(refused) or 'it has none'}.")

    async def advance(self, now: float) -> None:
        """Promotes canaries whose last step has ended and that have answered enough calls.

        Args:
            now: Unix time.
        """
        for name, served in list(self._repository.served.items()):
            canary = served.policy.canary
            if canary is None or served.canary is None or not canary.stage(now).done:
                continue
            if await self.waits_for(name) is not None:
                continue
            number = served.canary.version

            def propose(policy: Policy, served: Served, number: str = number) -> Policy:
                if policy.canary is None or not policy.canary.stage(now).done:  # another process was faster
                    return policy
                return promote(policy, number, policy.default_of(served.loaded))

            await self.decide(name, propose, f"promoted {number}", "the last step of its canary has ended")

    async def decide(self, model: str, propose: Propose, action: str, why: str) -> None:
        """Makes a change that the server has decided.

        The caller asks again, as often as it likes, until the change is in force. One that is not possible is tried
        less and less often, and its reason is logged once.
        """
        failure = self._failures.get((model, action))
        if failure is not None and time.monotonic() < failure.until:
            return
        try:
            await self.change(model, propose, actor="policy", action=f"{action}: {why}")
        except Exception as error:  # whatever it is, it must not be met every second
            reason = str(error) if isinstance(error, QuartetError) else repr(error)
            if failure is None or failure.reason != reason:
                logger.error("%s: %s: %s: not possible yet, and tried again: %s", model, action, why, reason)
            delay = min(2 * failure.delay, _LONGEST_DELAY) if failure else _FIRST_DELAY
            self._failures[model, action] = _Failure(reason, delay, time.monotonic() + delay)
        else:
            self._failures.pop((model, action), None)

    async def _follow(self, model: str) -> None:
        try:
            await self._repository.load_all([model])
        except Exception as error:
            logger.error("the versions of %s were not reloaded: %s", model, error)

    async def settled(self) -> None:
        """Waits until what changes have left behind is closed."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def audit(self, model: str, most: int = 100) -> list[dict[str, Any]]:
        """The last changes of a policy, the newest first."""
        return await asyncio.to_thread(self._files.audit, model, most)

    def describe(self, model: str) -> Mapping[str, Any]:
        """Where the policy of a model is."""
        path = self._files.path(model)
        return {
            "file": str(path),
            "exists": path.exists(),
            "writable": self._files.writable(model),
            "error": self._repository.refused.get(f"{model}/{path.name}"),
        }
