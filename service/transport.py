"""Answers that are ready together are sent together."""

import asyncio
from collections.abc import Sized
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class _Gathering:
    """A transport that, beside other requests, sends what it is given at the end of the event loop's step.

    Uvicorn writes a response's head and its body one after the other, and the event loop sends each at once, which
    wakes the client between them and between the answers of a batch. At the end of the step each answer is one
    system call, and the client finds many: its next requests come together too. A lone request does not wait.

    Args:
        transport: the connection's.
        tasks: one for each request that is being answered, of all connections.
        loop: the event loop.
    """

    def __init__(self, transport: asyncio.Transport, tasks: Sized, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._tasks = tasks
        self._call_soon = loop.call_soon
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            self._held.append(data)
        elif len(self._tasks) > 1:
            self._held.append(data)
            self._call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():  # the client may have gone within the step
            self._transport.write(b"".join(held))


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol on a gathering transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        super().connection_made(_Gathering(transport, self.tasks, self.loop))  # type: ignore[arg-type]
