"""Detection data in memory: images letterboxed to one size, their boxes checked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from service.errors import QuartetError
from service.tasks.detection.letterbox import Letterbox, letterbox
from service.tasks.images import EncodedImage
from training.data import DataError
from training.detection.formats import RawBox, RawData, RawImage, read
from training.hub import SPLITS

BadBoxes = Literal["refuse", "drop"]
# Annotation tools round to whole pixels; what protrudes by less than that is silently clipped.
_TOLERANCE = 1.0
_PROBLEMS_SHOWN = 10

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DetectionSplit:
    """Images with their boxes.

    Attributes:
        images: uint8, shape (n, height, width, 3), letterboxed.
        boxes: of each image, float32, shape (k, 4): x_min, y_min, x_max, y_max in pixels of the original image.
        labels: of each image, int64, shape (k,).
        letterboxes: how each original is placed in its image.
        names: of the files.
    """

    images: npt.NDArray[np.uint8]
    boxes: tuple[FloatArray, ...]
    labels: tuple[IntArray, ...]
    letterboxes: tuple[Letterbox, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def fitted_boxes(self, index: int) -> FloatArray:
        """The boxes of an image in pixels of the letterboxed one."""
        return self.letterboxes[index].to_frame(self.boxes[index])


@dataclass(frozen=True, slots=True)
class DetectionData:
    """A data set with its three splits and its fingerprint."""

    name: str
    classes: tuple[str, ...]
    train: DetectionSplit
    validation: DetectionSplit
    test: DetectionSplit
    fingerprint: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every letterboxed image."""
        height, width = self.train.images.shape[1:3]
        return height, width


def load_detection(
    source: str,
    *,
    size: tuple[int, int] | None = None,
    bad_boxes: BadBoxes = "refuse",
    limit: int | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> DetectionData:
    """Loads a data set of images with boxes.

    Args:
        source: as `training.detection.formats.read` takes it.
        size: height and width, multiples of 32, that images are letterboxed to; by default the long side is 512 and
            the aspect ratio the median of a sample.
        bad_boxes: whether invalid boxes are an error or left out; either way they are named.
        limit: the most images of each split, for a trial.
        seed: of the splits that are held out from train.
        console: where the boxes that are left out are named.

    Raises:
        DataError: as `read`; an unreadable image; a bad box.
    """
    raw = read(source)
    if len(raw.classes) == 0:
        raise DataError(f"{source}: no box has a class.")
    _hold_out(source, raw, seed)
    if limit is not None:
        raw.splits = {name: images[:limit] for name, images in raw.splits.items()}
    size = size or _common_size(raw.splits["train"])
    digest = hashlib.sha256()
    problems: list[str] = []
    parts = {name: _load(raw.splits[name], raw.classes, size, digest, problems) for name in SPLITS}
    if problems:
        shown = "\n  ".join(problems[:_PROBLEMS_SHOWN])
        more = f"\n  … and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        message = f"{len(problems)} invalid boxes in {source}:\n  {shown}{more}"
        if bad_boxes == "refuse":
            raise DataError(f"{message}\nCorrect them, or leave them out with --bad-boxes drop.")
        if console:
            console.print(f"[yellow]Left out: {message}", highlight=False)
    if not any(len(boxes) for boxes in parts["train"].boxes):
        raise DataError(f"{source}: no training image has a box.")
    folder = Path(source).expanduser()
    name = folder.resolve().name if folder.is_dir() else source
    return DetectionData(name, raw.classes, **parts, fingerprint=f"sha256:{digest.hexdigest()}")


def _hold_out(source: str, raw: RawData, seed: int) -> None:
    """Holds out the missing splits from the training images."""
    if "test" not in raw.splits and "validation" in raw.splits:
        raw.splits["test"] = raw.splits.pop("validation")
    for name, share in (("test", 0.2), ("validation", 0.15)):
        if not raw.splits.get(name):
            images = raw.splits["train"]
            count = round(len(images) * share)
            if not 0 < count < len(images):
                raise DataError(f"{source}: too few training images ({len(images)}) to hold out a {name} split.")
            order = np.random.default_rng(seed).permutation(len(images))
            raw.splits[name] = [images[i] for i in sorted(order[:count])]
            raw.splits["train"] = [images[i] for i in sorted(order[count:])]


def _common_size(images: Sequence[RawImage], long_side: int = 512) -> tuple[int, int]:
    """A long side of 512 pixels and the median aspect ratio of a sample, in multiples of 32."""
    ratios = []
    for image in images[:: max(1, len(images) // 64)]:
        height, width = _open(image).upright_size
        ratios.append(height / width)
    ratio = float(np.median(ratios))
    sides = (long_side * min(ratio, 1.0), long_side * min(1 / ratio, 1.0))
    height, width = (max(32, round(side / 32) * 32) for side in sides)
    return height, width


def _open(image: RawImage) -> EncodedImage:
    try:
        return EncodedImage.open(image.image if isinstance(image.image, bytes) else image.image.read_bytes())
    except (QuartetError, OSError) as error:
        raise DataError(f"{_where(image)}: {error}") from error


def _where(image: RawImage) -> str:
    return str(image.image) if isinstance(image.image, Path) else image.name


def _load(
    images: Sequence[RawImage],
    classes: tuple[str, ...],
    size: tuple[int, int],
    digest: "hashlib._Hash",
    problems: list[str],
) -> DetectionSplit:
    pixels = np.empty((len(images), *size, 3), dtype=np.uint8)
    boxes, labels, letterboxes = [], [], []
    for row, image in enumerate(track(images, "Decoding", transient=True)):
        encoded = _open(image)
        try:
            pixels[row], frame = letterbox(encoded, *size)
        except QuartetError as error:
            raise DataError(f"{_where(image)}: {error.detail}") from error
        kept, indices = _checked(image.boxes, (frame.height, frame.width), classes, problems)
        boxes.append(kept)
        labels.append(indices)
        letterboxes.append(frame)
        for part in (pixels[row], kept, indices):
            digest.update(part.tobytes())
    return DetectionSplit(
        pixels, tuple(boxes), tuple(labels), tuple(letterboxes), tuple(image.name for image in images)
    )


def _checked(
    raw: Sequence[RawBox], size: tuple[int, int], classes: tuple[str, ...], problems: list[str]
) -> tuple[FloatArray, IntArray]:
    """The valid boxes, in pixels, and their classes; what is wrong with the others is added to `problems`."""
    height, width = size
    limits = np.array([width, height, width, height], dtype=np.float64)
    boxes, labels = [], []
    for box in raw:
        corners = np.array(box.corners, dtype=np.float64) * (limits if box.relative else 1)
        x_min, y_min, x_max, y_max = corners
        text = f"{x_min:g}, {y_min:g} to {x_max:g}, {y_max:g}"
        if not np.isfinite(corners).all():
            problems.append(f"{box.origin}: not a number: {text}")
        elif x_max < x_min or y_max < y_min:
            problems.append(f"{box.origin}: inverted: {text}")
        elif x_max == x_min or y_max == y_min:
            problems.append(f"{box.origin}: empty: {text}")
        elif (corners < -_TOLERANCE).any() or (corners > limits + _TOLERANCE).any():
            problems.append(f"{box.origin}: outside of the image of {width} x {height}: {text}")
        elif box.label not in classes:
            problems.append(f"{box.origin}: unknown class: {box.label}")
        else:
            boxes.append(corners.clip(0, limits))
            labels.append(classes.index(box.label))
    return np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(labels, dtype=np.int64)
