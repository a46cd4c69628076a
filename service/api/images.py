"""The way of a request's images through a model: decoded as they come, while what came before runs."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from service.api.exchange import Exchange
from service.api.metrics import Metrics
from service.api.uploads import Upload
from service.errors import InferenceFailed, QuartetError
from service.inference.batcher import Group
from service.inference.repository import Model
from service.tasks.images import EncodedImage, UInt8Array

# Up to here decoding takes less than a millisecond or so, which the event loop can spare; a thread would cost more.
_INLINE_PIXELS = 320 * 320
# Two parts of a long request in flight keep the model busy without filling the queue or memory.
_PARTS_IN_FLIGHT = 2

Prepare = Callable[[EncodedImage], UInt8Array]


@dataclass(slots=True)
class Progress:
    """Seconds spent so far: decoding (all items), and the longest wait and run of a batch."""

    decode: float = 0.0
    queue: float = 0.0
    inference: float = 0.0

    def timings(self) -> dict[str, float]:
        """For the Server-Timing header."""
        return {"decode": self.decode, "queue": self.queue, "inference": self.inference}


@dataclass(slots=True)
class ImagePipeline:
    """Decodes and runs images for one application.

    Args:
        pool: decodes the large ones.
        metrics: is told of decoding times.
    """

    pool: Executor
    metrics: Metrics
    _decode_times: dict[str, Any] = field(default_factory=dict)

    async def run(
        self, exchange: Exchange, model: Model, prepare: Prepare, uploads: list[Upload]
    ) -> tuple[list[Any], Progress]:
        """The model's outputs for every upload, in order.

        Raises:
            QuartetError: an image cannot be decoded or run; `index` tells which.
        """
        progress = Progress()
        results: list[Any] = []
        pending: deque[tuple[int, Group]] = deque()
        try:
            async for start, items in self._parts(exchange, model, prepare, uploads, progress):
                group = model.batcher.enqueue(items, timeout=exchange.settings.timeout)
                pending.append((start, group))
                if len(pending) == _PARTS_IN_FLIGHT:
                    results += await self._finish(exchange, pending, progress)
            while pending:
                results += await self._finish(exchange, pending, progress)
        finally:
            for _, group in pending:
                group.future.cancel()
        return results, progress

    async def _parts(
        self, exchange: Exchange, model: Model, prepare: Prepare, uploads: list[Upload], progress: Progress
    ) -> AsyncIterator[tuple[int, list[UInt8Array]]]:
        observer = self._decode_times.get(model.name)
        if observer is None:
            observer = self._decode_times[model.name] = self.metrics.decode.labels(model.name)
        max_pixels = exchange.settings.max_pixels
        loop = asyncio.get_running_loop()
        numbered = enumerate(uploads)
        while part := list(itertools.islice(numbered, model.max_batch)):
            items: list[UInt8Array] = []
            for index, upload in part:
                started = time.perf_counter()
                try:
                    image = EncodedImage.open(upload.data, max_pixels)
                    if image.width * image.height <= _INLINE_PIXELS:
                        items.append(prepare(image))
                    else:
                        items.append(await loop.run_in_executor(self.pool, prepare, image))
                except QuartetError as error:
                    error.index = index
                    raise
                seconds = time.perf_counter() - started
                observer.observe(seconds)
                progress.decode += seconds
            yield part[0][0], items

    @staticmethod
    async def _finish(exchange: Exchange, pending: deque[tuple[int, Group]], progress: Progress) -> list[Any]:
        start, group = pending[0]
        try:
            results: list[Any] = await exchange.wait(group.future)
        except InferenceFailed as error:
            error.index = start + (error.index or 0)
            raise
        pending.popleft()
        progress.queue = max(progress.queue, group.timing.queue)
        progress.inference = max(progress.inference, group.timing.inference)
        return results
