"""Lists of any length: carried in requests of bounded size, several at a time, in order; a bad item fails alone."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Generic, Literal, TypeVar

from quartet.errors import BodyTooLargeError, InvalidItemError, ProblemError, QuartetError
from quartet.inputs import Prepare, Prepared

T = TypeVar("T")
Errors = Literal["raise", "return"]
# Bytes of a request; a server takes 64 MB of one, and 192 of all, by default.
_MOST_BYTES = 8_000_000
# Seconds that a list takes before a progress bar appears unasked.
_DELAY = 1.0

_Chunk = list[tuple[int, Prepared | QuartetError]]


class Carrier(Generic[T]):
    """Carries the items of a call.

    Args:
        prepare: makes an item ready; raises `InvalidItemError`.
        ask: sends some items in a request, and returns an answer for each.
        most: how many items a request may hold.
        concurrency: the most requests at a time.
        errors: `raise` ends the call at an item that fails; `return` puts the error in the position of its answer.
        progress: whether a bar is shown; None for one that appears after a second on a terminal or in a notebook.
    """

    def __init__(
        self,
        prepare: Prepare,
        ask: Callable[[Sequence[Prepared]], Awaitable[Sequence[T]]],
        *,
        most: int,
        concurrency: int,
        errors: Errors,
        progress: bool | None,
    ) -> None:
        if errors not in ("raise", "return"):
            raise ValueError(f"errors={errors!r}: must be 'raise' or 'return'")
        self._prepare = prepare
        self._ask = ask
        self._most = most
        self._concurrency = concurrency
        self._raises = errors == "raise"
        self._progress = progress

    async def carry(self, items: Iterable[Any], total: int | None) -> list[T | QuartetError]:
        """The answers for all items, in order; see `stream`."""
        answers: list[T | QuartetError] = []
        try:
            async with aclosing(self.stream(items, total)) as stream:
                async for answer in stream:
                    answers.append(answer)  # noqa: PERF401 - kept if an item fails
        except QuartetError as error:
            error.results = answers or None
            raise
        return answers

    async def stream(self, items: Iterable[Any], total: int | None) -> AsyncGenerator[T | QuartetError, None]:
        """Yields the answers in the order of the items.

        Items are taken and prepared in a thread, and at most two requests for each of `concurrency` are ahead of the
        answer that is yielded.

        Args:
            items: of any number.
            total: how many there are, if that is known.

        Raises:
            QuartetError: an item failed, or the whole call.
        """
        requests: asyncio.Queue[asyncio.Future[list[T | QuartetError] | None]] = asyncio.Queue(2 * self._concurrency)
        slots = asyncio.Semaphore(self._concurrency)
        started: set[asyncio.Future[Any]] = set()

        async def settle(chunk: _Chunk) -> list[T | QuartetError]:
            async with slots:
                return await self._settle(chunk)

        async def send() -> None:
            chunks = self._chunks(items)
            while True:
                chunk: _Chunk | None = None
                end = asyncio.get_running_loop().create_future()
                try:
                    chunk = await asyncio.to_thread(next, chunks, None)
                    end.set_result(None)
                except Exception as error:
                    end.set_exception(error)
                request = asyncio.create_task(settle(chunk)) if chunk else end
                started.add(request)
                await requests.put(request)
                if not chunk:
                    return

        bar = progress_bar(self._progress, total, "items")
        sender = asyncio.create_task(send())
        try:
            while True:
                request = await requests.get()
                answers = await request
                started.discard(request)
                if answers is None:
                    return
                for answer in answers:
                    yield answer
                    bar.update(1)
        finally:
            for task in (sender, *started):
                task.cancel()
            await asyncio.gather(sender, *started, return_exceptions=True)
            bar.close()

    def _chunks(self, items: Iterable[Any]) -> Generator[_Chunk, None, None]:
        """The items, prepared, in groups that fit into a request; an invalid item is an error."""
        chunk: _Chunk = []
        size = 0
        for position, item in enumerate(items):
            try:
                prepared = self._prepare(item)
                entry: Prepared | QuartetError = prepared
                needed = prepared.size
            except InvalidItemError as error:
                error.index = position
                if self._raises:
                    if chunk:
                        yield chunk
                    raise
                entry, needed = error, 0
            if chunk and (len(chunk) == self._most or size + needed > _MOST_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append((position, entry))
            size += needed
        if chunk:
            yield chunk

    async def _settle(self, chunk: _Chunk) -> list[T | QuartetError]:
        """The answer for each item; one that the server refuses is taken out, and the others are sent again."""
        outcomes: dict[int, T | QuartetError] = {
            position: item for position, item in chunk if isinstance(item, QuartetError)
        }
        await self._send([(position, item) for position, item in chunk if isinstance(item, Prepared)], outcomes)
        return [outcomes[position] for position, _ in chunk]

    async def _send(self, items: list[tuple[int, Prepared]], outcomes: dict[int, T | QuartetError]) -> None:
        while items:
            try:
                answers = await self._ask([item for _, item in items])
            except ProblemError as problem:
                if isinstance(problem, BodyTooLargeError) and problem.index is None and len(items) > 1:
                    half = len(items) // 2
                    await self._send(items[:half], outcomes)
                    items = items[half:]
                    continue
                index = 0 if isinstance(problem, BodyTooLargeError) and len(items) == 1 else problem.index
                if index is None or index >= len(items):
                    raise
                position, item = items.pop(index)
                problem.index, problem.name = position, item.label
                if self._raises:
                    raise
                outcomes[position] = problem
            else:
                outcomes.update(zip((position for position, _ in items), answers, strict=True))
                return


def progress_bar(wanted: bool | None, total: int | None, unit: str, **options: Any) -> Any:
    """A bar of tqdm, in a notebook too.

    Args:
        wanted: whether it is shown; None for a bar that appears after a second, where somebody is watching.
        total: how many there will be, if that is known.
        unit: of what is counted.
        options: further ones, of tqdm.
    """
    watched = sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    if wanted is False or (wanted is None and not watched):
        return _NoBar()
    from tqdm.auto import tqdm  # late: most programs never need it

    return tqdm(total=total, unit=f" {unit}", delay=0 if wanted else _DELAY, **options)


class _NoBar:
    """A bar that shows nothing."""

    def update(self, count: int) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
