"""The innermost layer: hands a thin route its request, and everything else to FastAPI."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from service.stack.thin import ThinRoute


class ThinTable:
    """The thin routes of an application by path and method."""

    def __init__(self) -> None:
        self._fixed: dict[tuple[str, str], ThinRoute] = {}
        self._patterns: list[tuple[Any, Any, frozenset[str], ThinRoute]] = []

    def fill(self, routes: Sequence[BaseRoute]) -> None:
        """Takes the thin routes of an application, once all routers are included.

        Raises:
            TypeError: a thin route, or a router around it, declares dependencies, which nothing would call.
        """
        for context in iter_route_contexts(routes):
            route = context.original_route
            if not isinstance(route, ThinRoute):
                continue
            path = str(context.path)
            if context.dependencies:
                names = ", ".join(getattr(d.dependency, "__name__", str(d.dependency)) for d in context.dependencies)
                raise TypeError(
                    f"{path} declares the dependencies {names}, but a thin route calls none: do it in a middleware, "
                    "or declare an ordinary FastAPI route."
                )
            methods = frozenset(context.methods or ())
            if "{" in path:
                pattern, _, convertors = compile_path(path)
                self._patterns.append((pattern, convertors, methods, route))
            else:
                self._fixed |= {(path, method): route for method in methods}

    def find(self, scope: Scope) -> ThinRoute | None:
        """The route for a request; its path parameters go into the scope."""
        path, method = scope["path"], scope["method"]
        route = self._fixed.get((path, method))
        if route is not None or not self._patterns:
            return route
        for pattern, convertors, methods, candidate in self._patterns:
            if method in methods and (match := pattern.match(path)):
                scope["path_params"] = {
                    name: convertors[name].convert(value) for name, value in match.groupdict().items()
                }
                return candidate
        return None


# Probes cost little, and must not wait behind the page's files.
_PROBES = "/healthz/"


class Dispatch:
    """Answers thin routes by themselves.

    FastAPI's routes, of which the document and the metrics take milliseconds, begin one after the other, and the event
    loop serves others in between: a crowd that asks for them delays nobody by more than one of them.

    Args:
        app: FastAPI's own stack.
        table: of the thin routes.
    """

    def __init__(self, app: ASGIApp, table: ThinTable) -> None:
        self._app = app
        self._table = table
        self._turn = asyncio.Lock()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or scope["path"].startswith(_PROBES):
            return self._app(scope, receive, send)
        route = self._table.find(scope)
        # The coroutine is returned rather than awaited here: another one would only cost time.
        return (route.handle if route else self._in_turn)(scope, receive, send)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turn:
            await asyncio.sleep(0)
        await self._app(scope, receive, send)
