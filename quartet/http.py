"""One request to the service: sent again where that helps, and failures as typed errors."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

import httpx

from quartet import __version__
from quartet.errors import Problem, QuartetError, Unreachable, problem

_T = TypeVar("_T")
# 502 is a proxy's word for a server that is being replaced.
_TRY_AGAIN = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 8.0


class Connection:
    """The way to a server.

    Args:
        url: where it answers; a path before `/v1` is kept.
        timeout: seconds without a sign of life after which an answer is given up.
        retry_for: seconds for which a request that may succeed later is sent again.
        concurrency: the most requests at a time.
        headers: for every request.
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
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self.url = url if "://" in url else f"http://{url}"
        self._timeout = timeout
        self._retry_for = retry_for
        self._reached = False
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"User-Agent": f"quartet/{__version__}", **(headers or {})},
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
        """Sends a request, again where there may be an answer later, and gives what `receive` makes of the answer.

        Args:
            method: of HTTP.
            path: of the route.
            receive: reads a successful answer, whose body has not been read; called again where that breaks off.
            params: of the query; those that are None are left out.
            body: as httpx takes it: `content` and `headers`, or `files`.

        Raises:
            Problem: the service refused; in the class of the failure.
            Unreachable: there was no answer.
        """
        query = {name: _query_value(value) for name, value in (params or {}).items() if value is not None}
        backoff = _Backoff(self._retry_for)
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
                failure = Unreachable(self._explain(error))
                failure.__cause__ = error
                # Where there has never been a server, nobody waits for it to come back.
                again = self._reached and not isinstance(error, httpx.UnsupportedProtocol | httpx.ProxyError)
            delay = backoff.delay(failure.retry_after if isinstance(failure, Problem) else None)
            if not again or delay is None:
                raise failure
            await asyncio.sleep(delay)

    def _explain(self, error: httpx.TransportError) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"{self.url} gave no sign of life for {self._timeout:g} s."
        if isinstance(error, httpx.ConnectError):
            return f"{self.url} cannot be reached ({error}): is the server running there?"
        return f"{self.url} broke off ({error or type(error).__name__})."


class _Backoff:
    """The pauses before a request is sent again, which differ by chance: those refused together come back apart."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._next = _FIRST_DELAY

    def delay(self, stated: float | None) -> float | None:
        """The seconds to wait.

        Args:
            stated: the least that the server asks for.

        Returns:
            None where that would be too late.
        """
        least = self._next if stated is None else stated
        self._next = min(2 * self._next, _LONGEST_DELAY)
        wait = least * random.uniform(1, 1.5)  # noqa: S311 - not for cryptography
        return wait if time.monotonic() + wait <= self._end else None


def _query_value(value: Any) -> str:
    """An option as a query writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{value}"


def _problem_of(response: httpx.Response) -> Problem:
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
