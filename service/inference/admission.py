"""Admission to one model's queue: which calls may wait, which are refused, and when those should retry."""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Hashable

from service.errors import Draining, Overloaded
from service.inference.call import QueuedCall
from service.inference.scheduler import Flow, Scheduler

# Bounds of Retry-After in seconds.
MIN_RETRY_AFTER, MAX_RETRY_AFTER = 1.0, 30.0
# Retries are spread so that they ask for at most this share of what the model can do.
_RETRY_SHARE = 0.8
# Refused owners that are remembered, and for how long after the time of their retry.
_MAX_REFUSED = 4096
_LATE_SECONDS = 10.0
# Shares of each bound that owners may use: in general, when they retry in time, and when they retry too early.
_SHARE, _SHARE_IN_TIME, _SHARE_TOO_EARLY = 0.7, 1.0, 0.5
# Below this estimate of the wait, the other bounds are not looked at.
_NEGLIGIBLE_SECONDS = 0.005
# How long a call counts while its large body is read.
_READING_SECONDS = 2.0


class Reservation:
    """Room in a queue for the items of one call.

    Args:
        admission: that granted it.
        call: that is going to submit the items.
        held: the most items that it may have in the queue or in batches at a time.
    """

    __slots__ = ("_admission", "backlog", "call", "held")

    def __init__(self, admission: "Admission", call: QueuedCall, held: int) -> None:
        self._admission = admission
        self.backlog = admission.queue.hold(call, held)
        self.call = call
        self.held = held
        admission.held += held

    def shrink(self, held: int) -> None:
        """Releases what exceeds `held` items."""
        surplus = self.held - held
        if surplus > 0:
            self.held = held
            self._admission.held -= surplus
            self._admission.queue.release(self.backlog, surplus)

    def release(self) -> None:
        """Releases all of it; idempotent."""
        if self.held:
            self.shrink(0)


class Admission:
    """Bounds what waits for a model, in items and in seconds of work.

    Args:
        flow: the model's queue, and what its items cost.
        scheduler: runs its batches, and those of other models on the device; None if the model has none.
        max_queue: the most items of admitted calls. An owner may hold as many as are left (dynamic thresholds;
            Choudhury and Hahne 1998), so there is room for a small call of a new owner.
        max_wait: seconds that a call may wait for its turn.
        max_held: the most items of one call that are in the queue or in batches at a time.
        cores: of the CPU, on which inputs become items.

    Attributes:
        closed: whether nothing is admitted any more.
        held: items of admitted calls that have not been answered.
    """

    def __init__(
        self, flow: Flow, scheduler: Scheduler | None, max_queue: int, max_wait: float, max_held: int, cores: int
    ) -> None:
        self._flow = flow
        self.queue = flow.queue
        self._scheduler = scheduler
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._max_held = max_held
        self._negligible = min(_NEGLIGIBLE_SECONDS, max_wait / 4)
        self._cores = cores
        self._seconds_to_prepare = 0.0
        self._reading = 0
        self._refused: OrderedDict[Hashable, float] = OrderedDict()  # when these owners should retry
        self.closed = False
        self.held = 0

    def prepared(self, busy: float) -> None:
        """Updates the cost of turning an input into an item; a core was busy for `busy` seconds."""
        before = self._seconds_to_prepare
        self._seconds_to_prepare = before + (busy / self._cores - before) * (0.1 if before else 1.0)

    def admit(self, count: int, call: QueuedCall) -> Reservation:
        """Reserves room for a call, before the work of making its items.

        Args:
            count: all items of the call.
            call: keeps the reservation until it has ended.

        Raises:
            Overloaded: the queue is full, or the call would wait for longer than it may.
            Draining: nothing is admitted any more.
            DeadlineExceeded: the deadline has passed.
        """
        self._end_reading(call)
        held = min(count, self._max_held)
        self._check(held, call, self.held)
        self._refused.pop(call.owner, None)
        if call.trace is not None and not call.trace.admitted:
            call.trace.admitted = time.monotonic()
        reservation = Reservation(self, call, held)
        call.rooms.append(reservation)
        return reservation

    def expect(self, call: QueuedCall, *, at_once: bool) -> None:
        """Refuses a call before its body is read if there is no room for a single item.

        Args:
            call: whose body is going to be read.
            at_once: whether the body is small enough to have arrived with its head. Otherwise the call counts for a
                limited time, against others of which the same is true. It never counts against calls whose bodies have
                arrived: clients that send slowly keep nobody out.

        Raises:
            Overloaded: as `admit`.
            Draining: as `admit`.
        """
        if at_once:
            self._check(1, call, self.held)
            return
        self._check(1, call, self.held + self._reading)
        call.reading = True
        self._reading += 1
        asyncio.get_running_loop().call_later(_READING_SECONDS, self._end_reading, call)

    def _end_reading(self, call: QueuedCall) -> None:
        if call.reading:
            call.reading = False
            self._reading -= 1

    def _check(self, count: int, call: QueuedCall, held: int) -> None:
        """Makes sure of room for `count` items beside `held` ones."""
        if self.closed:
            raise Draining("The server is shutting down: send the request to another one.")
        flow, queue = self._flow, self.queue
        wanted = count + queue.held_by(call.owner)
        each = flow.seconds_per_item + self._seconds_to_prepare
        if wanted + held <= _SHARE_TOO_EARLY * self._max_queue and held * each < self._negligible:
            return
        ahead = min(held, queue.ahead(call, count) + flow.in_flight)
        unprepared = min(ahead, max(0, held - len(queue) - flow.in_flight))
        wait = ahead * flow.seconds_per_item + unprepared * self._seconds_to_prepare
        if self._scheduler:
            wait += self._scheduler.seconds_for_others(flow, wait)
        now = time.monotonic()
        left = min(self._max_wait, call.deadline - now)
        if left <= 0:
            call.check()
        due = self._refused.get(call.owner)
        share = _SHARE if due is None else _SHARE_IN_TIME if due <= now else _SHARE_TOO_EARLY
        if wanted + held > self._max_queue or held > share * self._max_queue:
            why = f"{held} items wait already, and at most {self._max_queue} may"
        elif wait > share * left:
            why = f"The wait would be about {wait:.1f} s, and this request may wait for {share * left:.1f} s"
        else:
            return
        if due is not None and due > now:
            raise Overloaded(f"{why}; this client was asked to retry later.", retry_after=due - now, early=True)
        seconds = self._retry_after(wait, count, now) if due is None else wait - left
        seconds = min(MAX_RETRY_AFTER, max(MIN_RETRY_AFTER, seconds))
        if call.owner is not None:
            self._refused[call.owner] = now + seconds
            self._refused.move_to_end(call.owner)
            if len(self._refused) > _MAX_REFUSED:
                self._refused.popitem(last=False)
        raise Overloaded(f"{why}: try again later.", retry_after=seconds)

    def _retry_after(self, wait: float, count: int, now: float) -> float:
        """Seconds after which an owner that is refused for the first time should retry.

        The wait, what other refused owners are going to ask for before, and jitter.
        """
        while self._refused and next(iter(self._refused.values())) < now - _LATE_SECONDS:
            self._refused.popitem(last=False)
        each = count * (self._flow.seconds_per_item + self._seconds_to_prepare)
        seconds = wait + len(self._refused) * each / _RETRY_SHARE * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        # Beyond the longest wait, owners cannot be told apart by time.
        return seconds if seconds <= MAX_RETRY_AFTER else random.uniform(MAX_RETRY_AFTER / 2, MAX_RETRY_AFTER)  # noqa: S311
