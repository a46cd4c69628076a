"""What the commands that ask a server have in common."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from quartet.errors import ProblemError
from quartet.http import Connection

# Time for which a request is retried, such as while the server restarts.
_RETRY_FOR = 60.0
_UNAUTHORIZED = 401


@asynccontextmanager
async def connect(url: str | None, retry_for: float = _RETRY_FOR) -> AsyncIterator[Connection]:
    """A connection to a server, with the key of QUARTET_API_KEY.

    Args:
        url: of the server; None for QUARTET_URL or, for one version, QUARTET_SERVER.
        retry_for: seconds for which a request that may succeed later is retried.
    """
    url = url or os.environ.get("QUARTET_URL") or os.environ.get("QUARTET_SERVER")
    connection = Connection(url, timeout=60.0, retry_for=retry_for, concurrency=4, headers=None, transport=None)
    try:
        yield connection
    finally:
        await connection.close()


def explain(error: Exception) -> str:
    """A failure in one line, with the hint that a key is needed."""
    lacks_key = isinstance(error, ProblemError) and error.status == _UNAUTHORIZED
    hint = " Set QUARTET_API_KEY." if lacks_key and not os.environ.get("QUARTET_API_KEY") else ""
    return " ".join(f"{error}{hint}".split())
