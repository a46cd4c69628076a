"""Inputs to try models with: small images for the OpenAPI page, and the images of golden files."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from service.tasks.base import Sample

# Larger images are sent as JPEG of a quality that shows no artefacts; PNG would be ten times as large.
_LARGE_PIXELS = 128 * 128
_QUALITY = 92


def image_samples(inputs: Mapping[str, Any], manifest: Any, companion: Any) -> list[Sample]:  # noqa: ARG001
    """The images of a golden file, uint8 of shape (images, height, width, channels)."""
    (images,) = (inputs[spec.name] for spec in manifest.inputs)
    return [_encode(Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)) for pixels in images]


def _encode(image: Image.Image) -> Sample:
    buffer = io.BytesIO()
    if image.width * image.height > _LARGE_PIXELS:
        image.save(buffer, "JPEG", quality=_QUALITY)
        return Sample("image/jpeg", buffer.getvalue())
    image.save(buffer, "PNG")
    return Sample("image/png", buffer.getvalue())


def _example(name: str) -> str:
    """A file of `examples/` in base64."""
    return base64.b64encode(Path(__file__).with_name("examples").joinpath(name).read_bytes()).decode()


# The test split of CIFAR-10 (Krizhevsky 2009; research use), 32x32.
CAT = _example("cat.jpg")
# The test split of BCCD (Shenggan/BCCD_Dataset, MIT licence), shrunk to 256x192.
SMEAR = _example("smear.jpg")
# The test split of MNIST (LeCun et al.; CC BY-SA 3.0), 28x28.
SEVEN = _example("seven.png")
