"""One request for inference: its body under a limit, the scope of its call, its client watched on demand."""

import asyncio
import hashlib
import io
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Receive, Scope

from service.access.caller import charge, models_of, owner_of
from service.errors import Abandoned, BodyTooLarge
from service.inference.leases import Version
from service.inference.routing import anywhere
from service.inference.scope import CallScope
from service.settings import Settings

# A body of this size usually arrives together with its head.
SMALL_BYTES = 1 << 16
# Where a client stands among all clients of a model with a canary; it sends back what an answer told it.
_ROUTE = b"quartet-route"
_POSITION = re.compile(rb"0\.[0-9]{1,6}")


@dataclass(slots=True)
class Answer:
    """A complete response body, and the value of its Server-Timing header."""

    body: bytes
    media_type: bytes = b"application/json"
    timing: bytes = b""


@dataclass(slots=True)
class StreamedAnswer:
    """A response body that is made while it is sent.

    Attributes:
        chunks: its parts. An error before the first is answered as usual; a later one ends the connection, so that
            the client cannot take a part for the whole.
        media_type: of the whole.
        headers: additional ones.
    """

    chunks: AsyncGenerator[bytes, None]
    media_type: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request by name, made once for each request; the first value of each."""
    headers: dict[bytes, bytes] | None = scope.get("quartet.headers")
    if headers is None:
        headers = scope["quartet.headers"] = dict(reversed(scope["headers"]))
    return headers


def stated_length(scope: Scope) -> int:
    """The Content-Length of a request in bytes; -1 without one."""
    value = headers_of(scope).get(b"content-length", b"")
    return int(value) if value.isdigit() else -1


class Exchange(Request):
    """A request and the scope of its call.

    Attributes:
        facts: go into the request's log line.
        settings: of the service.
        answer_headers: go into the answer.
        call: its owner is the API key or, without one, the client's connection. It is cancelled when the client
            disconnects.
        streaming: whether the answer has begun and cannot become an error any more.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        app = scope["app"]
        owner, weight = owner_of(scope)
        self._values = headers_of(scope)
        self.facts: dict[str, object] = scope["quartet.facts"]
        self.settings: Settings = app.settings
        self.answer_headers: list[tuple[bytes, bytes]] = []
        self.streaming = False
        self.call = CallScope(
            app.repository,
            owner=owner,
            weight=weight,
            models=models_of(scope),
            timeout=self.settings.timeout,
            trace=scope.get("quartet.trace"),
            observers=app.observers,
            on_slow=self.watch,
        )
        self._declared = stated_length(scope)
        self._media_type: str | None = None
        self._watcher: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> bytes:
        """The first value of a header, empty if there is none; cheaper than `headers`, which decodes all of them."""
        return self._values.get(name, b"")

    @property
    def media_type(self) -> str:
        """Of the body, without parameters and in lower case; empty if none is stated."""
        if self._media_type is None:
            stated = self.header(b"content-type").partition(b";")[0]
            self._media_type = stated.strip().lower().decode("latin-1")
        return self._media_type

    @property
    def small(self) -> bool:
        """Whether the stated length of the body says that it usually arrives together with its head."""
        return 0 <= self._declared <= SMALL_BYTES

    def lease(self, model: str, wanted: str | None = None) -> Version:
        """The version that serves a model; see `CallScope.lease`."""
        version = self.call.lease(model, wanted, self._position)
        alias = self.call.leases[-1].alias
        self.facts["model"] = version.label
        if alias is not None:
            self.facts["alias"] = alias
        self.facts["variant"] = version.variant
        self.answer_headers.append((b"quartet-model", version.header(alias)))
        return version

    def _position(self, header: str | None, canary: str) -> float:
        """Where the client stands among all clients, from 0 to 1: the same each time.

        That is the hash of a header, if the policy names one, and otherwise what an earlier answer told the client. The
        hash is another one for each canary: otherwise the same few would try all of them.

        Args:
            header: that decides.
            canary: its label.
        """
        if header is not None and (value := self.header(header.lower().encode())):
            digest = hashlib.blake2b(canary.encode() + b"\n" + value, digest_size=6).digest()
            return int.from_bytes(digest) / 2**48
        stated = self.header(_ROUTE)
        position = float(stated) if _POSITION.fullmatch(stated) else round(anywhere(), 6)
        if header is None:
            self.answer_headers.append((_ROUTE, b"%.6f" % position))
        return position

    def charge(self, items: int) -> None:
        """Takes items from the rate of the request's key; see `service.access.caller.charge`."""
        charge(self.scope, items)

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: it is, or declares to be, over the limit; the rest is not read.
            Abandoned: the client disconnected before its end.
        """
        limit = int(self.settings.max_body_mb * 1_000_000)
        if self._declared > limit:
            raise _too_large(limit)
        body = io.BytesIO()  # whose value is no copy, unlike a list of chunks that is joined
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Abandoned
            chunk: bytes = message.get("body", b"")
            last = not message.get("more_body", False)
            if body.tell() + len(chunk) > limit:
                raise _too_large(limit)
            if last and not body.tell():
                return chunk
            body.write(chunk)
            if last:
                return body.getvalue()

    def watch(self) -> None:
        """Starts to watch the client; the call is cancelled when it disconnects. Fast requests never pay for this."""
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def end(self, error: BaseException | None = None) -> None:
        """Releases what the request holds; idempotent."""
        if self._watcher is not None:
            self._watcher.cancel()
        call = self.call
        if call.inference_seconds and "inference_ms" not in self.facts:
            self.facts["queue_ms"] = round(call.queue_seconds * 1000, 2)
            self.facts["inference_ms"] = round(call.inference_seconds * 1000, 2)
        call.fail(error)
        call.close()

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.call.cancel()


async def call_scope(request: Request) -> AsyncIterator[CallScope]:
    """A dependency that gives an ordinary FastAPI route the scope of its call.

    @app.post("/mine")
    async def mine(row: list[float], call: Annotated[CallScope, Depends(call_scope)]) -> list[float]:
        model = call.lease("mine")
        ((answer,),) = await call.infer(model, [np.array(row, np.float32)])
        return answer.tolist()
    """
    exchange = Exchange(request.scope, request.receive)
    try:
        async with exchange.call as call:
            yield call
    finally:
        exchange.end()


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over the limit of {limit / 1e6:g} MB: send fewer or smaller items in a request.")
