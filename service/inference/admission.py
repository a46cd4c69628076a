"""Admission to one model's queue: which calls may wait, which are refused, and when those should be retried."""

import asyncio
import math
import random
import time
from collections import OrderedDict, deque
from collections.abc import Hashable

from service.errors import Draining, Overloaded
from service.inference.context import Context
from service.inference.scheduler import Flow, Scheduler

# Retries are spaced by so many times what the model would need for them.
_SPACING = 2.0
# The longest wait that a refusal asks for, in seconds.
MAX_RETRY_AFTER = 30.0
# Refused callers that are remembered with the time of their retry.
_MAX_RETRIES = 4096
# A wait so short needs no thought.
_NEGLIGIBLE_SECONDS = 0.005
# A call is admitted with all its items up to two batches or so many; those after them wait for room.
_COUNTED = 16
# So long is room kept for a call whose body has not come yet.
_READING_SECONDS = 2.0


class Admission:
    """Bounds what waits for a model, in items and in seconds of work.

    Args:
        flow: the model's queue and what its items cost.
        scheduler: that runs its batches, for what other models take of the device; None where it has none.
        max_queue: the most items that wait; more are refused.
        max_wait: seconds of work that may wait; a call that would wait for longer is refused.
        cores: of the CPU, on which inputs are turned into items.

    Attributes:
        closed: whether nothing is admitted any more.
    """

    def __init__(self, flow: Flow, scheduler: Scheduler | None, max_queue: int, max_wait: float, cores: int) -> None:
        self._flow = flow
        self._scheduler = scheduler
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._counted = max(2 * flow.max_batch, _COUNTED)
        self._negligible = min(_NEGLIGIBLE_SECONDS, max_wait / 4)
        self.closed = False
        # What turning an input into an item costs, while all cores do it.
        self._cores = cores
        self._seconds_to_prepare = 0.0
        # Items that admitted calls are going to submit; those of calls that have one.
        self._reserved = self._reserved_lone = 0
        # Items of calls whose bodies are being read, and since when.
        self._unread = 0
        self._reading: deque[tuple[float, Context]] = deque()
        # When the next retry may be due, and when those are due that have not come yet, by their owners.
        self._next_retry = 0.0
        self._retries: OrderedDict[Hashable, float] = OrderedDict()
        self._items_per_call = 1.0  # of calls whose bodies have not come

    def prepared(self, busy: float) -> None:
        """Learns what an item costs before it is queued: a core was busy with it for so many seconds."""
        before = self._seconds_to_prepare
        self._seconds_to_prepare = before + (busy / self._cores - before) * (0.1 if before else 1.0)

    def admit(self, count: int, context: Context) -> None:
        """Reserves room for the items of a call, before the work of making them.

        It is kept until they are submitted; whoever began the call releases what is left. Of a long call not all items
        are counted: the later ones wait for room.

        Args:
            count: all items of the call.
            context: of the call; `single` is set.

        Raises:
            Overloaded: the queue is full, or the wait would last longer than it may, or beyond the deadline.
            Draining: nothing is admitted any more.
            DeadlineExceeded: the call has gone without progress for too long already.
        """
        if context.unread:
            self._end_reading(context)
        counted = min(count, self._counted)
        if not context.single:
            self._items_per_call += (counted - self._items_per_call) * 0.05
        if context.single != (count == 1):
            self.release(context)
            context.single = not context.single
        if counted > context.reserved or self.closed:
            self._check(counted, context)
            self._reserve(counted, context)

    def take(self, count: int, context: Context) -> None:
        """Gives the room of items over to the queue, into which they go now.

        Raises:
            Overloaded: no room was kept for them, and there is none; as `admit`.
            Draining: likewise.
        """
        if count > context.reserved or self.closed:
            self._check(count, context)
            self._reserve(count, context)
        self._reserve(context.reserved - count, context)

    def admit_unread(self, context: Context, small: bool) -> None:
        """Makes sure of room for a call whose items have not been counted yet: for as many as calls have of late.

        Where the body is large, room is kept for a while against others with a large body. Whoever's body is there
        already goes first: a client that sends slowly keeps nobody out.

        Args:
            context: of the call.
            small: whether its body comes at once, as a rule.

        Raises:
            Overloaded: as `admit`.
            Draining: likewise.
        """
        count = 1 if context.single else math.ceil(self._items_per_call)
        self._check(count, context, 0 if small else self._unread)
        context.admitted = True
        if small:
            return
        context.unread = count
        self._unread += count
        if not self._reading:
            asyncio.get_running_loop().call_later(_READING_SECONDS, self._let_go)
        self._reading.append((time.monotonic(), context))

    def _end_reading(self, context: Context) -> None:
        self._unread -= context.unread
        context.unread = 0

    def _let_go(self) -> None:
        """Gives back the room of calls whose bodies take long."""
        long_ago = time.monotonic() - _READING_SECONDS
        while self._reading and (self._reading[0][0] <= long_ago or not self._reading[0][1].unread):
            self._end_reading(self._reading.popleft()[1])
        if self._reading:
            asyncio.get_running_loop().call_later(_READING_SECONDS / 4, self._let_go)

    def release(self, context: Context) -> None:
        """Gives back the room of items that the call will not submit."""
        if context.unread:
            self._end_reading(context)
        if context.reserved:
            self._reserve(0, context)

    def _check(self, count: int, context: Context, unread: int = 0) -> None:
        """Makes sure of room for `count` items, beside what is queued and reserved, and `unread` items."""
        if self.closed:
            raise Draining("The server is shutting down: send the request to another one.")
        flow = self._flow
        queue = flow.queue
        queued, reserved = len(queue), self._reserved - context.reserved + unread
        full = queued + reserved + count > self._max_queue
        # Far from every bound, as nearly always: what follows costs more than a small network.
        each = flow.seconds_per_item + self._seconds_to_prepare
        if not full and (queued + reserved + flow.in_flight) * each < self._negligible:
            return
        if context.single:
            # Half of each batch is for such items.
            queued = min(queued, 2 * len(queue.lone))
            reserved = min(reserved, 2 * (self._reserved_lone - context.reserved) + unread)
        wait = (queued + reserved + flow.in_flight) * flow.seconds_per_item + reserved * self._seconds_to_prepare
        left = min(self._max_wait, context.deadline - time.monotonic())
        # Each of the others gets as long as this one at the most, so nearly always they need not be added up.
        if self._scheduler and wait * self._scheduler.models > left / 2:
            wait += self._scheduler.seconds_for_others(flow, wait)
        if left <= 0:
            context.check()
        if full:
            why = f"{len(queue)} items wait already and at most {self._max_queue} may"
            raise self._refusal(why, wait - left, count, context)
        if wait > left:
            why = f"The wait would be about {wait:.1f} s, longer than the {left:.1f} s that this request may wait"
            raise self._refusal(why, wait - left, count, context)
        filled = max(wait / left, (queued + reserved) / self._max_queue)
        if filled > 0.5 and not context.admitted and not context.reserved and not context.next_round:
            self._ration(filled, wait, count, context)

    def _ration(self, filled: float, wait: float, count: int, context: Context) -> None:
        """Decides about a new call near a bound.

        Callers that retry when they were asked to are let in, those that retry sooner are not, and of the others chance
        picks some (random early detection; Floyd and Jacobson 1993). Otherwise callers that retry at once would take
        all the room that becomes free.
        """
        due = self._retries.get(context.owner)
        if due is None:
            # None of them get the last tenth of the room.
            if random.random() < (filled - 0.5) / 0.4:  # noqa: S311 - chance, no secret
                why = f"Others wait for {wait:.1f} s already, and not all requests can be let in"
                raise self._refusal(why, 0.0, count, context)
        elif due > time.monotonic():
            raise self._refusal("This client was asked to retry later", 0.0, count, context)
        else:
            del self._retries[context.owner]

    def _reserve(self, count: int, context: Context) -> None:
        """Makes `count` the number of items that room is kept for."""
        more = count - context.reserved
        self._reserved += more
        if context.single:
            self._reserved_lone += more
        context.reserved = count

    def _refusal(self, why: str, seconds: float, count: int, context: Context) -> Overloaded:
        """A refusal of `count` items that says when to retry: in `seconds` at the earliest, each call at another time.

        A caller that comes too early is told the same time again, and one that came in time does not queue up anew.
        """
        now = time.monotonic()
        due = self._retries.get(context.owner)
        early = due is not None and due > now
        if due is not None and not early:
            due = self._retries[context.owner] = now + min(max(1.0, seconds), MAX_RETRY_AFTER)
        elif due is None:
            due = max(self._next_retry, now + max(0.0, seconds))
            after = due + _SPACING * count * (self._flow.seconds_per_item + self._seconds_to_prepare)
            if after <= now + MAX_RETRY_AFTER:
                self._next_retry = after
            else:  # more than can be told apart by then
                due = now + random.uniform(MAX_RETRY_AFTER / 2, MAX_RETRY_AFTER)  # noqa: S311 - chance, no secret
            if context.owner is not None:
                self._retries[context.owner] = due
                self._retries.move_to_end(context.owner)
                if len(self._retries) > _MAX_RETRIES:
                    self._retries.popitem(last=False)
        return Overloaded(f"{why}: try again later.", retry_after=due - now, early=early)
