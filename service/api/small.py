"""Routes whose bodies are small."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from service.errors import BodyTooLarge

_MOST_BYTES = 16_384


async def small_body(request: Request, most: int = _MOST_BYTES) -> bytes:
    """The body; raises BodyTooLarge once it is larger than the route needs, so that parsing never takes long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise BodyTooLarge(f"The body is over {most} bytes, which this route never needs: send less at a time.")
    return body


class SmallBody(APIRoute):
    """A route whose body is refused when it is larger than any change: FastAPI would parse it on the event loop."""

    most_bytes = _MOST_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def limited(request: Request) -> Response:
            body = await small_body(request, self.most_bytes)

            async def again() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            return await handle(Request(request.scope, again))

        return limited
