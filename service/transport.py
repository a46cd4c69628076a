"""The way in and out of each connection, which all of them share: what is read, and what is sent, in one step of the
event loop.
"""

import asyncio
from collections.abc import Sized
from typing import Any

# Bodies that are read in one step, which takes two milliseconds or so.
_BODIES_AT_A_TIME = 8
# Seconds for which a client may read an answer that came before the end of its body.
_LINGER_SECONDS = 2.0


class Turns:
    """Lets a few bodies be read in each step of the event loop, for which everyone else waits."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Transport, None] = {}
        self._given = 0

    def ask(self, transport: asyncio.Transport) -> None:
        """Has a transport go on reading, in this step or in one of the next."""
        if not self._given:
            asyncio.get_running_loop().call_soon(self._next_step)
        if self._given < _BODIES_AT_A_TIME:
            self._given += 1
            transport.resume_reading()
        else:
            self._waiting[transport] = None

    def leave(self, transport: asyncio.Transport) -> None:
        """Takes back what was asked."""
        self._waiting.pop(transport, None)

    def _next_step(self) -> None:
        self._given = 0
        while self._waiting and self._given < _BODIES_AT_A_TIME:
            transport = next(iter(self._waiting))
            del self._waiting[transport]
            if not transport.is_closing():
                self.ask(transport)


class CoalescingTransport:
    """A transport that, beside other requests, sends what it is given at the end of the event loop's step.

    Uvicorn writes a response's head and its body one after the other, and the event loop sends each at once, which
    wakes the client between them and between the answers of a batch. At the end of the step each answer is one
    system call, and the client finds many: its next requests come together too. A lone request does not wait.

    It closes in two steps where a body has not been taken in: the client learns that nothing more will come, and has
    some time to read its answer. A socket that is closed while something waits in it takes the answer away from the
    client (RFC 9112, 9.6), and on the same machine this process would be the one to free what the client has queued.

    Args:
        transport: the connection's.
        tasks: one for each request that is being answered, of all connections.
        loop: the event loop.
        turns: of the server's connections, to read.

    Attributes:
        unread: whether a body is coming that has not been taken in.
        lingering: whether it is closed but for the client's reading.
    """

    def __init__(
        self, transport: asyncio.Transport, tasks: Sized, loop: asyncio.AbstractEventLoop, turns: Turns
    ) -> None:
        self._transport = transport
        self._turns = turns
        self._tasks = tasks
        self._call_soon = loop.call_soon
        self._call_later = loop.call_later
        self._held: list[bytes] = []
        self.unread = self.lingering = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.lingering or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._turns.leave(self._transport)
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._turns.ask(self._transport)

    def write(self, data: bytes) -> None:
        if self.lingering:
            return
        if self._held:
            self._held.append(data)
        elif len(self._tasks) > 1:
            self._held.append(data)
            self._call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        if not self.unread or self.is_closing():
            self._transport.close()
            return
        self.lingering = True
        self.pause_reading()
        self._transport.write_eof()
        self._call_later(_LINGER_SECONDS, self._transport.close)

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self.is_closing():  # the client may have gone within the step
            self._transport.write(b"".join(held))
