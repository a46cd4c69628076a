"""The way of a request's images through a model: decoded as they come, while what came before runs."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from service.api.decoding import Decoder, Result
from service.api.exchange import Exchange
from service.api.metrics import Metrics
from service.api.patience import Patience
from service.api.uploads import Upload
from service.errors import DeadlineExceeded, InferenceFailed, Overloaded, QuartetError
from service.inference.queue import Group
from service.inference.repository import Model
from service.tasks.images import EncodedImage, UInt8Array

# Up to here decoding takes less than a millisecond or so, which the event loop can spare; a thread would cost more.
_INLINE_PIXELS = 320 * 320
# And only of so few bytes: what is hidden in an image costs by its length.
_INLINE_BYTES = 1 << 16
# What takes longer is given up if the client has hung up meanwhile.
_LONG_SECONDS = 0.05
# Images decoded inline before the event loop gets to serve others.
_BREATH = 8
# Two parts of a long request in flight keep the model busy without filling the queue or memory.
_PARTS_IN_FLIGHT = 2

# From an image to what the model takes, and what its answer has to be read with.
Prepare = Callable[[EncodedImage], tuple[UInt8Array, Any]]


@dataclass(slots=True)
class Progress:
    """Seconds spent so far: decoding (all items), and the longest wait and run of a batch."""

    decode: float = 0.0
    queue: float = 0.0
    inference: float = 0.0

    def header(self) -> bytes:
        """The value of a Server-Timing header (W3C), in milliseconds."""
        milliseconds = (1000 * self.decode, 1000 * self.queue, 1000 * self.inference)
        return b"decode;dur=%.3f, queue;dur=%.3f, inference;dur=%.3f" % milliseconds


class ImagePipeline:
    """Decodes and runs images for one application.

    Args:
        pool: decodes the large ones.
        threads: of the pool.
        metrics: is told of decoding times.
    """

    def __init__(self, pool: Executor, threads: int, metrics: Metrics) -> None:
        self._pool = pool
        self._decoder = Decoder(pool, threads)
        # Resolving a metric's labels costs more than observing.
        self._decode_seconds = lru_cache(maxsize=256)(metrics.decode.labels)

    async def run(
        self, exchange: Exchange, model: Model, prepare: Prepare, uploads: list[Upload]
    ) -> tuple[list[Any], list[Any], Progress]:
        """The model's outputs for every upload, in order; with them, what `prepare` said to read them with.

        Raises:
            QuartetError: an image cannot be decoded or run; `index` tells which.
        """
        progress = Progress()
        notes: list[Any] = []
        part = partial(self._decode, exchange, model, prepare, uploads, notes, progress)
        return await self._through(exchange, model, len(uploads), part, progress), notes, progress

    async def run_prepared(self, exchange: Exchange, model: Model, items: list[Any]) -> tuple[list[Any], Progress]:
        """The model's outputs for items that need no decoding, in order.

        Raises:
            QuartetError: an item cannot be run; `index` tells which.
        """
        progress = Progress()

        async def part(start: int) -> list[Any]:
            return items[start : start + model.max_batch]

        return await self._through(exchange, model, len(items), part, progress), progress

    async def _through(
        self,
        exchange: Exchange,
        model: Model,
        count: int,
        part: Callable[[int], Awaitable[list[Any]]],
        progress: Progress,
    ) -> list[Any]:
        """The model's outputs for so many items, in order; `part` gives a batch's worth from a place on."""
        results: list[Any] = []
        pending: deque[tuple[int, Group]] = deque()
        timeout = exchange.settings.timeout
        patience = Patience(timeout)
        model.batcher.admit(min(count, model.max_batch), timeout)
        try:
            for start in range(0, count, model.max_batch):
                items = await part(start)
                while True:
                    try:
                        group = model.batcher.enqueue(items, timeout=timeout, on_wait=exchange.watch)
                        break
                    except Overloaded as refusal:
                        if start == 0:
                            raise
                        if pending:
                            results += await self._finish(pending, progress)
                        else:
                            exchange.check_client()
                            await patience.wait(refusal)
                patience.rewarded()
                pending.append((start, group))
                if len(pending) == _PARTS_IN_FLIGHT:
                    results += await self._finish(pending, progress)
            while pending:
                results += await self._finish(pending, progress)
        finally:
            for _, group in pending:
                group.future.cancel()
        return results

    async def in_pool(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Runs what takes milliseconds where it does not hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def _decode(
        self,
        exchange: Exchange,
        model: Model,
        prepare: Prepare,
        uploads: list[Upload],
        notes: list[Any],
        progress: Progress,
        start: int,
    ) -> list[UInt8Array]:
        """The pixels of the uploads that the next batch takes, from `start` on; what goes with them, into `notes`."""
        observe = self._decode_seconds(model.name).observe
        items: list[UInt8Array] = []
        begun, timeout, most = time.perf_counter(), exchange.settings.timeout, exchange.settings.max_pixels
        if start == 0 and len(uploads[0].data) > _INLINE_BYTES:
            self._decoder.admit(timeout)
        for index in range(start, min(start + model.max_batch, len(uploads))):
            started = time.perf_counter()
            try:
                data = uploads[index].data
                if len(data) > _INLINE_BYTES:
                    pixels, note = await self._decoder.run(exchange, _open_and_prepare, prepare, data, most)
                elif (image := EncodedImage.open(data, most)).width * image.height > _INLINE_PIXELS:
                    pixels, note = await self._decoder.run(exchange, prepare, image)
                else:
                    pixels, note = prepare(image)
                items.append(pixels)
                notes.append(note)
            except QuartetError as error:
                error.index = index
                raise
            now = time.perf_counter()
            observe(now - started)
            progress.decode += now - started
            if now - begun > timeout:
                raise DeadlineExceeded(f"Decoding took longer than {timeout:g} s: send fewer or smaller images.")
            if now - begun > _LONG_SECONDS:
                exchange.check_client()
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
        return items

    @staticmethod
    async def _finish(pending: deque[tuple[int, Group]], progress: Progress) -> list[Any]:
        """The results of the part that has waited longest."""
        start, group = pending[0]
        try:
            results = await group.future
        except InferenceFailed as error:
            error.index = start + (error.index or 0)
            raise
        pending.popleft()
        progress.queue = max(progress.queue, group.timing.queue)
        progress.inference = max(progress.inference, group.timing.inference)
        return results


def _open_and_prepare(prepare: Prepare, data: bytes, max_pixels: int) -> tuple[UInt8Array, Any]:
    return prepare(EncodedImage.open(data, max_pixels))
