"""Worker threads: work is refused if it would be too late, and not begun if nobody waits for it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from service.errors import Abandoned, DeadlineExceeded, Overloaded, UndecodableImage
from service.inference.context import Context
from service.tasks.images import EncodedImage
from service.tasks.workers import Workers
from tests.gated import PATIENCE
from tests.pictures import encode, photograph
from tests.tiny import solid

LARGE = encode(photograph(400, 400))
SMALL = encode(solid("red"), "JPEG")
PIXELS = 1_000_000


@pytest.fixture
def workers() -> Iterator[Workers]:
    one = Workers(1)
    yield one
    one.close()


def size(image: EncodedImage) -> tuple[Any, str]:
    return image.decode(3), threading.current_thread().name


def ignore(seconds: float, busy: float) -> None:
    pass


def note_to(seconds_and_busy: list[tuple[float, float]]) -> Callable[[float, float], None]:
    return lambda seconds, busy: seconds_and_busy.append((seconds, busy))


def slow(seconds: float, decoded: list) -> Callable:
    def prepare(image: EncodedImage) -> tuple[np.ndarray, None]:
        time.sleep(seconds)
        decoded.append(image)
        return np.zeros((8, 8, 3), np.uint8), None

    return prepare


async def test_work_runs_on_a_thread(workers: Workers):
    result, thread = await workers.run(lambda x: (x, threading.current_thread()), 7)
    assert result == 7
    assert thread is not threading.main_thread()


async def test_large_images_are_decoded_on_threads_and_small_jpegs_where_they_are(workers: Workers):
    took: list[tuple[float, float]] = []
    context = Context()
    images, threads = await workers.prepare([SMALL, LARGE], size, PIXELS, context, note_to(took))
    assert [image.shape for image in images] == [(8, 8, 3), (400, 400, 3)]
    assert [thread.startswith("decode") for thread in threads] == [False, True]
    assert len(took) == 2
    assert context.decode_seconds == pytest.approx(sum(seconds for seconds, _ in took))
    assert 0 < took[1][1] <= took[1][0]  # a thread is not busy while the image waits for it


async def test_many_small_images_go_to_a_thread_together(workers: Workers):
    took: list[tuple[float, float]] = []
    context = Context()
    images, threads = await workers.prepare([SMALL] * 5 + [LARGE] + [SMALL], size, PIXELS, context, note_to(took))
    assert [image.shape[0] for image in images] == [8, 8, 8, 8, 8, 400, 8]
    assert [thread.startswith("decode") for thread in threads] == [True] * 6 + [False]
    assert len(took) == 7
    with pytest.raises(UndecodableImage) as refusal:
        await workers.prepare([SMALL, SMALL, SMALL, b"no image"], size, PIXELS, context, note_to(took), first=10)
    assert refusal.value.index == 13


async def test_the_index_of_an_image_that_cannot_be_decoded(workers: Workers):
    with pytest.raises(UndecodableImage) as refusal:
        await workers.prepare([SMALL, b"no image"], size, PIXELS, Context(), print, first=40)
    assert refusal.value.index == 41


async def test_work_that_cannot_meet_its_deadline_is_refused(workers: Workers):
    begun, gate = threading.Event(), threading.Event()

    def wait(image: EncodedImage) -> tuple[Any, None]:
        begun.set()
        gate.wait(PATIENCE)
        return None, None

    await workers.prepare([LARGE], slow(0.05, []), PIXELS, Context(), ignore)  # an image takes 50 ms
    waiting = [asyncio.create_task(workers.prepare([LARGE], wait, PIXELS, Context(), ignore)) for _ in range(4)]
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    with pytest.raises(Overloaded, match="4 images wait to be decoded") as refusal:
        await workers.prepare([LARGE], size, PIXELS, Context(0.1), ignore)
    assert refusal.value.retry_after is not None
    await workers.prepare([SMALL], size, PIXELS, Context(0.1), ignore)  # needs no thread
    patient = asyncio.create_task(workers.prepare([LARGE], size, PIXELS, Context(PATIENCE), ignore))
    gate.set()
    await asyncio.gather(*waiting, patient)
    await workers.prepare([LARGE], size, PIXELS, Context(0.2), ignore)


async def test_work_of_cancelled_calls_is_not_begun(workers: Workers):
    gate, begun = threading.Event(), []

    def wait(image: EncodedImage) -> tuple[Any, None]:
        gate.wait(PATIENCE)
        return None, None

    def note(image: EncodedImage) -> tuple[Any, None]:
        begun.append(image)
        return None, None

    running = asyncio.create_task(workers.prepare([LARGE], wait, PIXELS, Context(), ignore))
    leaving = Context()
    late = asyncio.create_task(workers.prepare([LARGE], note, PIXELS, Context(0.01), ignore))
    left = asyncio.create_task(workers.prepare([LARGE], note, PIXELS, leaving, ignore))
    await asyncio.sleep(0.05)
    leaving.cancel()
    gate.set()
    await running
    with pytest.raises(DeadlineExceeded):
        await late
    with pytest.raises(Abandoned):
        await left
    assert begun == []


async def test_decoding_ends_with_the_deadline(workers: Workers):
    decoded: list = []
    with pytest.raises(DeadlineExceeded):
        await workers.prepare([LARGE] * 16, slow(0.05, decoded), PIXELS, Context(0.2), ignore)
    assert len(decoded) < 16


async def test_decoding_ends_when_the_call_is_cancelled(workers: Workers):
    decoded: list = []
    context = Context()
    asyncio.get_running_loop().call_later(0.3, context.cancel)
    with pytest.raises(Abandoned):
        await workers.prepare([LARGE] * 16, slow(0.1, decoded), PIXELS, context, ignore)
    assert 0 < len(decoded) < 16


async def test_long_decoding_says_that_the_call_is_slow(workers: Workers):
    said: list[str] = []
    context = Context(on_slow=lambda: said.append("slow"))
    await workers.prepare([LARGE], slow(0.06, []), PIXELS, context, ignore)
    assert said == ["slow"]
