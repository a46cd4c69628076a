"""The thin route: declared like any FastAPI route, served without the dependency solver and the response model.

FastAPI's machinery costs 70 to 80 microseconds a request, which on a GPU is the limit. A thin route keeps the
declaration (path, query model, response model, OpenAPI) and answers by itself: it parses the query string into the
declared model, calls the endpoint, and sends the bytes that the endpoint made.
"""

import asyncio
import functools
import typing
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi.params import Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from service.api.exchange import Answer, Exchange, Stream
from service.api.problems import REQUEST_ID, send_problem
from service.errors import ClientDisconnected, InvalidRequest, QuartetError

TIMING = {
    "Server-Timing": {
        "description": "milliseconds of decode, queue and inference",
        "schema": {"type": "string", "example": "decode;dur=0.3, queue;dur=1.2, inference;dur=4.9"},
    }
}


class ThinRoute(APIRoute):
    """A route whose endpoint is `async def endpoint(exchange: Exchange, query: Annotated[Model, Query()]) -> Answer`.

    The query model should forbid extra fields, so that a misspelt option is an error.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        responses: dict[int | str, dict[str, Any]] = kwargs.pop("responses", None) or {}
        answer = responses.get(200, {})  # one that is sent while it is made names other headers
        answer = {**answer, "headers": {**REQUEST_ID, **answer.get("headers", TIMING)}}
        super().__init__(path, endpoint, **kwargs, responses={**responses, 200: answer})
        self._endpoint: Callable[[Exchange, Any], Awaitable[Answer | Stream]] = endpoint
        self._query = functools.lru_cache(maxsize=256)(functools.partial(parse_query, query_model(endpoint)))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        scope["route"] = self
        exchange = Exchange(scope, receive)
        try:
            answer = await self._endpoint(exchange, self._query(scope["query_string"]))
            if isinstance(answer, Stream):
                await send_stream(answer, exchange, send)
                return
        except ClientDisconnected:
            scope["quartet.facts"]["client"] = "gone"
            return
        except QuartetError as error:
            if "quartet.streaming" in scope:
                scope["quartet.facts"]["problem"] = error.slug
                raise
            await send_problem(error, scope, send)
            return
        finally:
            exchange.end()
        headers = [(b"content-type", answer.media_type), (b"content-length", b"%d" % len(answer.body))]
        if answer.timing:
            headers.append((b"server-timing", answer.timing))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


async def send_stream(stream: Stream, exchange: Exchange, send: Send) -> None:
    """Sends a body while it is made; stops making it when the client hangs up."""
    gone = asyncio.ensure_future(exchange.gone())
    try:
        # What cannot be made at all fails here, while the status can still say so.
        chunk = await _next_chunk(stream, gone)
        exchange.scope["quartet.streaming"] = True
        headers = [(b"content-type", stream.media_type), *stream.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while chunk is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await _next_chunk(stream, gone)
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        await stream.chunks.aclose()


async def _next_chunk(stream: Stream, gone: asyncio.Future[None]) -> bytes | None:
    """The next part of a body; None after the last.

    Raises:
        ClientDisconnected: the client hung up, maybe while the part was being made.
    """
    making: asyncio.Future[bytes | None] = asyncio.ensure_future(anext(stream.chunks, None))
    either: set[asyncio.Future[Any]] = {making, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise ClientDisconnected
        return await making
    finally:
        if not making.done():
            making.cancel()
            await asyncio.wait({making})
        if not making.cancelled():
            making.exception()  # seen: nobody else will ask for it


def query_model(endpoint: Callable[..., Any]) -> type[BaseModel]:
    """The pydantic model that an endpoint declares as its `Query()`."""
    for hint in typing.get_type_hints(endpoint, include_extras=True).values():
        if any(isinstance(extra, Query) for extra in getattr(hint, "__metadata__", ())):
            model: type[BaseModel] = typing.get_args(hint)[0]
            return model
    raise TypeError(f"{endpoint.__name__} declares no Annotated[Model, Query()]")


def parse_query(model: type[BaseModel], query: bytes) -> BaseModel:
    """The query string as `model`.

    Raises:
        InvalidRequest: an unknown parameter, or an unusable value; names it.
    """
    try:
        values = dict(parse_qsl(query.decode(), keep_blank_values=True, strict_parsing=bool(query)))
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise InvalidRequest(f"There is no parameter {place!r}; there are {known}.") from None
        raise InvalidRequest(f"{place}={first['input']}: {first['msg']}.") from None
    except ValueError as error:
        raise InvalidRequest(f"The query string cannot be read ({error}): write name=value&name=value.") from None
