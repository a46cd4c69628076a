"""One request to the service: retries, and failures as typed errors."""

import asyncio
import json
import logging
import os
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

import httpx

from quartet import __version__
from quartet.errors import ProblemError, QuartetError, UnreachableError, problem

logger = logging.getLogger("quartet")

_T = TypeVar("_T")
# 502 is what a proxy answers while the server behind it restarts.
_TRY_AGAIN = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
# Failures of the request itself, which is never sent.
_PERMANENT = (httpx.LocalProtocolError, httpx.ProxyError, httpx.UnsupportedProtocol)
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 8.0


class Connection:
    """The way to a server.

    Args:
        url: where it answers; a path before `/v1` is kept.
        timeout: seconds without any data from the server after which a request times out.
        retry_for: seconds for which a request that may succeed later is retried, connection failures included.
        concurrency: the most requests at a time.
        headers: for every request.
        api_key: for every request; None for that of QUARTET_API_KEY, if it is set.
        transport: carries the requests instead of the network.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        retry_for: float,
        concurrency: int,
        headers: Mapping[str, str] | None,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self.url = url if "://" in url else f"http://{url}"
        self._timeout = timeout
        self._retry_for = retry_for
        self._reached = False
        key = (os.environ.get("QUARTET_API_KEY", "") if api_key is None else api_key).strip()
        sent = httpx.Headers({"User-Agent": f"quartet/{__version__}"})
        if key:
            sent["Authorization"] = f"Bearer {key}"
        sent.update(headers)
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=sent,
            # Who waits for a connection waits for the own requests before.
            timeout=httpx.Timeout(timeout, pool=None),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            transport=transport,
        )

    async def close(self) -> None:
        """Ends all connections."""
        await self._http.aclose()

    async def exchange(
        self,
        method: str,
        path: str,
        receive: Callable[[httpx.Response], Awaitable[_T]],
        *,
        params: Mapping[str, Any] | None = None,
        **body: Any,
    ) -> _T:
        """Sends a request, retries it if it may succeed later, and returns what `receive` makes of the answer.

        Every request of the API is idempotent, so it is also retried if the server may have received it.

        Args:
            method: of HTTP.
            path: of the route.
            receive: reads a successful answer, whose body has not been read; called again where that breaks off.
            params: of the query; those that are None are left out.
            body: as httpx takes it: `content` and `headers`, or `files`.

        Raises:
            ProblemError: the service refused; in the class of the failure.
            UnreachableError: there was no answer.
        """
        query = {name: _query_value(value) for name, value in (params or {}).items() if value is not None}
        backoff = _Backoff(self._retry_for)
        warned = False
        while True:
            try:
                async with self._http.stream(method, path, params=query, **body) as response:
                    self._reached = True
                    if response.is_success:
                        return await receive(response)
                    await response.aread()
                    failure: QuartetError = _problem_of(response)
                    again = response.status_code in _TRY_AGAIN
            except httpx.TransportError as error:
                failure = UnreachableError(self._explain(error))
                failure.__cause__ = error
                again = self._may_pass(error)
            delay = backoff.delay(failure.retry_after if isinstance(failure, ProblemError) else None)
            if not again or delay is None:
                raise failure
            if isinstance(failure, UnreachableError) and not warned:
                warned = True
                logger.warning("%s Retrying for up to %g s.", failure, self._retry_for)
            await asyncio.sleep(delay)

    def _may_pass(self, error: httpx.TransportError) -> bool:
        """Whether the request may succeed when it is sent again."""
        if isinstance(error, _PERMANENT) or isinstance(_system_error(error), ssl.SSLCertVerificationError):
            return False
        # A container's name may disappear while it restarts; a name that has never worked is probably misspelt.
        return self._reached or not _is_unknown_host(error)

    def _explain(self, error: httpx.TransportError) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"{self.url} timed out after {self._timeout:g} s."
        if _is_unknown_host(error):
            return f"{self.url}: there is no such host ({error})."
        if isinstance(error, httpx.ConnectError):
            return f"{self.url} cannot be reached ({error}): is the server running there?"
        return f"{self.url} broke off ({error or type(error).__name__})."


class _Backoff:
    """Exponential backoff with jitter."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._next = _FIRST_DELAY

    def delay(self, stated: float | None) -> float | None:
        """The seconds to wait.

        Args:
            stated: the shortest delay that the server asks for.

        Returns:
            None if the time is up, or would be up before the stated delay.
        """
        remaining = self._end - time.monotonic()
        least = self._next if stated is None else stated
        self._next = min(2 * self._next, _LONGEST_DELAY)
        wait = least * random.uniform(1, 1.5)  # noqa: S311 - not for cryptography
        if stated is None:
            wait = min(wait, remaining)
        return wait if remaining > 0 and wait <= remaining else None


def _system_error(error: httpx.TransportError) -> OSError | None:
    """The error of the operating system or of TLS behind a failure, if there is one."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _is_unknown_host(error: httpx.TransportError) -> bool:
    """Whether the name server has answered that there is no such host."""
    cause = _system_error(error)
    return isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN


def _query_value(value: Any) -> str:
    """An option as a query writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{value}"


def _problem_of(response: httpx.Response) -> ProblemError:
    """The problem that an unsuccessful answer states; a proxy's own page becomes one."""
    try:
        fields = json.loads(response.content)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        fields = {"detail": " ".join(response.text[:200].split())}
    title = fields.get("title") or response.reason_phrase or f"HTTP {response.status_code}"
    return problem({**fields, "title": title, "status": response.status_code}, _retry_after(response))


def _retry_after(response: httpx.Response) -> float | None:
    """The seconds that the header Retry-After asks for, written as a number or as a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
