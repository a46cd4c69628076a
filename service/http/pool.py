"""What the connections of a server share: how many there may be, and how much of their work starts per loop step."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

# A connection is idle this many seconds after its last response.
_IDLE_SECONDS = 1.0
# When the server is full, a client that is slower than this many seconds may lose its connection.
_SLOW_SECONDS = 5.0
# Each body read takes up to 0.25 ms: eight per step keep a step below about two milliseconds.
_READS_PER_STEP = 8
# Pipelined requests started per step. The limit protects clients that wait for their answers before they go on.
_PIPELINED_PER_STEP = 4
# Steps of TLS handshakes per step of the loop; with an RSA key each takes a millisecond.
_HANDSHAKES_PER_STEP = 4


class Throttle:
    """Starts a limited number of callbacks in each step of the event loop; the others are queued in order."""

    def __init__(self, per_step: int) -> None:
        self._per_step = per_step
        self._waiting: dict[object, Callable[[], None]] = {}
        self._started = 0

    def request(self, owner: object, start: Callable[[], None]) -> None:
        """Calls `start` in this step or a later one. An owner has at most one entry in the queue."""
        if not self._started:
            asyncio.get_running_loop().call_soon(self._next_step)
        if self._started < self._per_step:
            self._started += 1
            start()
        else:
            self._waiting[owner] = start

    def cancel(self, owner: object) -> None:
        """Removes an owner's entry from the queue."""
        self._waiting.pop(owner, None)

    def _next_step(self) -> None:
        self._started = 0
        while self._waiting and self._started < self._per_step:
            owner = next(iter(self._waiting))
            self.request(owner, self._waiting.pop(owner))


class Member(Protocol):
    """A connection, as others look at it to find one that may give way; see `Connection`."""

    since: float

    @property
    def waits_for_client(self) -> bool: ...

    def idle_seconds(self, now: float) -> float: ...

    def close(self) -> None: ...

    def refuse(self, status: int, why: str) -> None: ...


class Pool:
    """The connections of a listener.

    Attributes:
        most: maximum number of connections.
        reads: throttle for reading bodies.
        pipelined: throttle for requests that arrived before the previous response was complete.
        handshakes: throttle for TLS handshakes.
        draining: whether each response closes its connection, so that clients reconnect to another server.
        members: all connections.
        idle: connections without a request, the one idle for longest first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.reads = Throttle(_READS_PER_STEP)
        self.pipelined = Throttle(_PIPELINED_PER_STEP)
        self.handshakes = Throttle(_HANDSHAKES_PER_STEP)
        self.draining = False
        self.members: set[Member] = set()
        self.idle: dict[Member, None] = {}

    def join(self, member: Member) -> bool:
        """Adds a connection, and makes room for it; returns whether it may stay.

        If the server is full, the connection that has been idle for longest is closed. If none is idle, the slowest
        client loses its connection. A client that keeps sending requests keeps its connection.
        """
        self.members.add(member)
        if len(self.members) <= self.most:
            return True
        now = time.monotonic()
        longest = next((member for member in self.idle if member.idle_seconds(now) >= _IDLE_SECONDS), None)
        if longest is not None:
            del self.idle[longest]
            longest.close()
            return True
        slow = [member for member in self.members if member.waits_for_client]
        slowest = min(slow, key=lambda member: member.since, default=None)
        if slowest is None or now - slowest.since < _SLOW_SECONDS:
            return False
        slowest.refuse(408, "the body of the request comes too slowly for a server without a connection to spare")
        return True

    def leave(self, member: Member) -> None:
        """Removes a connection that has ended."""
        self.members.discard(member)
        self.idle.pop(member, None)
        for throttle in (self.reads, self.pipelined, self.handshakes):
            throttle.cancel(member)
