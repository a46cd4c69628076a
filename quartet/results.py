"""The answers for a list of items."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from quartet import display
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

    With `errors="return"` the place of an item that failed holds its error.
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


def _rows(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, QuartetError):
        return [{"name": answer.name, "error": str(answer)}]
    rows: list[dict[str, Any]] = answer.rows()
    return rows
