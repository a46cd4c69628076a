"""The scheduler: all cores for a lone batch, one core for each of several, and fair sharing between models."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from service.errors import Abandoned
from service.inference.batcher import Batcher
from service.inference.queue import FairQueue, Submission
from service.inference.rows import Rows
from service.inference.scheduler import Batch, Flow, Scheduler
from service.inference.scope import CallScope
from tests.gated import PATIENCE, Gated, Recorder, enqueue, submit

Parts = tuple[Batcher, Gated, Gated]


def batcher_on(scheduler: Scheduler, run: Gated, on_one_core: Gated | None, **options: object) -> Batcher:
    options = {"max_batch": 64, "max_queue": 1000, "seconds_per_item": 0.01, **options}
    return Batcher(run, run_on_one_core=on_one_core, observers=Recorder(), scheduler=scheduler, **options)


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    two = Scheduler(2, name="under-test")
    yield two
    async with asyncio.timeout(PATIENCE):
        await two.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("under-test")]


@pytest.fixture
async def parts(scheduler: Scheduler) -> AsyncIterator[Parts]:
    """A model with a session for all cores and one for a single core, on two cores."""
    wide, single = Gated(), Gated()
    batcher = batcher_on(scheduler, wide, single)
    yield batcher, wide, single
    wide.release(1000)
    single.release(1000)
    async with asyncio.timeout(PATIENCE):
        await batcher.close()


async def test_a_lone_item_gets_all_cores_and_a_second_one_waits_for_them(parts: Parts):
    batcher, wide, single = parts
    first = enqueue(batcher, [1])
    await wide.entered()
    second = enqueue(batcher, [2])
    wide.release()
    assert await first.future == [10]
    await wide.entered()
    wide.release()
    assert await second.future == [20]
    assert (wide.batches, single.batches) == ([[1], [2]], [])


async def test_many_items_are_shared_out_and_run_side_by_side(parts: Parts):
    batcher, wide, single = parts
    submission = enqueue(batcher, list(range(8)))
    await single.entered()
    await single.entered()  # both run at once: neither has been released
    # Each takes half of the waiting items, so that the thread that finishes first finds more.
    assert sorted(single.batches) == [[0, 1, 2, 3], [4, 5]]
    single.release(2)
    await wide.entered()  # the rest is too little to be shared out
    wide.release()
    assert await submission.future == [item * 10 for item in range(8)]
    assert wide.batches == [[6, 7]]


async def test_a_lone_item_gets_all_cores_again_as_soon_as_the_crowd_has_gone(parts: Parts):
    batcher, wide, single = parts
    crowd = enqueue(batcher, list(range(8)))
    await single.entered()
    await single.entered()
    single.release()  # of one of the two: the other one still has its core
    await wide.entered()
    wide.release()
    lone = enqueue(batcher, [100])
    await wide.entered()
    wide.release()
    assert await lone.future == [1000]
    single.release()
    await crowd.future
    assert wide.batches == [[6, 7], [100]]


async def test_many_items_that_come_while_one_batch_has_all_cores_start_beside_it(parts: Parts):
    batcher, wide, single = parts
    first = enqueue(batcher, [1])
    await wide.entered()
    crowd = enqueue(batcher, list(range(8)))
    await single.entered()
    assert single.batches == [[0, 1, 2, 3]]
    single.release(100)
    wide.release(100)
    assert await first.future == [10]
    assert await crowd.future == [item * 10 for item in range(8)]


async def test_short_batches_are_not_split_among_cores(parts: Parts):
    batcher, wide, single = parts
    batcher.flow.seconds_per_item = 1e-6
    submission = enqueue(batcher, list(range(8)))
    await wide.entered()
    wide.release()
    assert await submission.future == [item * 10 for item in range(8)]
    assert (len(wide.batches), single.batches) == (1, [])


async def test_closing_a_model_finishes_what_runs_and_what_waits(parts: Parts):
    batcher, wide, single = parts
    submissions = [enqueue(batcher, [item] * 5) for item in range(8)]
    await single.entered()
    await single.entered()
    closing = asyncio.create_task(batcher.close())
    single.release(1000)
    wide.release(1000)
    async with asyncio.timeout(PATIENCE):
        await closing
    assert [await each.future for each in submissions] == [[item * 10] * 5 for item in range(8)]


async def test_threads_that_hang_share_one_deadline_when_they_are_closed(caplog: pytest.LogCaptureFixture):
    four, model = Scheduler(4, name="hanging"), Gated()
    batcher = batcher_on(four, model, model, max_batch=1)
    enqueue(batcher, [1])
    await model.entered()
    enqueue(batcher, [2])
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await batcher.close(0.3)
    await four.close(0.3)
    assert loop.time() - begun < 1.5  # not 0.3 s for each of the four
    assert "the model hangs" in caplog.text
    assert "hanging-" in caplog.text
    model.release(10)
    await four.close(PATIENCE)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hanging")]


async def test_a_model_without_a_single_core_execution_runs_one_batch_at_a_time(scheduler: Scheduler):
    model = Gated()
    batcher = batcher_on(scheduler, model, None)
    first = enqueue(batcher, [1])
    await model.entered()
    second = enqueue(batcher, [2])
    await asyncio.sleep(0.05)
    assert model.batches == [[1]]
    model.release(2)
    assert [await first.future, await second.future] == [[10], [20]]
    await batcher.close()


async def test_another_models_item_starts_beside_a_batch_on_all_cores(scheduler: Scheduler, parts: Parts):
    busy, wide, _ = parts
    quick = Gated()
    other = batcher_on(scheduler, Gated(), quick)
    blocked = enqueue(busy, [1])
    await wide.entered()
    answer = enqueue(other, [2])
    await quick.entered()
    quick.release()
    assert await answer.future == [20]
    assert not blocked.future.done()
    wide.release()
    await other.close()


class Costly:
    """A model whose items each take `seconds` of one core."""

    def __init__(self, seconds: float, enough: int = 0) -> None:
        self.seconds = seconds
        self.enough = enough
        self.items = 0
        self.reached = threading.Event()

    def __call__(self, items: list[int]) -> list[int]:
        time.sleep(self.seconds * len(items))
        self.items += len(items)
        if self.items >= self.enough:
            self.reached.set()
        return items


async def test_a_busy_model_does_not_starve_another(scheduler: Scheduler):
    """One model has work for seconds in its queue; the calls of another one still get their turn."""
    heavy, light = Costly(0.01), Costly(0.001)
    busy = batcher_on(scheduler, heavy, heavy, max_batch=4)
    other = batcher_on(scheduler, light, light, max_batch=4, seconds_per_item=0.0005)
    backlog = enqueue(busy, list(range(400)))  # two seconds on two cores
    await asyncio.sleep(0.05)
    for item in range(10):
        started = time.monotonic()
        await submit(other, [item])
        # A batch of the busy model takes 40 ms: nobody waits for more than the running batches.
        assert time.monotonic() - started < 0.5
    assert not backlog.future.done()
    backlog.fail(Abandoned())
    await busy.close()
    await other.close()


async def test_two_busy_models_get_the_same_share_of_the_cores(scheduler: Scheduler):
    cheap, dear = Costly(0.001, enough=240), Costly(0.004)
    first = batcher_on(scheduler, cheap, cheap, max_batch=4, seconds_per_item=0.0005)
    second = batcher_on(scheduler, dear, dear, max_batch=4, seconds_per_item=0.002)
    submissions = [enqueue(first, [0] * 900), enqueue(second, [0] * 900)]
    await asyncio.to_thread(cheap.reached.wait, PATIENCE)
    share = cheap.items * cheap.seconds / (cheap.items * cheap.seconds + dear.items * dear.seconds)
    assert 0.35 < share < 0.65  # measured in seconds, not in items
    for submission in submissions:
        submission.fail(Abandoned())
    await first.close()
    await second.close()


async def test_a_model_cannot_claim_later_what_it_did_not_use(scheduler: Scheduler):
    busy, idle = Costly(0.002), Costly(0.002, enough=50)
    first = batcher_on(scheduler, busy, busy, max_batch=2)
    second = batcher_on(scheduler, idle, idle, max_batch=2)
    await submit(first, [0] * 100)  # the other one is idle meanwhile
    submissions = [enqueue(first, [0] * 300), enqueue(second, [0] * 300)]
    await asyncio.to_thread(idle.reached.wait, PATIENCE)
    assert busy.items - 100 > 20
    for submission in submissions:
        submission.fail(Abandoned())
    await first.close()
    await second.close()


async def test_the_wait_counts_what_other_models_do_meanwhile(scheduler: Scheduler):
    model = Gated()
    first = batcher_on(scheduler, model, model, seconds_per_item=0.1)
    second = batcher_on(scheduler, model, model, seconds_per_item=0.1)
    assert scheduler.seconds_for_others(first.flow, 1.0) == 0.0
    second.flow.in_flight = 5
    assert scheduler.seconds_for_others(first.flow, 1.0) == pytest.approx(0.5)  # all that the other model needs
    assert scheduler.seconds_for_others(first.flow, 0.2) == pytest.approx(0.2)  # no more than its share
    second.flow.in_flight = 0
    await first.close()
    await second.close()


def test_one_batch_that_was_held_up_says_little_about_the_next():
    flow = Flow(FairQueue(contextlib.nullcontext()), 4, list, None, print, seconds_per_item=0.01)
    usual, held_up = Batch([()] * 4, seconds=0.04), Batch([()] * 4, seconds=40.0)  # type: ignore[list-item]
    flow.learn(held_up)
    assert flow.seconds_per_item == pytest.approx(0.013)
    for _ in range(50):
        flow.learn(usual)
    assert flow.seconds_per_item == pytest.approx(0.01, rel=0.01)
    # A model that has become slow is known to be, after some more.
    for _ in range(50):
        flow.learn(held_up)
    assert flow.seconds_per_item > 1


@pytest.mark.parametrize(
    ("clients", "items", "seconds", "here"),
    [(1, 1, 0.001, True), (2, 1, 0.001, False), (1, 2, 0.001, False), (1, 1, 0.01, False)],
    ids=["alone", "two clients", "two items", "a long item"],
)
async def test_a_lone_clients_short_item_runs_on_the_event_loop(clients: int, items: int, seconds: float, here: bool):
    threads = []

    def run(batch: list[int]) -> list[int]:
        threads.append(threading.current_thread())
        return batch

    scheduler = Scheduler(2, one_client=lambda: clients == 1)
    batcher = batcher_on(scheduler, run, run, seconds_per_item=seconds)
    async with asyncio.timeout(PATIENCE):
        assert await enqueue(batcher, list(range(items))).future == list(range(items))
        await batcher.close()
        await scheduler.close()
    assert [thread is threading.current_thread() for thread in threads] == [here]


async def test_items_of_one_submission_stay_together():
    future = asyncio.get_running_loop().create_future()
    one, other = (Submission(CallScope(), future, Rows((np.arange(4) + start,)), 0.0) for start in (0, 10))
    seen = []

    def run(items):
        seen.append(items)
        return list(items)

    for entries, expected in (
        ([(one, 1), (one, 2)], [1, 2]),
        ([(one, 0), (other, 0), (one, 1)], [0, 10, 1]),
        ([(one, 3), (other, 0)], [3, 10]),
    ):
        batch = Batch(entries)
        batch.run(run)
        assert batch.results == expected
    assert [isinstance(items, Rows) for items in seen] == [True, False, False]
