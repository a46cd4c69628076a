"""The way in and out of each connection, which all of them share: what is read, and what is sent, in one step of the
event loop.
"""

import asyncio
from collections.abc import Callable, Sized
from typing import Any

# Seconds for which a client may read an answer that came before the end of its body.
_LINGER_SECONDS = 2.0


class StepLimit:
    """Starts a few pieces of work in each step of the event loop, for which everyone else waits; the rest queue up.

    Args:
        per_step: how many are started in a step.
    """

    def __init__(self, per_step: int) -> None:
        self._per_step = per_step
        self._waiting: dict[object, Callable[[], None]] = {}
        self._started = 0

    def ask(self, who: object, start: Callable[[], None]) -> None:
        """Has `start` called, in this step or in one of the next; once for each `who`."""
        if not self._started:
            asyncio.get_running_loop().call_soon(self._next_step)
        if self._started < self._per_step:
            self._started += 1
            start()
        else:
            self._waiting[who] = start

    def leave(self, who: object) -> None:
        """Takes back what was asked."""
        self._waiting.pop(who, None)

    def _next_step(self) -> None:
        self._started = 0
        while self._waiting and self._started < self._per_step:
            who = next(iter(self._waiting))
            self.ask(who, self._waiting.pop(who))


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
        reads: limits how many of the server's connections read in a step.

    Attributes:
        unread: whether a body is coming that has not been taken in.
        lingering: whether it is closed but for the client's reading.
    """

    def __init__(
        self, transport: asyncio.Transport, tasks: Sized, loop: asyncio.AbstractEventLoop, reads: StepLimit
    ) -> None:
        self._transport = transport
        self._reads = reads
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
        self._reads.leave(self)
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._reads.ask(self, self._resume_reading)

    def _resume_reading(self) -> None:
        if not self.is_closing():
            self._transport.resume_reading()

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
