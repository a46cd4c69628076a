"""What an operator does to a server: publishes, promotes, rolls back, tries. Each change is entered into the ledger."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.lifecycle.ledger import Ledger
from benchmarks.servers import Running
from benchmarks.torture.publishing import Damage, publish
from benchmarks.torture.wire import Answer, Connection, Gone, head
from service.inference.manifest import MODEL
from service.inference.versions import versions_in

# The longest until a change is in force in all processes.
_PATIENCE_SECONDS = 60.0
_ASK_SECONDS = 0.05
_JSON = "application/json"


class Failed(Exception):
    """The server did not do what it was asked to."""


class Operator:
    """Changes the versions of a server.

    Args:
        running: the server.
        models: its models folder.
        workers: how many processes it has.
        ledger: gets the versions that are permitted.

    Attributes:
        followed: seconds from each change until all processes had followed it.
        agreed: the same until the server said of none that it disagrees.
    """

    def __init__(self, running: Running, models: Path, workers: int, ledger: Ledger) -> None:
        self.models = models
        self.ledger = ledger
        self.followed: list[float] = []
        self.agreed: list[float] = []
        self._running = running
        self._workers = workers

    async def publish(self, name: str) -> None:
        """Publishes the next version of a model, waits until it serves, and removes the older ones."""
        folder, number = self.models / name, await self._add(name)
        await self.in_force(name, number)
        for older in set(versions_in(folder)) - {number}:
            await asyncio.to_thread(shutil.rmtree, folder / older)

    async def offer(self, name: str, damage: Damage | None = None) -> str:
        """Fixes the default of a model, publishes the next version and loads it; returns its number."""
        folder = self.models / name
        number = str(int(versions_in(folder)[0]) + 1)
        if (await self.get(f"/v1/models/{name}/policy"))["policy"]["exists"] is False:
            await self.change("POST", name, "pin", {})
        await asyncio.to_thread(publish, folder, int(number), damage)
        await self.change("POST", name, "load", {"version": number})
        return number

    async def reject(self, name: str, damage: Damage) -> None:
        """Publishes a version that has to be refused, waits for that, and removes it."""
        folder = self.models / name
        number = int(versions_in(folder)[0]) + 1
        published = await asyncio.to_thread(publish, folder, number, damage)
        await self._refused(published)

    async def half_copy(self, name: str) -> None:
        """Copies a version in place, as `cp` does, and lets the server look when half of the graph has been copied."""
        folder = self.models / name
        newest = folder / versions_in(folder)[0]
        copied = folder / str(int(newest.name) + 1)

        def copy() -> None:
            shutil.copytree(newest, copied, symlinks=True, ignore=lambda *_: [MODEL])
            content = (newest / MODEL).read_bytes()
            (copied / MODEL).write_bytes(content[: len(content) // 2])

        await asyncio.to_thread(copy)
        await self._refused(copied)

    async def promote(self, name: str, number: str) -> None:
        """Makes a version the default."""
        self.ledger.permit(name, number)
        began = time.perf_counter()
        await self.change("POST", name, "promote", {"version": number})
        await self.in_force(name, number, began)

    async def rollback(self, name: str, number: str, ask: bytes) -> float:
        """Rolls back to a version.

        Args:
            name: of the model.
            number: that has to answer then.
            ask: a request for the model.

        Returns:
            Seconds until the version has answered the first request.
        """
        self.ledger.permit(name, number)
        began = time.perf_counter()
        await self.change("POST", name, "rollback", {})
        while (answer := await self._ask(ask)) is None or f"{name}/{number};" not in answer.headers["quartet-model"]:
            if time.perf_counter() - began > _PATIENCE_SECONDS:
                raise Failed(f"{name}/{number} does not answer after a rollback")
        seconds = time.perf_counter() - began
        await self.in_force(name, number, began)
        return seconds

    async def change(self, method: str, name: str, path: str, body: Any = None) -> dict[str, Any]:
        """Asks for a change, which must be made; returns the new state.

        Raises:
            Failed: it is not.
        """
        data = b"" if body is None else json.dumps(body).encode()
        media_type = None if body is None else _JSON
        answer = await self._ask(head(f"/v1/models/{name}/{path}", len(data), media_type, method=method) + data)
        if answer is None or answer.status != 200:
            raise Failed(f"{method} {name}/{path}: {answer and answer.status} {answer and answer.body[:500]!r}")
        state: dict[str, Any] = json.loads(answer.body)
        return state

    async def get(self, path: str) -> Any:
        """A document of the server; None if there is no answer."""
        answer = await self._ask(head(path, method="GET"))
        return json.loads(answer.body) if answer is not None and answer.status == 200 else None

    async def in_force(self, name: str, number: str, began: float | None = None) -> None:
        """Waits until all processes answer with a version by default, and then permits no other one.

        Args:
            name: of the model.
            number: of the version.
            began: when the change was asked for; now by default.
        """
        began = time.perf_counter() if began is None else began
        followed: set[str] = set()
        share = [name, number, 1.0]

        async def all_follow() -> bool:
            answer = await self._ask(head("/v1/models", method="GET"))
            if answer is not None and answer.status == 200:
                models = json.loads(answer.body)["models"]
                if share in [[each["name"], each["version"], each["share"]] for each in models if each["default"]]:
                    followed.add(answer.headers["x-request-id"].partition("-")[0])
            return len(followed) == self._workers

        await until(all_follow, f"{name}/{number} is not the default of all processes")
        self.followed.append(time.perf_counter() - began)
        self.ledger.only(name, number)

        async def agreed() -> bool:
            listed = await self.get("/v1/models")
            return listed is not None and name not in listed["disagreeing"]

        await until(agreed, f"the processes are still said to disagree about {name}")
        self.agreed.append(time.perf_counter() - began)

    def resident_mb(self) -> float:
        """Megabytes of all processes of the server."""
        return float(sum(process.memory_info().rss for process in self._family())) / 1e6

    def open_files(self) -> int:
        """Open files and sockets of all processes."""
        return sum(process.num_fds() for process in self._family())

    def threads(self) -> int:
        """Threads of all processes."""
        return sum(process.num_threads() for process in self._family())

    def _family(self) -> list[psutil.Process]:
        return [self._running.process, *self._running.process.children(recursive=True)]

    async def _add(self, name: str) -> str:
        folder = self.models / name
        number = str(int(versions_in(folder)[0]) + 1)
        self.ledger.permit(name, number)
        await asyncio.to_thread(publish, folder, int(number))
        self.signal()
        return number

    async def _refused(self, folder: Path) -> None:
        label = f"{folder.parent.name}/{folder.name}"
        self.signal()

        async def refused() -> bool:
            listed = await self.get("/v1/models")
            return listed is not None and label in listed["refused"]

        await until(refused, f"{label} is not refused")
        await asyncio.to_thread(shutil.rmtree, folder)

    def signal(self) -> None:
        """Lets the server look for new versions and policies."""
        os.kill(self._running.process.pid, signal.SIGUSR1)

    async def _ask(self, request: bytes) -> Answer | None:
        connection = None
        try:
            connection = await Connection.open(self._running.port)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await connection.ask(request, keep=True)
        except (Gone, TimeoutError):
            return None
        finally:
            if connection:
                connection.close()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits for what the server does.

    Raises:
        Failed: it takes too long; says `what` is the case.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await condition():  # noqa: ASYNC110 - only the server knows
                await asyncio.sleep(_ASK_SECONDS)
            return
    raise Failed(f"{what} after {_PATIENCE_SECONDS:g} s")
