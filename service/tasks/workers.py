"""Threads for what the event loop cannot spare the time for: decoding what is sent, encoding what is answered."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from service.errors import Abandoned, DeadlineExceeded, Overloaded, QuartetError
from service.inference.context import Context
from service.tasks.images import EncodedImage, UInt8Array

Result = TypeVar("Result")

# Up to here decoding takes less than a millisecond or so, which the event loop can spare; a thread would cost more.
_INLINE_PIXELS = 320 * 320
# And only of so few bytes: what is hidden in an image costs by its length.
_INLINE_BYTES = 1 << 16
# Images decoded on the event loop before it gets to serve others.
_BREATH = 8
# A call whose items take longer to prepare has its client watched.
_LONG_SECONDS = 0.05


class Workers:
    """The threads of one application.

    Decoding and encoding have threads of their own, so that answers do not wait behind a stranger's large images. A
    call has one image at a time on the threads, so each gets its turn.

    Args:
        threads: of each kind.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._decoding = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._encoding = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._waiting = 0
        self._seconds = 0.0

    def close(self) -> None:
        """Ends the threads; what they have not begun is not done."""
        for pool in (self._decoding, self._encoding):
            pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `work`, run on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._encoding, work, *arguments)

    async def prepare(
        self,
        images: Sequence[bytes],
        prepare: Callable[[EncodedImage], tuple[UInt8Array, Any]],
        max_pixels: int,
        context: Context,
        observe: Callable[[float], None],
        first: int = 0,
    ) -> tuple[list[UInt8Array], list[Any]]:
        """What `prepare` gives for each of some images, which are decoded one after the other.

        Args:
            images: encoded.
            prepare: decodes one whose header has been read.
            max_pixels: that an image may declare.
            context: of the call.
            observe: is told of the seconds that each image took.
            first: the index of the first of the images in the call.

        Raises:
            QuartetError: an image cannot be decoded; `index` tells which.
            Overloaded: what waits to be decoded takes longer than the call may; only the first image of a call is
                refused so.
            DeadlineExceeded: it takes too long.
            Abandoned: nobody waits for them any more.
        """
        items: list[UInt8Array] = []
        notes: list[Any] = []
        begun = time.perf_counter()
        for index, data in enumerate(images, first):
            started = time.perf_counter()
            try:
                if len(data) > _INLINE_BYTES:
                    self._admit(index, context)
                    pixels, note = await self._decode(context, _open_and_prepare, prepare, data, max_pixels)
                elif (image := EncodedImage.open(data, max_pixels)).width * image.height > _INLINE_PIXELS:
                    self._admit(index, context)
                    pixels, note = await self._decode(context, prepare, image)
                else:
                    pixels, note = prepare(image)
            except QuartetError as error:
                error.index = index
                raise
            items.append(pixels)
            notes.append(note)
            now = time.perf_counter()
            context.decode_seconds += now - started
            observe(now - started)
            if now - begun > _LONG_SECONDS:
                context.slow()
                context.check()
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
        return items, notes

    def _admit(self, index: int, context: Context) -> None:
        """Refuses the first image of a call, at no loss, if it would not be decoded in time."""
        wait = self._waiting * self._seconds / self._threads
        left = context.deadline - time.monotonic()
        if index == 0 and wait > left:
            raise Overloaded(
                f"{self._waiting} images wait to be decoded, which takes about {wait:.1f} s: try again later.",
                retry_after=wait - left,
            )

    async def _decode(self, context: Context, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `work`, run on a thread unless the call is over by then."""
        context.check()
        self._waiting += 1
        try:
            seconds, result = await asyncio.get_running_loop().run_in_executor(
                self._decoding, _timed, context, work, arguments
            )
        finally:
            self._waiting -= 1
        self._seconds += (seconds - self._seconds) * (0.1 if self._seconds else 1.0)
        return result


def _timed(context: Context, work: Callable[..., Result], arguments: tuple[Any, ...]) -> tuple[float, Result]:
    if context.cancelled:
        raise Abandoned
    started = time.monotonic()
    if started > context.deadline:
        raise DeadlineExceeded("The image was not decoded in time: try again later, or allow more time.")
    result = work(*arguments)
    return time.monotonic() - started, result


def _open_and_prepare(
    prepare: Callable[[EncodedImage], tuple[UInt8Array, Any]], data: bytes, max_pixels: int
) -> tuple[UInt8Array, Any]:
    return prepare(EncodedImage.open(data, max_pixels))
