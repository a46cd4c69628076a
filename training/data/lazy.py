"""Images of a split: an array in memory, or decoded when a batch asks for them."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.inference.device import available_cpus

Pixels = npt.NDArray[np.uint8]

# Bytes of one data set, decoded; larger ones stay on disk.
IN_MEMORY = 2 << 30


class LazyImages:
    """Images that are decoded when they are indexed, with as much of an array's interface as training needs.

    `decode` returns one, uint8, of `shape`; threads call it at once, and it is pickled for the workers of a DataLoader.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, decode: Callable[[int], Pixels], indices: npt.NDArray[np.int64], shape: tuple[int, ...]) -> None:
        self.decode, self.indices = decode, indices
        self.shape = (len(indices), *shape)
        self.size = int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> Pixels:
        chosen = self.indices[key]
        if chosen.ndim == 0:
            return self.decode(int(chosen))
        images = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)
        for row, pixels in enumerate(decode_all(self.decode, chosen)):
            images[row] = pixels
        return images

    def __iter__(self) -> Iterator[Pixels]:
        return decode_all(self.decode, self.indices)


Images = Pixels | LazyImages


def select(images: Images, indices: npt.NDArray[np.int64]) -> Images:
    """The images at `indices`, in that order, in memory only if they are already."""
    if isinstance(images, LazyImages):
        return LazyImages(images.decode, images.indices[indices], images.shape[1:])
    return images[indices]


def extended(images: Images, more: Pixels) -> Images:
    """The images, and further ones after them, which stay in memory."""
    if not isinstance(images, LazyImages):
        return np.concatenate((images, more))
    first = int(images.indices.max(initial=-1)) + 1
    indices = np.concatenate((images.indices, np.arange(first, first + len(more))))
    return LazyImages(_Extended(images.decode, first, more), indices, images.shape[1:])


@dataclass(frozen=True, slots=True)
class _Extended:
    """Decodes images, and gives those from `first` on from memory; can be sent to other processes."""

    decode: Callable[[int], Pixels]
    first: int
    more: Pixels

    def __call__(self, index: int) -> Pixels:
        return self.decode(index) if index < self.first else self.more[index - self.first]


def cycled(items: Any, count: int) -> Any:
    """The first `count` items of an array or of `LazyImages`, in memory; from the start again where there are fewer."""
    return items[np.arange(count) % len(items)]


def decode_all(decode: Callable[[int], Any], indices: Sequence[int] | npt.NDArray[np.int64]) -> Iterator[Any]:
    """The results of `decode` in order, computed a little ahead by as many threads as compute."""
    if multiprocessing.current_process().daemon:  # a DataLoader's worker, one of several processes that decode
        yield from (decode(int(index)) for index in indices)
        return
    # The pool does not outlive the call, because threads do not survive a fork.
    with ThreadPoolExecutor(_threads(), thread_name_prefix="decode") as pool:
        for start in range(0, len(indices), 256):
            yield from pool.map(decode, [int(index) for index in indices[start : start + 256]])


def _threads() -> int:
    """As many as `training.engine.threads` sets for libraries, or else one for each CPU."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return int(stated) if stated.isdecimal() and int(stated) else available_cpus()
