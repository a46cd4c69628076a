"""Whether two versions of an autoencoder or of one of its parts agree: images or latents that are close."""

from typing import Any

import numpy as np

from service.tasks.agreement import Incomparable, require_equal, root_mean_square, unlabelled_outcome
from service.tasks.autoencoder.manifest import AutoencoderManifest, DecoderManifest, EncoderManifest, ImageCodeManifest
from service.tasks.autoencoder.results import decoded, encoded, restored
from service.tasks.base import Agreement, Comparison, Measure, Row

# Latents agree if they differ by less than this share of their spread. No manifest states how far they may differ.
_LATENTS = 0.1


def between_images(default: ImageCodeManifest, candidate: ImageCodeManifest) -> Measure:
    """See `service.tasks.base.Agreement`, for an autoencoder or a decoder.

    Two images agree if they are no further apart than the default's restored images typically are from the originals,
    the mean squared error of its test split.
    """
    _require_same_images(default, candidate)
    accepted = max(default.metrics.mse**0.5, default.golden.atol / 255)

    def compare(ours: Row, theirs: Row) -> Comparison:
        distance = root_mean_square(ours[0].astype(np.float32) - theirs[0]) / 255
        return Comparison(distance <= accepted, distance)

    return Measure(
        f"images no further apart than restored ones are from their originals, {accepted:.4f}; the difference is the "
        "root of the mean squared difference of the pixels, from 0 to 1",
        compare,
    )


def between_latents(default: EncoderManifest, candidate: EncoderManifest) -> Measure:
    """See `service.tasks.base.Agreement`, for an encoder.

    Latents are compared number by number: a version whose latents are as good but rotated disagrees, because what
    clients have stored or learned from the old ones does not fit it.
    """
    _require_same_images(default, candidate)
    require_equal("numbers of latents", default.latent, candidate.latent)

    def compare(ours: Row, theirs: Row) -> Comparison:
        spread = max(float(np.std(ours[0])), default.golden.atol)
        difference = root_mean_square(ours[0] - theirs[0]) / spread
        return Comparison(difference <= _LATENTS, difference)

    return Measure(
        f"latents whose root mean squared difference is at most {_LATENTS:g} of their spread; the difference is this "
        "share",
        compare,
    )


def _require_same_images(default: ImageCodeManifest, candidate: ImageCodeManifest) -> None:
    require_equal("images", default.image.shape, candidate.image.shape)
    dark, other = (
        None if image.background is None else image.background < 0.5 for image in (default.image, candidate.image)
    )
    if dark != other:
        raise Incomparable(
            "The versions cannot be compared: their training images have different backgrounds, so they do not invert "
            "the same images."
        )


def _restored(_manifest: AutoencoderManifest, _item: Any, row: Row) -> dict[str, Any]:
    return restored(None, False, row)


def _encoded(_manifest: EncoderManifest, _item: Any, row: Row) -> dict[str, Any]:
    return encoded(None, False, row)


def _decoded(_manifest: DecoderManifest, _item: Any, row: Row) -> dict[str, Any]:
    return decoded(row)


AUTOENCODER = Agreement(between_images, unlabelled_outcome, _restored)
ENCODER = Agreement(between_latents, unlabelled_outcome, _encoded)
DECODER = Agreement(between_images, unlabelled_outcome, _decoded)
