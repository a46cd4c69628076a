"""Threads for work that would block the event loop: decoding what was sent, encoding what is answered."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from service.errors import QuartetError
from service.inference.scope import CallScope
from service.tasks.images import EncodedImage, NotPlain, UInt8Array
from service.tasks.pauses import Pauses

Result = TypeVar("Result")

# Turns an image into the model's input, and notes for reading the output.
Prepare = Callable[[EncodedImage], tuple[UInt8Array, Any]]
# The input, the notes, the seconds that they took, and the seconds for which a core was busy.
Prepared = tuple[UInt8Array, Any, float, float]

# A plain JPEG of this size is decoded on the event loop: it takes at most a millisecond, and handing it to a thread
# would cost a lone client more. All other files are opened and decoded on threads.
_INLINE_PIXELS = 320 * 320
_INLINE_BYTES = 1 << 16
# Parsing or writing so many bytes takes less than handing them to a thread.
_FEW_BYTES = 16_384
# Images of a call that are decoded on the event loop; more of them go to a thread together.
_FEW = 2
# Images of this size are decoded together on a thread; a larger one takes a turn of its own.
_SMALL_PIXELS = 320 * 320
_SMALL_BYTES = 1 << 16
# A larger image takes tens of milliseconds, and up to seconds.
_LARGE_PIXELS = 4_000_000


class Threads:
    """The threads of one application.

    Small images, large images and all other work have separate threads, so that nobody waits behind photographs of 50
    megapixels. A call has one image at a time on them, so calls take turns.

    Args:
        threads: of each kind; half of them, at least one, for large images.
    """

    def __init__(self, threads: int) -> None:
        self._count = threads
        self._small = ThreadPoolExecutor(threads, "decode")
        self._large = ThreadPoolExecutor(max(1, threads // 2), "decode-large")
        self._others = ThreadPoolExecutor(threads, "encode")
        self._decoding = 0

    def close(self) -> None:
        """Ends the threads; work that has not begun is dropped."""
        for executor in (self._small, self._large, self._others):
            executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `work`, run on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._others, work, *arguments)

    async def run_sized(self, size: int, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `work` on so many bytes: few are handled on the event loop, more on a thread."""
        return work(*arguments) if size <= _FEW_BYTES else await self.run(work, *arguments)

    async def prepare(
        self,
        images: Sequence[bytes],
        prepare: Prepare,
        max_pixels: int,
        call: CallScope,
        learn: Callable[[float], None],
        first: int = 0,
    ) -> tuple[list[UInt8Array], list[Any]]:
        """What `prepare` gives for each of some images, which are decoded one after the other.

        Args:
            images: encoded.
            prepare: decodes an image whose header has been read.
            max_pixels: that an image may declare.
            call: that sent the images.
            learn: is told for each image the seconds for which a core was busy.
            first: index of the first image in the call.

        Raises:
            QuartetError: an image cannot be decoded; `index` says which.
            DeadlineExceeded: it takes too long.
            Abandoned: the call was cancelled.
        """
        done: list[Prepared] = []
        if len(images) > _FEW:
            # Each is quick, but together they would block the event loop.
            done = await self._decode(self._small, call, _prepare_small, images, prepare, max_pixels, first)
        pauses = Pauses(call)
        for index, data in enumerate(images[len(done) :], first + len(done)):
            try:
                done.append(
                    _prepare_inline(data, prepare, max_pixels) or await self._prepare(data, prepare, max_pixels, call)
                )
            except QuartetError as error:
                error.index = index
                raise
            if pauses.due:
                await pauses.take()
        for _, _, seconds, busy in done:
            call.decode_times.append(seconds)
            learn(busy)
        return [item for item, *_ in done], [note for _, note, *_ in done]

    async def _prepare(self, data: bytes, prepare: Prepare, max_pixels: int, call: CallScope) -> Prepared:
        began = time.perf_counter()
        done = await self._decode(self._small, call, _open_and_prepare, data, prepare, max_pixels)
        if isinstance(done, EncodedImage):
            done = await self._decode(self._large, call, _prepare, done, prepare)
        item, note, _, busy = done
        return item, note, time.perf_counter() - began, busy

    async def _decode(
        self, executor: Executor, call: CallScope, work: Callable[..., Result], *arguments: Any
    ) -> Result:
        """The result of `work`, unless the call is over when a thread is free."""
        call.check()
        if self._decoding >= self._count:
            call.slow()
        self._decoding += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, _run_unless_over, call, work, arguments)
        finally:
            self._decoding -= 1


def _run_unless_over(call: CallScope, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    call.check()
    return work(*arguments)


def _prepare(image: EncodedImage, prepare: Prepare) -> Prepared:
    began, busy = time.perf_counter(), time.thread_time()
    item, note = prepare(image)
    return item, note, time.perf_counter() - began, time.thread_time() - busy


def _prepare_inline(data: bytes, prepare: Prepare, max_pixels: int) -> Prepared | None:
    """None for an image that would block the event loop."""
    if len(data) > _INLINE_BYTES:
        return None
    began = time.perf_counter()
    image = EncodedImage.open_plain(data, min(max_pixels, _INLINE_PIXELS))
    if image is None:
        return None
    try:
        item, note = prepare(image)
    except NotPlain:
        return None
    seconds = time.perf_counter() - began
    return item, note, seconds, seconds


def _open_and_prepare(data: bytes, prepare: Prepare, max_pixels: int) -> Prepared | EncodedImage:
    """Only reads the header of a large image."""
    image = EncodedImage.open(data, max_pixels)
    return image if image.width * image.height > _LARGE_PIXELS else _prepare(image, prepare)


def _prepare_small(images: Sequence[bytes], prepare: Prepare, max_pixels: int, first: int) -> list[Prepared]:
    """Prepares images up to the first one that is not small."""
    done: list[Prepared] = []
    for index, data in enumerate(images, first):
        if len(data) > _SMALL_BYTES:
            break
        try:
            image = EncodedImage.open(data, max_pixels)
            if image.width * image.height > _SMALL_PIXELS:
                break
            done.append(_prepare(image, prepare))
        except QuartetError as error:
            error.index = index
            raise
    return done
