"""Endpoints that run a model: plain ASGI, without FastAPI's dependency solver and response model.

An endpoint parses the query string into a pydantic model, calls its function, and sends the bytes that it returns.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from service.errors import Abandoned, InvalidRequest, QuartetError, truncate
from service.faults import Faults, add_parameters
from service.stack.exchange import Answer, Exchange, StreamedAnswer
from service.stack.failures import send_failure

# Longer query strings are not cached: clients choose them, and the cache must stay small.
_CACHED_BYTES = 256
# Far more than any operation has options.
_MAX_PARAMETERS = 64

_AnswerFunction = Callable[[Exchange, Any], Awaitable[Answer | StreamedAnswer]]


class Endpoint:
    """The ASGI application behind `POST path`.

    Args:
        path: of the route. Its parameters are in `exchange.path_params`.
        options: model of the query. It should forbid extra fields, so that a misspelt option is an error.
        answer: called with the exchange and the options.
    """

    def __init__(self, path: str, options: type[BaseModel], answer: _AnswerFunction) -> None:
        self.path = path
        self._answer = answer
        self._parse = functools.partial(parse_query, options)
        self._parse_cached = functools.lru_cache(maxsize=256)(self._parse)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        if scope["method"] != "POST":
            raise HTTPException(405, headers={"allow": "POST"})
        exchange = Exchange(scope, receive)
        query: bytes = scope["query_string"]
        try:
            options = (self._parse_cached if len(query) <= _CACHED_BYTES else self._parse)(query)
            answer = await self._answer(exchange, options)
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
        headers = [
            (b"content-type", answer.media_type),
            (b"content-length", b"%d" % len(answer.body)),
            *exchange.answer_headers,
        ]
        if answer.timing:
            headers.append((b"server-timing", answer.timing))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


async def _send_stream(stream: StreamedAnswer, exchange: Exchange, send: Send) -> None:
    """Sends a body while it is produced."""
    exchange.watch()
    try:
        # The first chunk comes before the head, so that an error can still have its status.
        chunk = await anext(stream.chunks, None)
        exchange.streaming = True
        headers = [(b"content-type", stream.media_type), *exchange.answer_headers, *stream.headers]
        if chunk is not None and exchange.scope["http_version"] == "1.0":
            # HTTP/1.0 has no chunks, and a body without a length would end like a truncated one.
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


def parse_query(model: type[BaseModel], query: bytes) -> BaseModel:
    """The query string as `model`.

    Raises:
        InvalidRequest: unknown parameters, or unusable values; names them.
    """
    try:
        pairs = parse_qsl(
            query.decode(), keep_blank_values=True, strict_parsing=bool(query), max_num_fields=_MAX_PARAMETERS
        )
    except ValueError as error:
        raise InvalidRequest(f"The query string cannot be read ({error}): write name=value&name=value.") from None
    faults = Faults()
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            faults.add(f"The parameter {truncate(name)!r} is given twice.", parameter=truncate(name))
        values[name] = value
    try:
        options = model.model_validate(values)
    except ValidationError as error:
        add_parameters(faults, error.errors(), model.model_fields)
        raise faults.error() from None
    faults.check()
    return options
