"""The thin route: declared like any FastAPI route, answered without the dependency solver and the response model.

FastAPI's machinery costs 70 to 80 microseconds a request, which on a GPU is the limit. A thin route keeps the
declaration (path, query model, response model, OpenAPI) and answers by itself: it parses the query string into the
declared model, calls the endpoint, and sends the bytes that the endpoint made. It lies inside all layers of the stack,
like any other route; dependencies, which FastAPI would call, it refuses (`service.stack.dispatch`).
"""

import functools
import typing
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi.params import Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from service.errors import Abandoned, InvalidRequest, QuartetError, shown
from service.stack.exchange import Answer, Exchange, StreamedAnswer
from service.stack.failures import send_failure

# Longer query strings are not cached: clients choose them, and the cache must stay small.
_CACHED_BYTES = 256
# Far more than any operation has options.
_MAX_PARAMETERS = 64


class ThinRoute(APIRoute):
    """A route whose endpoint is `async def endpoint(exchange: Exchange, query: Annotated[Model, Query()]) -> Answer`.

    The query model should forbid extra fields, so that a misspelt option is an error. Path parameters are in
    `exchange.path_params`.

    Raises:
        TypeError: the endpoint declares dependencies, which nothing would call.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__(path, endpoint, **kwargs)
        if self.dependant.dependencies:
            raise TypeError(
                f"{path} declares dependencies, but a thin route calls none: do it in a middleware, or declare an "
                "ordinary FastAPI route."
            )
        self._endpoint: Callable[[Exchange, Any], Awaitable[Answer | StreamedAnswer]] = endpoint
        self._parse = functools.partial(parse_query, query_model(endpoint))
        self._parse_again = functools.lru_cache(maxsize=256)(self._parse)

    def _query(self, query: bytes) -> BaseModel:
        return (self._parse_again if len(query) <= _CACHED_BYTES else self._parse)(query)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        scope["route"] = self
        exchange = Exchange(scope, receive)
        try:
            answer = await self._endpoint(exchange, self._query(scope["query_string"]))
            if isinstance(answer, StreamedAnswer):
                await _send_stream(answer, exchange, send)
                return
        except Abandoned:
            exchange.facts["client"] = "gone"
            return
        except QuartetError as error:
            if exchange.streaming:
                exchange.facts["problem"] = error.slug
                raise
            exchange.end(error)  # releases the lease and the room in the queue before the refusal is held back
            await send_failure(error, scope, send)
            return
        finally:
            exchange.end()
        headers = [(b"content-type", answer.media_type), (b"content-length", b"%d" % len(answer.body))]
        if answer.timing:
            headers.append((b"server-timing", answer.timing))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


async def _send_stream(stream: StreamedAnswer, exchange: Exchange, send: Send) -> None:
    """Sends a body while it is made."""
    exchange.watch()
    try:
        # What cannot be made at all fails here, while the status can still say so.
        chunk = await anext(stream.chunks, None)
        exchange.streaming = True
        headers = [(b"content-type", stream.media_type), *stream.headers]
        if chunk is not None and exchange.scope["http_version"] == "1.0":
            # It knows no chunks, which alone would tell it where a body of unknown length ends.
            chunk += b"".join([more async for more in stream.chunks])
            headers.append((b"content-length", b"%d" % len(chunk)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while chunk is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if exchange.call.cancelled:
                raise Abandoned
            chunk = await anext(stream.chunks, None)
        await send({"type": "http.response.body", "body": b""})
    finally:
        await stream.chunks.aclose()


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
        pairs = parse_qsl(
            query.decode(), keep_blank_values=True, strict_parsing=bool(query), max_num_fields=_MAX_PARAMETERS
        )
        values: dict[str, str] = {}
        for name, value in pairs:
            if name in values:
                raise InvalidRequest(f"The parameter {shown(name)!r} is given twice.")
            values[name] = value
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = shown(".".join(str(part) for part in first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise InvalidRequest(f"There is no parameter {field!r}; there are {known}.") from None
        raise InvalidRequest(f"{field}={shown(str(first['input']))}: {first['msg']}.") from None
    except ValueError as error:
        raise InvalidRequest(f"The query string cannot be read ({error}): write name=value&name=value.") from None
