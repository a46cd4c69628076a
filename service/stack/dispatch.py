"""The innermost layer: hands model endpoints their requests, and everything else to FastAPI."""

import asyncio
from collections.abc import Awaitable, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from service.stack.endpoint import Endpoint

# Probes are cheap, and must not wait behind the page's files.
_PROBES = "/healthz/"


class Dispatch:
    """Looks up endpoints in a dictionary, without a walk through FastAPI's layers and routes.

    Requests to FastAPI's routes start one after another, because the OpenAPI document and the metrics take
    milliseconds: between two of them the event loop serves others.

    Args:
        app: FastAPI's router and what is around it.
        endpoints: of the application. Those whose path has parameters are left to FastAPI's router.
    """

    def __init__(self, app: ASGIApp, endpoints: Iterable[Endpoint]) -> None:
        self._app = app
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._turn = asyncio.Lock()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # The coroutine is returned, not awaited: one frame less.
        if scope["type"] != "http" or scope["path"].startswith(_PROBES):
            return self._app(scope, receive, send)
        endpoint = self._endpoints.get(scope["path"])
        if endpoint is None or scope["method"] != "POST":
            return self._in_turn(scope, receive, send)
        return endpoint(scope, receive, send)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turn:
            await asyncio.sleep(0)
        await self._app(scope, receive, send)
