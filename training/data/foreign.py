"""Out-of-distribution data, on which the score of a model is measured: other files, and synthetic data."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.errors import QuartetError
from service.tasks.images import EncodedImage, UInt8Array, fit
from service.tasks.text.reading import UNKNOWN
from training.data.dataset import DataError, Inspection
from training.data.image_sources import open_images
from training.data.inspection import Problems

Array = npt.NDArray[Any]
MOST = 1000
_CROPS = "crops:"


def named(options: Sequence[str]) -> dict[str, str]:
    """The sources of `NAME=DATA` options by their names; raises ValueError if one has no name."""
    pairs = [option.partition("=") for option in options]
    for pair in pairs:
        if not all(pair):
            raise ValueError(f"--foreign {''.join(pair)}: give NAME=DATA")
    return {name: source for name, _, source in pairs}


def made_up_images(shape: tuple[int, int, int], count: int = MOST) -> dict[str, UInt8Array]:
    """Noise and smooth colours, uint8, each of shape (count, height, width, channels)."""
    height, width, channels = shape
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    coarse = [
        Image.fromarray(each.squeeze()) for each in random.integers(0, 256, (count, 3, 3, channels), dtype=np.uint8)
    ]
    smooth = [np.asarray(each.resize((width, height), Image.Resampling.BICUBIC)) for each in coarse]
    return {"noise": noise, "smooth colours": np.stack(smooth).reshape(count, *shape)}


def read_images(
    source: str,
    shape: tuple[int, int, int],
    most: int = MOST,
    place: Callable[[UInt8Array, int, int], UInt8Array] = fit,
) -> UInt8Array:
    """Readable images of any source as the model's input, uint8, shape (n, height, width, channels).

    After `crops:`, squares of a quarter to all of the short side are cut out of each image. `place` sets the size.
    Raises DataError if there is no image.
    """
    height, width, channels = shape
    cut = source.startswith(_CROPS)
    random = np.random.default_rng(0)
    images: list[UInt8Array] = []
    _, splits = open_images(source.removeprefix(_CROPS), Inspection(), Problems(), labelled=False)
    for items in splits.values():
        for index in random.permutation(items.indices)[:most]:
            with contextlib.suppress(QuartetError, OSError):
                image = EncodedImage.open(items.files.read(int(index)))
                pixels = image.decode(channels) if cut else image.decode(channels, 2 * height, 2 * width)
                images += [place(part, height, width) for part in (_squares(pixels, random) if cut else (pixels,))]
    if not images:
        raise DataError(f"{source}: holds no image that can be read.")
    return np.stack([images[index] for index in random.permutation(len(images))[:most]])


def _squares(pixels: UInt8Array, random: np.random.Generator) -> Iterator[UInt8Array]:
    short = min(pixels.shape[:2])
    for _ in range(4):
        side = int(random.integers(short // 4, short + 1))
        top, left = (int(random.integers(0, length - side + 1)) for length in pixels.shape[:2])
        yield pixels[top : top + side, left : left + side]


def made_up_texts(words: int, texts: Sequence[Array]) -> dict[str, list[Array]]:
    """Texts as long as others, of random words among `words` (padding and unknown included) and of unknown words."""
    random = np.random.default_rng(0)
    lengths = [len(ids) for ids in texts[:MOST]]
    return {
        "random words": [random.integers(UNKNOWN + 1, words, length) for length in lengths],
        "unknown words alone": [np.full(length, UNKNOWN, np.int64) for length in lengths],
    }


def read_lines(source: str) -> list[str]:
    """The lines of a text file that hold something, up to `MOST`; raises DataError if there is none."""
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: cannot be read as text: {error}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{source}: holds no text.")
    return lines[:MOST]


def made_up_rows(rows: Array, deviations: Mapping[int, float]) -> dict[str, Array]:
    """Rows with shifted, mixed and reordered columns, as `rows`; `deviations` are standard deviations by column."""
    random = np.random.default_rng(0)
    shifted = rows.copy()
    for column, deviation in deviations.items():
        shifted[:, column] += deviation * random.choice(np.array([-1, 1], np.float32), len(rows))
    return {
        "every number a standard deviation up or down": shifted,
        "values of different rows mixed": np.stack([random.permutation(column) for column in rows.T], axis=1),
        "columns in another order": rows[:, random.permutation(rows.shape[1])],
    }
