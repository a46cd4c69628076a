"""One request on the thin path: its body under a limit, what it holds until it ends, its client watched on demand."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Receive, Scope

from service.errors import Abandoned, BodyTooLarge
from service.inference.context import Context
from service.inference.repository import Lease
from service.settings import Settings

# A body that comes at once, as a rule.
SMALL_BYTES = 1 << 16
# Putting a body of so many bytes together takes milliseconds.
_LARGE_BYTES = 1 << 22


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
        chunks: its parts; what it raises before the first is answered as an error, what it raises later ends the
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
        context: of the call, which is cancelled when the client hangs up.
        streaming: whether the answer has begun and can be no error any more.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self.facts: dict[str, object] = scope["quartet.facts"]
        self.settings: Settings = scope["app"].settings
        self.streaming = False
        self._media_type: str | None = None
        # Looked up once a request: it is asked for three times.
        self._declared: int = scope["quartet.length"] if "quartet.length" in scope else stated_length(scope)
        # The client's address and port: its connection, as far as this process can tell.
        self.context = Context(self.settings.timeout, owner=scope.get("client"), on_slow=self.watch)
        self._lease: Lease | None = None
        self._watcher: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> bytes:
        """A header's value, empty where there is none; cheaper than `headers`, which decodes them all."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value)
        return b""

    @property
    def media_type(self) -> str:
        """Of the body, without parameters and in lower case; empty where none is stated."""
        if self._media_type is None:
            stated = self.header(b"content-type").partition(b";")[0]
            self._media_type = stated.strip().lower().decode("latin-1")
        return self._media_type

    @property
    def small(self) -> bool:
        """Whether the body is so small, as it is stated, that it comes at once as a rule."""
        return 0 <= self._declared <= SMALL_BYTES

    def hold(self, lease: Lease) -> Lease:
        """Keeps a lease until the request has been answered."""
        self._lease = lease
        self.facts["model"] = lease.version.label
        return lease

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: it is, or declares to be, over the limit; the rest is not read.
            Abandoned: the client hung up before its end.
        """
        limit = int(self.settings.max_body_mb * 1_000_000)
        if self._declared > limit:
            raise self._too_large(limit)
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Abandoned
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise self._too_large(limit)
            if not message.get("more_body", False):
                if not chunks:
                    return chunk
                chunks.append(chunk)
                if size < _LARGE_BYTES:
                    return b"".join(chunks)
                # Off the event loop: joining large pieces of bytes leaves the interpreter to other threads.
                return await asyncio.to_thread(b"".join, chunks)
            chunks.append(chunk)

    def watch(self) -> None:
        """Begins to watch the client; the call is cancelled when it hangs up.

        Nearly every request is answered sooner than somebody asks for this, and never pays for it.
        """
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def end(self) -> None:
        """Returns what the request holds; it is over."""
        self.context.end()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._lease is not None:
            self._lease.version.batcher.admission.release(self.context)
            self._lease.release()

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.context.cancel()

    @staticmethod
    def _too_large(limit: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"The body is over the limit of {limit / 1e6:g} MB: send fewer or smaller items in a request."
        )


def stated_length(scope: Scope) -> int:
    """The length of the body that a request states, in bytes; -1 where it states none."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else -1
    return -1
