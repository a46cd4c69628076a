"""Lists of any length: carried in requests of bounded size, several at a time, in order; a bad item fails alone."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any, Generic, Literal, TypeVar

from quartet.errors import BodyTooLargeError, InvalidItemError, ProblemError, QuartetError
from quartet.inputs import Prepare, Prepared

T = TypeVar("T")
Errors = Literal["raise", "return"]
# Bytes of a request; a server takes 64 MB of one, and 192 of all, by default.
_MOST_BYTES = 8_000_000
# Seconds that a list takes before a progress bar appears unasked.
_DELAY = 1.0

_Chunk = list[tuple[int, Prepared]]


class Carrier(Generic[T]):
    """Carries the items of a call.

    Args:
        prepare: makes an item ready; raises `InvalidItemError`.
        ask: sends some items in a request, and gives an answer for each.
        most: how many items a request may hold.
        concurrency: how many requests are under way at a time.
        errors: what becomes of an item that fails: `raise` ends the call, `return` puts the error in its place.
        progress: whether a bar is shown; None where somebody is watching and it takes longer.
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
        self._answers: dict[int, T | QuartetError] = {}
        self._bar: Any = None

    async def carry(self, items: Iterable[Any], total: int | None) -> list[Any]:
        """The answers for all items, in order.

        Args:
            items: taken and prepared as they are needed, in a thread.
            total: how many there are, if that is known.

        Raises:
            QuartetError: an item failed, or the whole call; `results` has what was answered before.
        """
        chunks, turn = self._chunks(items), asyncio.Lock()

        async def work() -> None:
            while True:
                async with turn:
                    chunk = await asyncio.to_thread(next, chunks, None)
                if chunk is None:
                    return
                await self._settle(chunk)

        self._bar = progress_bar(self._progress, total, "items")
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(work())
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
            if isinstance(failure, QuartetError) and self._answers:
                failure.results = [self._answers.get(position) for position in range(max(self._answers) + 1)]
            raise failure from failure.__cause__
        finally:
            self._bar.close()
        return [self._answers[position] for position in range(len(self._answers))]

    def _chunks(self, items: Iterable[Any]) -> Generator[_Chunk, None, None]:
        """The items, prepared, in groups that fit into a request."""
        chunk: _Chunk = []
        size = 0
        for position, item in enumerate(items):
            try:
                prepared = self._prepare(item)
            except InvalidItemError as error:
                self._fail(position, error, error.name)
                continue
            if chunk and (len(chunk) == self._most or size + prepared.size > _MOST_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append((position, prepared))
            size += prepared.size
        if chunk:
            yield chunk

    async def _settle(self, chunk: _Chunk) -> None:
        """Gets an answer for each item; one that the server refuses is taken out, and the others are sent again."""
        while chunk:
            try:
                answers = await self._ask([item for _, item in chunk])
            except ProblemError as problem:
                if problem.index is not None and problem.index < len(chunk):
                    position, item = chunk.pop(problem.index)
                    self._fail(position, problem, item.label)
                elif isinstance(problem, BodyTooLargeError) and len(chunk) > 1:
                    half = len(chunk) // 2
                    await self._settle(chunk[:half])
                    chunk = chunk[half:]
                elif isinstance(problem, BodyTooLargeError):
                    ((position, item),) = chunk
                    self._fail(position, problem, item.label)
                    return
                else:
                    raise
            else:
                for (position, _), answer in zip(chunk, answers, strict=True):
                    self._answers[position] = answer
                self._bar.update(len(chunk))
                return

    def _fail(self, position: int, error: QuartetError, name: str | None) -> None:
        error.index, error.name = position, name
        if self._raises:
            raise error
        self._answers[position] = error
        self._bar.update(1)


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
