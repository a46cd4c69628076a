"""One request on the thin path: its body under a limit, its query as a model, its client watched while it waits."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope

from service.errors import BodyTooLarge, ClientDisconnected, InvalidRequest
from service.inference.queue import Group
from service.inference.repository import Model
from service.settings import Settings

# Results after which a loop over them lets the event loop serve others.
BREATH = 128


@dataclass(slots=True)
class Answer:
    """A finished response body, and where its time went (the value of a Server-Timing header)."""

    body: bytes
    media_type: bytes = b"application/json"
    timing: bytes = b""


@dataclass(slots=True)
class Stream:
    """A response body that is made while it is sent.

    Attributes:
        chunks: its parts; what it raises before the first is answered as a problem, what it raises later ends the
            connection, so that nobody takes a part for the whole.
        media_type: of the whole.
        headers: further ones.
    """

    chunks: AsyncGenerator[bytes, None]
    media_type: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Exchange(Request):
    """A request and what is learned while answering it.

    Attributes:
        facts: goes into the request's log line.
        settings: the service's.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self.facts: dict[str, object] = scope["quartet.facts"]
        self.settings: Settings = scope["app"].state.settings
        self._leaving: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> bytes:
        """A header's value, empty where there is none; cheaper than `headers`, which decodes them all."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value)
        return b""

    @property
    def media_type(self) -> str:
        """Of the body, without parameters and in lower case; empty where none is stated."""
        return self.header(b"content-type").partition(b";")[0].strip().lower().decode("latin-1")

    def note(self, model: Model, items: int) -> None:
        """Puts what the request is about into its log line."""
        self.facts["model"] = f"{model.name}/{model.version}"
        self.facts["items"] = items

    def wants_picture(self, render: bool, images: int) -> bool:
        """Whether the answer shall be a picture: `render` or `Accept: image/png` says so.

        Raises:
            InvalidRequest: it shall, and there are several images.
        """
        if not render and not self.header(b"accept").lower().startswith(b"image/png"):
            return False
        if images > 1:
            raise InvalidRequest(f"A picture shows one image; the request holds {images}: send one at a time.")
        return True

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: it is, or declares to be, over the limit; the rest is not read.
            ClientDisconnected: the client hung up before its end.
        """
        limit = int(self.settings.max_body_mb * 1_000_000)
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared) > limit:
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

    def watch(self, group: Group) -> None:
        """Gives up a group's items if the client hangs up before they are answered.

        For `Batcher.enqueue`'s `on_wait`: nearly every request is answered sooner and never pays for this task.
        """
        task = asyncio.get_running_loop().create_task(self._watch(group.future))
        group.future.add_done_callback(lambda _: task.cancel())

    async def _watch(self, future: asyncio.Future[Any]) -> None:
        await self.gone()
        if not future.done():
            future.set_exception(ClientDisconnected())

    @property
    def left(self) -> bool:
        """Whether the client is known to have hung up; `check_client` begins to watch it."""
        return self._leaving is not None and self._leaving.done()

    def check_client(self) -> None:
        """For long work: the first call begins to watch the client.

        Raises:
            ClientDisconnected: it has hung up.
        """
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self.gone())
        elif self.left:
            raise ClientDisconnected

    def end(self) -> None:
        """Stops watching the client; the request is over."""
        if self._leaving is not None:
            self._leaving.cancel()

    async def gone(self) -> None:
        """Returns when the client has hung up."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    @staticmethod
    def _too_large(limit: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body is over the limit of {limit / 1e6:g} MB: send fewer or smaller items in a request."
        )
