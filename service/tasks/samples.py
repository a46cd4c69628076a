"""Inputs to try models with: small images for the OpenAPI page, and the images of golden files."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.tasks.base import Sample


def image_samples(inputs: Mapping[str, Any], manifest: Any, companion: Any) -> list[Sample]:  # noqa: ARG001
    """The images of a golden file, uint8 of shape (images, height, width, channels)."""
    (images,) = (inputs[spec.name] for spec in manifest.inputs)
    return [encode_sample(pixels, row) for row, pixels in enumerate(images)]


def encode_sample(pixels: npt.NDArray[np.uint8], row: int) -> Sample:
    """An image, uint8 of shape (height, width, 1 or 3), as a file; `row` is its index.

    The file is lossless: what JPEG changes, even at the highest quality, makes photographs of blood cells unlike the
    training data for the committed detector.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return Sample("image/png", buffer.getvalue(), row)


def _example(name: str) -> str:
    """A file of `examples/` in base64."""
    return base64.b64encode(Path(__file__).with_name("examples").joinpath(name).read_bytes()).decode()


# The test split of CIFAR-10 (Krizhevsky 2009; research use), 32x32.
CAT = _example("cat.jpg")
# The test split of BCCD (Shenggan/BCCD_Dataset, MIT licence), shrunk to 256x192.
SMEAR = _example("smear.jpg")
# The test split of MNIST (LeCun et al.; CC BY-SA 3.0), 28x28.
SEVEN = _example("seven.png")
