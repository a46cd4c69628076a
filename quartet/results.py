"""The answers for a list of items: all at once, or as they arrive."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from quartet import display
from quartet.background import run
from quartet.errors import QuartetError

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")
_SHOWN = 50


class Results(list[T]):
    """A list with an answer for each item, in the order of the items; a notebook shows it as a table.

    Args:
        answers: for each item.
        index: of the pandas object that the items came from, which `to_pandas` repeats.

    With `errors="return"` an item that failed has its error as the answer.
    """

    def __init__(self, answers: Iterable[T] = (), index: Any = None) -> None:
        super().__init__(answers)
        self._index = index

    @property
    def errors(self) -> dict[int, QuartetError]:
        """The failures, by the position of the item."""
        return {position: each for position, each in enumerate(self) if isinstance(each, QuartetError)}

    def rows(self, most: int | None = None) -> list[dict[str, Any]]:
        """The answers as rows of a table, each with the `item` that it is about.

        Args:
            most: how many items are put into it at most.
        """
        labels = range(len(self)) if self._index is None else self._index
        return [{"item": label, **row} for label, each in zip(labels, self[:most], strict=False) for row in _rows(each)]

    def to_pandas(self) -> "pandas.DataFrame":
        """A frame with a row for each answer, or for each object that was found; pandas must be installed.

        Its index is that of the frame or series that the items came from, or else the position of the item.
        """
        import pandas

        rows = self.rows()
        frame = pandas.DataFrame(rows) if rows else pandas.DataFrame({"item": []})
        return frame.set_index("item")

    def _repr_html_(self) -> str:
        return display.table(self.rows(_SHOWN), len(self))


class Stream(Generic[T], AsyncIterator[T], Iterator[T]):
    """The answers for the items of a long list, in order, as they arrive.

    A stream of an `AsyncClient` is iterated with `async for`, one of a `Client` with `for`. A stream that is not read
    to its end is closed by `aclose` or `close`, by the end of a `with` block, or when it is garbage-collected.
    """

    def __init__(self, answers: AsyncGenerator[T, None]) -> None:
        self._answers = answers
        self._blocking = False

    def block(self) -> Self:
        """The stream, to be iterated with `for`."""
        self._blocking = True
        return self

    async def __anext__(self) -> T:
        if self._blocking:
            raise TypeError("the stream of a Client is iterated with `for`")
        return await anext(self._answers)

    async def aclose(self) -> None:
        """Ends the requests."""
        await self._answers.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __next__(self) -> T:
        if not self._blocking:
            raise TypeError("the stream of an AsyncClient is iterated with `async for`")
        try:
            return run(self._next())
        except StopAsyncIteration:
            raise StopIteration from None

    async def _next(self) -> T:
        return await anext(self._answers)

    def close(self) -> None:
        """Ends the requests."""
        run(self.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, QuartetError):
        return [{"name": answer.name, "error": str(answer)}]
    rows: list[dict[str, Any]] = answer.rows()
    return rows
