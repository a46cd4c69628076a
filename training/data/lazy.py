"""Images of a split: in memory, or decoded when they are asked for if they are too many."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Decode = Callable[[int], Pixels]

# Of one data set, decoded; larger ones stay on disk.
IN_MEMORY = 2 << 30
# Images that are decoded before any of them is used.
_AHEAD = 256


class LazyImages:
    """Images that are decoded when they are asked for, with as much of an array's interface as training needs.

    Args:
        decode: gives the image at a position of the source, uint8, `shape[1:]`; from several threads at once.
        indices: the positions of these images.
        shape: of one image.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, decode: Decode, indices: npt.NDArray[np.int64], shape: tuple[int, ...]) -> None:
        self._decode = decode
        self._indices = indices
        self.shape = (len(indices), *shape)
        self.size = int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: Any) -> Pixels:
        """An image, or those of a slice or of an array of indices, in memory."""
        chosen = self._indices[key]
        if chosen.ndim == 0:
            return self._decode(int(chosen))
        images = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)
        for row, pixels in enumerate(decode_all(self._decode, chosen)):
            images[row] = pixels
        return images

    def __iter__(self) -> Iterator[Pixels]:
        return decode_all(self._decode, self._indices)

    def select(self, indices: npt.NDArray[np.int64]) -> "LazyImages":
        """The images at `indices`, still not decoded."""
        return LazyImages(self._decode, self._indices[indices], self.shape[1:])


Images = Pixels | LazyImages


def select(images: Images, indices: npt.NDArray[np.int64]) -> Images:
    """The images at `indices`, in that order, in memory only if they are already."""
    return images.select(indices) if isinstance(images, LazyImages) else images[indices]


def cycled(items: Any, count: int) -> Any:
    """The first `count` items of an array or of `LazyImages`, in memory; from the start again where there are fewer."""
    return items[np.arange(count) % len(items)]


def batch_of(images: Images, items: Tensor) -> Tensor:
    """The images of a batch, uint8, shape (batch, height, width, channels)."""
    if isinstance(images, LazyImages):
        return torch.from_numpy(images[items.cpu().numpy()])
    return torch.from_numpy(images)[items]


def decode_all(decode: Callable[[int], Any], indices: Sequence[int] | npt.NDArray[np.int64]) -> Iterator[Any]:
    """The results of `decode` in order, worked out by several threads a little ahead."""
    pool = _pool()
    for start in range(0, len(indices), _AHEAD):
        yield from pool.map(decode, [int(index) for index in indices[start : start + _AHEAD]])


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
