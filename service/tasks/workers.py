"""Threads for what the event loop cannot spare the time for: decoding what is sent, encoding what is answered."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from service.errors import Abandoned, DeadlineExceeded, Overloaded, QuartetError
from service.inference.context import Context
from service.tasks.images import EncodedImage, NotPlain, UInt8Array
from service.tasks.pauses import Pauses

Result = TypeVar("Result")

# From an image to what the model takes, and whatever its results have to be read with.
Prepare = Callable[[EncodedImage], tuple[UInt8Array, Any]]

# A plain JPEG of up to this size is decoded on the event loop: that takes a millisecond at most, and handing it to a
# thread would cost a lone client more. All other files are opened and decoded on threads.
_INLINE_PIXELS = 320 * 320
_INLINE_BYTES = 1 << 16
# So many images are decoded on the event loop; more go to a thread together.
_FEW = 2
# What one call decodes on a thread before others get their turn.
_SMALL_PIXELS = 320 * 320
_SMALL_BYTES = 1 << 16
# From here on an image takes tens of milliseconds, and up to seconds.
_LARGE_PIXELS = 4_000_000


class _Pool:
    """Threads that decode, and how long the wait for them is."""

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self.waiting = 0
        self.seconds = 0.0  # that an image takes, over about the last ten

    @property
    def wait(self) -> float:
        """Seconds until an image that is added now would be begun."""
        return self.waiting * self.seconds / self.threads

    async def run(self, context: Context, work: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
        """The result of `work` and the seconds of a core it took, unless the call is over when a thread is free."""
        context.check()
        if self.waiting >= self.threads:
            context.slow()
        self.waiting += 1
        try:
            seconds, busy, result = await asyncio.get_running_loop().run_in_executor(
                self.executor, _timed, context, work, arguments
            )
        finally:
            self.waiting -= 1
        self.seconds += (seconds - self.seconds) * (0.1 if self.seconds else 1.0)
        return busy, result


class Workers:
    """The threads of one application.

    Decoding small images, decoding large ones, and everything else have threads of their own, so that nobody waits
    behind a stranger's photographs of fifty megapixels. A call has one image at a time on them, so each gets its turn.

    Args:
        threads: of each kind; half of them, at least one, for large images.
    """

    def __init__(self, threads: int) -> None:
        self._small = _Pool(threads, "decode")
        self._large = _Pool(max(1, threads // 2), "decode-large")
        self._others = ThreadPoolExecutor(threads, thread_name_prefix="encode")

    def close(self) -> None:
        """Ends the threads; what they have not begun is not done."""
        for executor in (self._small.executor, self._large.executor, self._others):
            executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `work`, run on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._others, work, *arguments)

    async def prepare(
        self,
        images: Sequence[bytes],
        prepare: Prepare,
        max_pixels: int,
        context: Context,
        observe: Callable[[float, float], None],
        first: int = 0,
    ) -> tuple[list[UInt8Array], list[Any]]:
        """What `prepare` gives for each of some images, which are decoded one after the other.

        Args:
            images: encoded.
            prepare: decodes one whose header has been read.
            max_pixels: that an image may declare.
            context: of the call.
            observe: is told of the seconds that each image took, and of those for which a core was busy with it.
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
        if len(images) > _FEW:
            # Each is quickly done, but all of them would keep the event loop from others.
            busy, done = await self._small.run(context, _prepare_small, images, prepare, max_pixels, first)
            for pixels, note, seconds in done:
                items.append(pixels)
                notes.append(note)
                context.decode_seconds += seconds
                observe(seconds, busy / len(done))
        pauses = Pauses(context)
        for index, data in enumerate(images[len(items) :], first + len(items)):
            started = time.perf_counter()
            busy = 0.0
            try:
                prepared = _prepare_inline(data, prepare, max_pixels)
                if prepared is None:
                    busy, prepared = await self._prepare(data, prepare, max_pixels, context, may_refuse=index == 0)
                pixels, note = prepared
            except QuartetError as error:
                error.index = index
                raise
            items.append(pixels)
            notes.append(note)
            now = time.perf_counter()
            context.decode_seconds += now - started
            observe(now - started, busy or now - started)
            if pauses.due:
                await pauses.take()
        return items, notes

    async def _prepare(
        self, data: bytes, prepare: Prepare, max_pixels: int, context: Context, *, may_refuse: bool
    ) -> tuple[float, tuple[UInt8Array, Any]]:
        """The seconds of a core that an image took on threads, and what `prepare` gave for it."""
        if may_refuse:
            _admit(self._small, context)
        busy, done = await self._small.run(context, _open_and_prepare, data, prepare, max_pixels)
        if not isinstance(done, EncodedImage):
            return busy, done
        if may_refuse:
            _admit(self._large, context)
        return await self._large.run(context, prepare, done)


def _prepare_inline(data: bytes, prepare: Prepare, max_pixels: int) -> tuple[UInt8Array, Any] | None:
    """What `prepare` gives for an image that the event loop can spare the time for; None for any other."""
    if len(data) > _INLINE_BYTES:
        return None
    image = EncodedImage.open_plain(data, min(max_pixels, _INLINE_PIXELS))
    if image is None:
        return None
    try:
        return prepare(image)
    except NotPlain:
        return None


def _open_and_prepare(data: bytes, prepare: Prepare, max_pixels: int) -> tuple[UInt8Array, Any] | EncodedImage:
    """What `prepare` gives for an image; of a large one only the header is read."""
    image = EncodedImage.open(data, max_pixels)
    return image if image.width * image.height > _LARGE_PIXELS else prepare(image)


def _prepare_small(
    images: Sequence[bytes], prepare: Prepare, max_pixels: int, first: int
) -> list[tuple[UInt8Array, Any, float]]:
    """Pixels, note and seconds of each image, up to the first one that is not small."""
    done: list[tuple[UInt8Array, Any, float]] = []
    for index, data in enumerate(images, first):
        started = time.perf_counter()
        if len(data) > _SMALL_BYTES:
            break
        try:
            image = EncodedImage.open(data, max_pixels)
            if image.width * image.height > _SMALL_PIXELS:
                break
            pixels, note = prepare(image)
        except QuartetError as error:
            error.index = index
            raise
        done.append((pixels, note, time.perf_counter() - started))
    return done


def _admit(pool: _Pool, context: Context) -> None:
    """Refuses the first image of a call, at no loss, if it would not be decoded in time."""
    context.check()
    wait, left = pool.wait, context.deadline - time.monotonic()
    if wait > left:
        raise Overloaded(
            f"{pool.waiting} images wait to be decoded, which takes about {wait:.1f} s: try again later.",
            retry_after=wait - left,
        )


def _timed(context: Context, work: Callable[..., Result], arguments: tuple[Any, ...]) -> tuple[float, float, Result]:
    """The seconds that `work` took, those of a core, and its result."""
    if context.cancelled:
        raise Abandoned
    started = time.monotonic()
    if started > context.deadline:
        raise DeadlineExceeded("The image was not decoded in time: try again later, or allow more time.")
    busy = time.thread_time()
    result = work(*arguments)
    return time.monotonic() - started, time.thread_time() - busy, result
