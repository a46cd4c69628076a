"""Preparing images and latents for an autoencoder and its parts."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from service.faults import Faults, pointer
from service.tasks.cards import ImageInput
from service.tasks.images import EncodedImage, UInt8Array, fit

# The largest float32.
LARGEST = float(np.finfo(np.float32).max)

# Below this contrast between paper and ink (0 to 1) an image is blank; stretching would amplify noise.
_LEAST_CONTRAST = 0.15

Invert = Literal["auto", "never", "always"]


class Seen(NamedTuple):
    """The pixels that the model takes, and whether they were inverted."""

    pixels: UInt8Array
    inverted: bool


def prepare(image: EncodedImage, card: ImageInput, invert: Invert) -> tuple[UInt8Array, Seen]:
    """The pixels that the model takes, shape (height, width, channels), and what the answer needs of them.

    With `auto`, an image is inverted and its contrast stretched if its edges are nearer to the inverse of the training
    images' background than to the background itself: a digit on white paper, for a model of white digits on black.
    """
    pixels = fit(image.decode(card.channels, 2 * card.height, 2 * card.width), card.height, card.width)
    inverted = invert == "always"
    if inverted:
        pixels = 255 - pixels
    elif invert == "auto" and card.background is not None and is_inverse(pixels, card.background):
        inverted, pixels = True, on_background(255 - pixels, card.background)
    return pixels, Seen(pixels, inverted)


def is_inverse(pixels: UInt8Array, background: float) -> bool:
    """Whether an image's edges are nearer to the inverse of a background than to the background."""
    edge = _edge(pixels)
    return abs(edge - (1 - background)) < abs(edge - background)


def on_background(pixels: UInt8Array, background: float) -> UInt8Array:
    """Stretches the contrast: the edges become the background (0 to 1), the strongest ink the far end of the scale."""
    shares = pixels.astype(np.float32) / np.float32(255)
    edge = _edge(pixels)
    far, away = (1.0, shares - edge) if background < 0.5 else (0.0, edge - shares)
    strongest = float(away.max())
    if strongest < _LEAST_CONTRAST:
        return pixels
    stretched = background + (away / strongest).clip(0, 1) * (far - background)
    levels: UInt8Array = (stretched * 255 + 0.5).astype(np.uint8)
    return levels


def _edge(pixels: UInt8Array) -> float:
    """The median brightness of the edge pixels, 0 to 1; strokes that cross the edge do not change it."""
    edges = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    return float(np.median(edges)) / 255


def to_latents(rows: Sequence[Any], latent: int) -> list[npt.NDArray[np.float32]]:
    """Validates latents; each becomes an array of shape (latent,).

    Raises:
        InvalidRequest: some are no lists of `latent` finite numbers.
    """
    faults = Faults()
    for index, row in enumerate(rows):
        if wrong := _fault_of(row, latent):
            faults.add(wrong, pointer=pointer("latents", index), index=index)
    faults.check()
    return list(np.array(rows, dtype=np.float32))


def _fault_of(row: Any, latent: int) -> str | None:
    """What is wrong with the latents of an image; None if nothing is."""
    if not isinstance(row, list) or len(row) != latent:
        found = f"{len(row)} numbers" if isinstance(row, list) else type(row).__name__
        return f"Each code must be a list of {latent} numbers, not {found}."
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in row):
        return "A code must hold numbers alone."
    # Compared before conversion, since JSON integers may exceed any float. A NaN fails too.
    return None if all(abs(value) <= LARGEST for value in row) else "A code must hold finite numbers (of float32)."
