"""Requests to the service: retries, and failures as typed errors."""

import asyncio
import json
import logging
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import unquote

import httpx

from quartet import __version__
from quartet.errors import ClosedError, ProblemError, TimedOutError, UnreachableError, problem

SERVER = "http://127.0.0.1:8000"
# What the URL of a Unix socket begins with; its path follows.
_UNIX = "http+unix://"
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
        url: where it answers; a path before `/v1` is kept. `http+unix:///run/quartet.sock` stands for a Unix socket.
            None for QUARTET_URL, or `http://127.0.0.1:8000`.
        timeout: seconds without any data from the server after which a request times out.
        retry_for: seconds for which a request that may succeed later is retried, connection failures included.
        concurrency: the most requests at a time.
        headers: for every request.
        api_key: for every request; None for that of QUARTET_API_KEY, if it is set.
        transport: carries the requests instead of the network.
    """

    def __init__(
        self,
        url: str | None,
        *,
        timeout: float,
        retry_for: float,
        concurrency: int,
        headers: Mapping[str, str] | None,
        api_key: str | None = None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        url = url or os.environ.get("QUARTET_URL") or SERVER
        self.url = base = url if "://" in url else f"http://{url}"
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        if self.url.startswith(_UNIX):
            path = unquote(self.url.removeprefix(_UNIX))
            base, transport = "http://localhost", transport or httpx.AsyncHTTPTransport(uds=path, limits=limits)
        self._timeout = timeout
        self._retry_for = retry_for
        self._reached = False
        key = (os.environ.get("QUARTET_API_KEY", "") if api_key is None else api_key).strip()
        sent = httpx.Headers({"User-Agent": f"quartet/{__version__}"})
        if key:
            sent["Authorization"] = f"Bearer {key}"
        sent.update(headers)
        try:
            self._http = httpx.AsyncClient(
                base_url=base,
                headers=sent,
                # Waiting for a connection is waiting for this client's own requests.
                timeout=httpx.Timeout(timeout, pool=None),
                limits=limits,
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise ValueError(f"{url=} is not a URL ({error})") from None

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
        timeout: float | None = None,
        **body: Any,
    ) -> _T:
        """Sends a request, retries it if it may succeed later, and returns what `receive` makes of the answer.

        Every request of the API is idempotent, so it is also retried if the server may have received it.

        Args:
            method: of HTTP.
            path: of the route.
            receive: reads a successful answer, whose body has not been read; called again if the body is cut off.
            params: of the query; those that are None are left out.
            timeout: seconds until `TimedOutError` is raised, retries included; None for the time of the retries.
            body: as httpx takes it: `content` and `headers`, or `files`.

        Raises:
            ProblemError: the service refused; in the class of the problem.
            UnreachableError: there was no answer.
            ClosedError: the client has been closed.
        """
        try:
            async with asyncio.timeout(timeout) as scope:
                retries = _Retries(self._retry_for)
                while True:
                    try:
                        async with self._send(method, path, params, body) as response:
                            return await receive(response)
                    except (ProblemError, UnreachableError) as failure:
                        await retries.wait(failure, self._may_pass(failure))
        except TimeoutError:
            if scope.expired():
                raise TimedOutError(f"{self.url} has not answered within {timeout:g} s.") from None
            raise

    async def stream(
        self,
        method: str,
        path: str,
        receive: Callable[[httpx.Response], AsyncGenerator[_T, None]],
        *,
        params: Mapping[str, Any] | None = None,
        **body: Any,
    ) -> AsyncGenerator[_T, None]:
        """Sends a request like `exchange`, and yields what `receive` yields while the answer arrives.

        If the answer is cut off, it is requested again, and `receive` has to leave out what it has yielded.
        """
        retries = _Retries(self._retry_for)
        while True:
            try:
                async with self._send(method, path, params, body) as response, aclosing(receive(response)) as parts:
                    async for part in parts:
                        yield part
                    return
            except (ProblemError, UnreachableError) as failure:
                await retries.wait(failure, self._may_pass(failure))

    @asynccontextmanager
    async def _send(
        self, method: str, path: str, params: Mapping[str, Any] | None, body: Mapping[str, Any]
    ) -> AsyncIterator[httpx.Response]:
        """Gives the successful answer to a single request; its body has not been read."""
        if self._http.is_closed:
            raise ClosedError("the client has been closed: create another one")
        query = {name: _query_value(value) for name, value in (params or {}).items() if value is not None}
        try:
            async with self._http.stream(method, path, params=query, **body) as response:
                self._reached = True
                if not response.is_success:
                    await response.aread()
                    raise _problem_of(response)
                yield response
        except httpx.TimeoutException as error:
            raise TimedOutError(f"{self.url} timed out after {self._timeout:g} s.") from error
        except httpx.TransportError as error:
            raise UnreachableError(self._explain(error)) from error

    def _may_pass(self, failure: ProblemError | UnreachableError) -> bool:
        """Whether the request may succeed when it is sent again."""
        if isinstance(failure, ProblemError):
            return failure.status in _TRY_AGAIN
        error = failure.__cause__
        if isinstance(error, _PERMANENT) or isinstance(_system_error(error), ssl.SSLCertVerificationError):
            return False
        # A container's name may disappear while it restarts; a name that has never worked is probably misspelt.
        return self._reached or not _is_unknown_host(error)

    def _explain(self, error: httpx.TransportError) -> str:
        if _is_unknown_host(error):
            return f"{self.url}: there is no such host ({error})."
        if isinstance(_system_error(error), ssl.SSLCertVerificationError):
            hint = "the environment variable SSL_CERT_FILE names a file of certificates to trust"
            return f"{self.url} cannot be reached since its certificate is not trusted ({error}): {hint}."
        if isinstance(error, httpx.ConnectError):
            return f"{self.url} cannot be reached ({error}): is the server running there?"
        return f"{self.url} broke off ({error or type(error).__name__})."


class _Retries:
    """Exponential backoff with jitter, for a limited time.

    Args:
        seconds: the time from now.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._next = _FIRST_DELAY
        self._warned = False

    async def wait(self, failure: ProblemError | UnreachableError, may_pass: bool) -> None:
        """Waits until the request may be sent again; raises the failure if it may not, or the time is up."""
        delay = self.delay(failure.retry_after if isinstance(failure, ProblemError) else None)
        if not may_pass or delay is None:
            raise failure
        if isinstance(failure, UnreachableError) and not self._warned:
            self._warned = True
            logger.warning("%s Retrying for up to %g s.", failure, self._seconds)
        await asyncio.sleep(delay)

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


def _system_error(error: BaseException | None) -> OSError | None:
    """The error of the operating system or of TLS behind a failure, if there is one."""
    cause = error
    while cause:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _is_unknown_host(error: BaseException | None) -> bool:
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
