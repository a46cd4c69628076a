"""The one way in: a layer around every route that lets nothing pass but what a key, or this machine, may do.

Everything is refused unless a rule here permits it. Only the probes and the pages that explain problems are public.
"""

import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import caller
from service.access.inside import PATHS, is_inside
from service.access.keys import Key, KeyRing
from service.access.keys import Scope as KeyScope
from service.access.local import is_of_other_site, why_not_local
from service.access.rates import rate_fields
from service.catalogue import CATALOGUE, PAGES
from service.errors import Forbidden, NotFound, QuartetError, Unauthorized

_PROBES = ("/healthz/live", "/healthz/ready", "/v2/health/live", "/v2/health/ready")
_PUBLIC = frozenset({*_PROBES, PAGES, *(f"{PAGES}/{code}" for code in CATALOGUE)})
_READS = ("GET", "HEAD", "OPTIONS")
_MODELS = "/v1/models/"
_REPOSITORY = "/v2/repository/models/"
# Paths in which the name of a model follows.
_NAMED = (_MODELS, _REPOSITORY, "/v2/models/")
_STATISTICS = "/v2/models/stats"
# What a browser loads before its user can do anything. It holds no data of a model, but for the OpenAPI document, in
# which a key finds its own models.
_PAGES = ("/", "/learn", "/docs", "/openapi.json")
_BELOW_PAGES = ("/web/", "/models/", "/learn/", "/docs/")
# Paths of clients, and headers with valid keys, that are remembered.
_LONGEST_REMEMBERED, _MOST_KNOWN = 128, 1024
# A larger body that is not read costs its client the connection.
_SMALL_BYTES = 1 << 16

Refuse = Callable[[QuartetError, Scope, Send], Awaitable[None]]


def needed(method: str, path: str) -> KeyScope | None:
    """The scope that a request needs beside a key; None if any key will do."""
    # The router's patterns end before a line break too: `/metrics%0A` is another name for `/metrics`.
    path = path.rstrip("\n")
    if path.startswith(_MODELS):
        # A shadow's examples are inputs of other clients.
        inner = path[len(_MODELS) :].split("/")[1:3]
        reserved = inner[:1] == ["audit"] or inner == ["shadow", "examples"]
        return "admin" if method not in _READS or reserved else "infer"
    if path.startswith(_REPOSITORY):
        return "admin"
    if path.startswith(("/metrics", "/v1/status")):
        return "metrics"
    if method in _READS and (path in _PAGES or path.startswith(_BELOW_PAGES)):
        return None
    return "infer"


_remembered = lru_cache(maxsize=512)(needed)


def is_public(method: str, path: str) -> bool:
    """Whether a request needs no key."""
    return path in _PUBLIC and method in ("GET", "HEAD")


class Gate:
    """Refuses requests without a key that may do what they ask, before their bodies are read.

    Args:
        app: the layers inside.
        ring: the keys. Without it, everyone may do everything but administer, which only this machine may.
        unknown: the refusal of a model that the key may not know of, by its name: as of one that is not served.
        refuse: sends a failure.
        metrics_inside: whether the metrics have a port of their own, and are nowhere else.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        ring: KeyRing | None,
        unknown: Callable[[Scope, str], QuartetError],
        refuse: Refuse,
        metrics_inside: bool = False,
    ) -> None:
        self._app = app
        self._metrics_inside = metrics_inside
        self._ring = ring
        self._unknown = unknown
        self._send_failure = refuse

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # The coroutine is returned, not awaited: one frame less.
        if scope["type"] != "http":
            return self._app(scope, receive, send) if scope["type"] == "lifespan" else _close(send)
        method: str = scope["method"]
        path: str = scope["path"]
        if scope.get("root_path"):
            path = _route_path(path, scope["root_path"])
        if is_inside(scope):
            if path in PATHS:
                return self._app(scope, receive, send)
            return self._refuse(NotFound(f"This port has {', '.join(PATHS)} and nothing else."), scope, send)
        if path in _PUBLIC and is_public(method, path):
            return self._app(scope, receive, send)
        if self._metrics_inside and path.startswith("/metrics"):
            return self._refuse(NotFound("The metrics are on the port QUARTET_METRICS_PORT."), scope, send)
        try:
            key = authorise(self._ring, self._unknown, scope, method, path)
        except QuartetError as error:
            return self._refuse(error, scope, send)
        if key is not None and (key.requests or key.items):
            send = _stating_rates(key, send)
        return self._app(scope, receive, send)

    def _refuse(self, error: QuartetError, scope: Scope, send: Send) -> Awaitable[None]:
        headers = scope["quartet.headers"]
        length = headers.get(b"content-length", b"0")
        small = length.isdigit() and int(length) <= _SMALL_BYTES
        if b"transfer-encoding" in headers or not small:
            error.hang_up = True
        if isinstance(error, Unauthorized):
            send = _challenging(headers, send)
        elif (key := caller.key_of(scope)) and key.limits:
            send = _stating_rates(key, send)
        return self._send_failure(error, scope, send)


def authorise(
    ring: KeyRing | None, unknown: Callable[[Scope, str], QuartetError], scope: Scope, method: str, path: str
) -> Key | None:
    """The key of a request; None where none is needed.

    Args:
        ring: as for `Gate`, also `unknown`.
        scope: of the request; it gets the key.
        method: of HTTP.
        path: that the rules of `needed` are about.

    Raises:
        QuartetError: the request may not pass.
    """
    key = authorise_key(ring, scope, method, path)
    check_model(key, unknown, scope, path)
    return key


def authorise_key(ring: KeyRing | None, scope: Scope, method: str, path: str) -> Key | None:
    """Like `authorise`, before it is known which model a request names: `check_model` has to follow."""
    if ring is None:
        if _needed(method, path) == "admin" and (why := why_not_local(scope)):
            raise Forbidden(
                f"Without API keys only programs on the server's machine may do this, and {why}: make a key with "
                "`quartet keys add NAME --scope admin`, and set QUARTET_KEYS."
            )
        return None
    key = _key_of(ring, scope, method)
    caller.admit(scope, key)
    scope_needed = _needed(method, path)
    if scope_needed is not None and (key.requests or key.items):
        _take(key, method)
    if not key.may(scope_needed):
        raise Forbidden(f"The key {key.name!r} lacks the scope {scope_needed!r}, which {method} needs here.")
    return key


def check_model(key: Key | None, unknown: Callable[[Scope, str], QuartetError], scope: Scope, path: str) -> None:
    """Refuses a path that names a model which the key may not know of."""
    if key is not None and key.models is not None and (prefix := next(filter(path.startswith, _NAMED), None)):
        name = path[len(prefix) :].partition("/")[0]
        if not key.sees(name) and path != _STATISTICS:
            raise unknown(scope, name)


def _take(key: Key, method: str) -> None:
    """Counts a request against the rates of its key; its items are counted once they are known."""
    now = time.monotonic()
    if key.items and method == "POST" and (wait := key.items.test(1, now)):
        raise caller.rate_limited(key, "items", wait)
    if key.requests and (wait := key.requests.hit(1, now)):
        raise caller.rate_limited(key, "requests", wait)


def _needed(method: str, path: str) -> KeyScope | None:
    """`needed`, remembered for the paths that are asked for again and again."""
    return _remembered(method, path) if len(path) <= _LONGEST_REMEMBERED else needed(method, path)


def _route_path(path: str, root: str) -> str:
    """The path that the router compares: without the prefix that a server above has stripped."""
    return path[len(root) :] if f"{path}/".startswith(f"{root}/") else path


def _key_of(ring: KeyRing, scope: Scope, method: str) -> Key:
    """The key that a request carries.

    Raises:
        Unauthorized: it carries none, or one that is not valid.
        Forbidden: a browser sent it by itself, for a page of another site.
    """
    headers = scope["quartet.headers"]
    authorization, plain = headers.get(b"authorization"), headers.get(b"x-api-key")
    if len(headers) != len(scope["headers"]) and _are_repeated(scope["headers"]):
        raise Unauthorized("The request carries several keys: send one.")
    known = ring.known
    if plain is None and (found := known.get(authorization)) is not None and found.end > time.time():
        return found.key
    if authorization is None and plain is None:
        raise Unauthorized("This needs an API key: send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`.")
    if authorization is None:
        by_itself, secret = False, plain.strip()
    else:
        by_itself, secret = _secret_of(authorization)
        if plain is not None and plain.strip() != secret:
            raise Unauthorized("The request carries several keys: send one.")
    found = ring.find(secret) if secret else None
    if found is None:
        raise Unauthorized("The API key is not valid: it is misspelt, or has been revoked.")
    if found.end <= time.time():
        scope["quartet.facts"]["key"] = found.key.name
        raise Unauthorized(f"The API key {found.key.name!r} has expired: ask for a new one.")
    if by_itself and method not in _READS and is_of_other_site(headers):
        raise Forbidden("A page of another site sent this, with the key that the browser keeps for this server.")
    if authorization is not None and not by_itself:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[authorization] = found
    return found.key


def _are_repeated(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a header with a key occurs twice: a proxy might have looked at the other one."""
    names = [name for name, _ in headers]
    return names.count(b"authorization") > 1 or names.count(b"x-api-key") > 1


def _secret_of(authorization: bytes) -> tuple[bool, bytes]:
    """Whether a browser sends it by itself, and the key in an Authorization header; empty if it cannot be read."""
    scheme, _, value = authorization.partition(b" ")
    value = value.strip()
    match scheme.lower():
        case b"bearer":
            return False, value
        case b"basic":
            try:
                # The password is the key; a browser asks for a user too.
                return True, base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return True, b""
    return False, b""


def _challenging(headers: Any, send: Send) -> Send:
    """Adds what a client may answer with.

    A browser asks its user for a password where Basic is offered. A program that has sent a key otherwise, such as the
    page, handles the refusal itself.
    """
    stated = headers.get(b"authorization", b"").lower()
    challenges = [(b"www-authenticate", b'Bearer realm="Quartet"')]
    if b"x-api-key" not in headers and not stated.startswith(b"bearer"):
        # Browsers choose from one line each.
        challenges.insert(0, (b"www-authenticate", b'Basic realm="Quartet", charset="UTF-8"'))

    async def send_with_challenges(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *challenges]
        await send(message)

    return send_with_challenges


def _stating_rates(key: Key, send: Send) -> Send:
    """Adds what is left of the rates of a key."""

    async def send_with_rates(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            stated = dict(headers).get(b"retry-after")
            now = time.monotonic()
            fields = rate_fields(key.limits, now) if stated is None else rate_fields(key.limits, now, float(stated))
            message["headers"] = headers + fields
        await send(message)

    return send_with_rates


async def _close(send: Send) -> None:
    """Refuses a WebSocket, which no route takes."""
    await send({"type": "websocket.close", "code": 1008})
