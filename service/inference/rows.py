"""Items that lie side by side in arrays, so that a batch of them needs no copy."""

from collections.abc import Iterator, Sequence
from typing import Any

from service.inference.shapes import Array


class Rows(Sequence[Any]):
    """The items of a call as rows of its arrays: a row, or a tuple of one per array. A slice has views of the arrays.

    Attributes:
        arrays: one per input of the graph; the first axis of each is the item.
    """

    __slots__ = ("arrays",)

    def __init__(self, arrays: tuple[Array, ...]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Rows(tuple(array[index] for array in self.arrays))
        return tuple(array[index] for array in self.arrays) if len(self.arrays) > 1 else self.arrays[0][index]

    def __iter__(self) -> Iterator[Any]:
        return zip(*self.arrays, strict=True) if len(self.arrays) > 1 else iter(self.arrays[0])
