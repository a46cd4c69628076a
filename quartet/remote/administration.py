"""The routes by which a running server shows and changes which versions of a model it serves."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from quartet.calls import json_body
from quartet.http import Connection


class Administration:
    """The versions of one model on a server.

    Methods return the documents of the routes; those that change something return the state after it. All of them
    raise `ProblemError` for what the server refuses, and `UnreachableError` if there is no answer.

    Args:
        connection: to the server.
        model: its name.
    """

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection = connection
        self._model = model

    async def state(self) -> Any:
        """Versions, default, aliases, canary, shadow and policy."""
        return await self._send("GET", "policy")

    async def act(self, verb: str, body: Mapping[str, Any]) -> Any:
        """Does what a verb says: load, unload, pin, promote or roll back."""
        return await self._send("POST", verb, body=body)

    async def put(self, *path: str, body: Mapping[str, Any]) -> Any:
        """Sets a canary, a shadow or an alias."""
        return await self._send("PUT", *path, body=body)

    async def clear(self, *path: str) -> Any:
        """Ends a canary or a shadow, or removes an alias."""
        return await self._send("DELETE", *path)

    async def show(self, what: str) -> Any:
        """The figures of the canary or of the shadow, or the audit log."""
        return await self._send("GET", what)

    async def _send(self, method: str, *path: str, body: Mapping[str, Any] | None = None) -> Any:
        async def receive(response: httpx.Response) -> Any:
            return json.loads(await response.aread())

        parts = (quote(part, safe="") for part in (self._model, *path))
        content = {} if body is None else json_body(body)
        return await self._connection.exchange(method, "/".join(["v1/models", *parts]), receive, **content)
