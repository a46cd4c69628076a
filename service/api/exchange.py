"""One request on the thin path: its body under a limit, its query as a model, its client watched while it waits."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope

from service.errors import BodyTooLarge, ClientDisconnected
from service.settings import Settings

# Nearly every request is answered sooner; only those that wait longer pay for a task that watches their client.
_WATCH_AFTER = 0.05


@dataclass(slots=True)
class Answer:
    """A finished response body, and where its time went (seconds)."""

    body: bytes
    media_type: bytes = b"application/json"
    timings: dict[str, float] = field(default_factory=dict)


class Exchange(Request):
    """A request and what is learned while answering it.

    Attributes:
        facts: goes into the request's log line.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self.facts: dict[str, object] = scope.setdefault("quartet.facts", {})
        self.started = time.perf_counter()

    @property
    def settings(self) -> Settings:
        """The service's settings."""
        settings: Settings = self.app.state.settings
        return settings

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: it is, or declares to be, over the limit; the rest is not read.
            ClientDisconnected: the client hung up before its end.
        """
        limit = int(self.settings.max_body_mb * 1_000_000)
        declared = self.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise self._too_large(limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise self._too_large(limit)
            if not message.get("more_body", False):
                return b"".join((*chunks, chunk)) if chunks else chunk
            chunks.append(chunk)

    async def wait(self, future: asyncio.Future[Any]) -> Any:
        """The future's result; if the client hangs up first, its items are given up."""
        loop = asyncio.get_running_loop()
        watcher: list[asyncio.Task[None]] = []
        timer = loop.call_later(_WATCH_AFTER, lambda: watcher.append(loop.create_task(self._watch(future))))
        try:
            return await future
        finally:
            timer.cancel()
            for task in watcher:
                task.cancel()

    async def _watch(self, future: asyncio.Future[Any]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not future.done():
            future.set_exception(ClientDisconnected())

    @staticmethod
    def _too_large(limit: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body is over the limit of {limit / 1e6:g} MB: send fewer or smaller items in a request."
        )
