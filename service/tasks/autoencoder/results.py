"""The results for an image or for latents."""

from typing import Any

from service.tasks.autoencoder.pictures import to_base64
from service.tasks.base import Row
from service.tasks.familiarity import with_familiarity


def restored(name: str | None, inverted: bool, row: Row) -> dict[str, Any]:
    """As `RestoredImage` has it."""
    image, error, *more = row
    result = {"name": name, "inverted": inverted, "error": round(float(error), 6), "png": to_base64(image)}
    return with_familiarity(result, more)


def encoded(name: str | None, inverted: bool, row: Row) -> dict[str, Any]:
    """As `EncodedImageAnswer` has it."""
    latents, *more = row
    return with_familiarity({"name": name, "inverted": inverted, "latents": latents.tolist()}, more)


def decoded(row: Row) -> dict[str, Any]:
    """As `DecodedImage` has it."""
    (image, *_) = row
    return {"png": to_base64(image)}
