"""Images to codes and back: what an autoencoder and its parts are given and what they give."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRequest
from service.inference.cards import ImageInput
from service.inference.manifests.coding import DecoderManifest
from service.tasks.images import EncodedImage, UInt8Array, fit

_LARGEST = float(np.finfo(np.float32).max)

Invert = Literal["auto", "never", "always"]


class Seen(NamedTuple):
    """A picture as the model is shown it: its pixels, and whether light and dark were turned round."""

    pixels: UInt8Array
    inverted: bool


def prepare(image: EncodedImage, card: ImageInput, invert: Invert) -> tuple[UInt8Array, Seen]:
    """The pixels that the model takes, shape (height, width, channels), and what an answer says of them.

    Args:
        image: any picture.
        card: what the model takes.
        invert: `auto` turns light and dark round where the picture's edges are nearer to the inverse of the training
            images' background than to it, as a digit on white paper is for a model of white digits on black.
    """
    pixels = fit(image.decode(card.channels, 2 * card.height, 2 * card.width), card.height, card.width)
    inverted = invert == "always" or (invert == "auto" and is_inverse(pixels, card.background))
    if inverted:
        pixels = 255 - pixels
    return pixels, Seen(pixels, inverted)


def is_inverse(pixels: UInt8Array, background: float | None) -> bool:
    """Whether a picture's edges are nearer to the inverse of a background; never where there is none."""
    if background is None:
        return False
    edges = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    # The median: a stroke that leaves the picture is not its paper.
    edge = float(np.median(edges)) / 255
    return abs(edge - (1 - background)) < abs(edge - background)


def to_latents(rows: object, manifest: DecoderManifest) -> npt.NDArray[np.float32]:
    """Latents as they were sent, shape (n, latent).

    Raises:
        InvalidRequest: not a list of lists of so many finite numbers; `index` tells which.
    """
    if not isinstance(rows, list) or not rows:
        raise InvalidRequest('The JSON must be {"latents": [[…], …]} with at least one list of numbers.')
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != manifest.latent:
            found = f"{len(row)} numbers" if isinstance(row, list) else type(row).__name__
            raise InvalidRequest(f"Each code must be a list of {manifest.latent} numbers, not {found}.", index=index)
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in row):
            raise InvalidRequest("A code must hold numbers alone.", index=index)
        # Compared as they are: JSON may hold integers that are no float of any kind. A NaN is not less either.
        if not all(abs(value) <= _LARGEST for value in row):
            raise InvalidRequest("A code must hold finite numbers (of float32).", index=index)
    return np.array(rows, dtype=np.float32)
