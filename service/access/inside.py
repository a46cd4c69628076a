"""The port for metrics and probes alone: who reaches it needs no key, and finds nothing else there."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

_INSIDE = "quartet.inside"
PATHS = ("/metrics", "/healthz/live", "/healthz/ready")


class Inside:
    """Marks the requests that came in through that port, for the gate, which decides about them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope[_INSIDE] = True
        return self._app(scope, receive, send)


def is_inside(scope: Scope) -> bool:
    """Whether a request came in through that port."""
    return _INSIDE in scope
