"""Threads: where images are decoded, and work that is not begun if nobody waits for it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from service.errors import Abandoned, DeadlineExceeded, UndecodableImage
from service.inference.scope import CallScope
from service.tasks.images import EncodedImage
from service.tasks.threads import Threads
from tests.gated import PATIENCE
from tests.pictures import encode, photograph
from tests.tiny import solid

LARGE = encode(photograph(400, 400))
SMALL = encode(solid("red"), "JPEG")
PIXELS = 1_000_000


@pytest.fixture
def pool() -> Iterator[Threads]:
    one = Threads(1)
    yield one
    one.close()


def size(image: EncodedImage) -> tuple[Any, str]:
    return image.decode(3), threading.current_thread().name


def ignore(busy: float) -> None:
    pass


def slow(seconds: float, decoded: list) -> Callable:
    def prepare(image: EncodedImage) -> tuple[np.ndarray, None]:
        time.sleep(seconds)
        decoded.append(image)
        return np.zeros((8, 8, 3), np.uint8), None

    return prepare


async def test_work_runs_on_a_thread(pool: Threads):
    result, thread = await pool.run(lambda x: (x, threading.current_thread()), 7)
    assert result == 7
    assert thread is not threading.main_thread()


async def test_large_images_are_decoded_on_threads_and_small_jpegs_where_they_are(pool: Threads):
    busy: list[float] = []
    call = CallScope()
    images, threads = await pool.prepare([SMALL, LARGE], size, PIXELS, call, busy.append)
    assert [image.shape for image in images] == [(8, 8, 3), (400, 400, 3)]
    assert [thread.startswith("decode") for thread in threads] == [False, True]
    assert len(busy) == len(call.decode_times) == 2
    assert 0 < busy[1] <= call.decode_times[1]  # a thread is not busy while the image waits for it


async def test_many_small_images_go_to_a_thread_together(pool: Threads):
    busy: list[float] = []
    call = CallScope()
    images, threads = await pool.prepare([SMALL] * 5 + [LARGE] + [SMALL], size, PIXELS, call, busy.append)
    assert [image.shape[0] for image in images] == [8, 8, 8, 8, 8, 400, 8]
    assert [thread.startswith("decode") for thread in threads] == [True] * 6 + [False]
    assert len(busy) == len(call.decode_times) == 7
    with pytest.raises(UndecodableImage) as refusal:
        await pool.prepare([SMALL, SMALL, SMALL, b"no image"], size, PIXELS, call, busy.append, first=10)
    assert refusal.value.index == 13


async def test_the_index_of_an_image_that_cannot_be_decoded(pool: Threads):
    with pytest.raises(UndecodableImage) as refusal:
        await pool.prepare([SMALL, b"no image"], size, PIXELS, CallScope(), ignore, first=40)
    assert refusal.value.index == 41


async def test_work_of_cancelled_calls_is_not_begun(pool: Threads):
    gate, begun = threading.Event(), []

    def wait(image: EncodedImage) -> tuple[Any, None]:
        gate.wait(PATIENCE)
        return None, None

    def note(image: EncodedImage) -> tuple[Any, None]:
        begun.append(image)
        return None, None

    running = asyncio.create_task(pool.prepare([LARGE], wait, PIXELS, CallScope(), ignore))
    leaving = CallScope()
    late = asyncio.create_task(pool.prepare([LARGE], note, PIXELS, CallScope(timeout=0.01), ignore))
    left = asyncio.create_task(pool.prepare([LARGE], note, PIXELS, leaving, ignore))
    await asyncio.sleep(0.05)
    leaving.cancel()
    gate.set()
    await running
    with pytest.raises(DeadlineExceeded):
        await late
    with pytest.raises(Abandoned):
        await left
    assert begun == []


async def test_decoding_ends_with_the_deadline(pool: Threads):
    decoded: list = []
    with pytest.raises(DeadlineExceeded):
        await pool.prepare([LARGE] * 16, slow(0.05, decoded), PIXELS, CallScope(timeout=0.2), ignore)
    assert len(decoded) < 16


async def test_decoding_ends_when_the_call_is_cancelled(pool: Threads):
    decoded: list = []
    call = CallScope()
    asyncio.get_running_loop().call_later(0.3, call.cancel)
    with pytest.raises(Abandoned):
        await pool.prepare([LARGE] * 16, slow(0.1, decoded), PIXELS, call, ignore)
    assert 0 < len(decoded) < 16


async def test_long_decoding_says_that_the_call_is_slow(pool: Threads):
    said: list[str] = []
    call = CallScope(on_slow=lambda: said.append("slow"))
    await pool.prepare([LARGE], slow(0.06, []), PIXELS, call, ignore)
    assert said == ["slow"]
