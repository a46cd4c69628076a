"""Images with boxes: letterboxed to one size, their boxes checked."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import QuartetError
from service.tasks.detection.letterbox import Letterbox, letterbox
from service.tasks.images import EncodedImage
from training.data.added import Added
from training.data.contents import examine, file_key, fingerprint
from training.data.dataset import DataError, Inspection
from training.data.hub import SPLITS
from training.data.inspection import Bad, Problems, describe_classes, describe_repeats, describe_splits
from training.data.lazy import IN_MEMORY, Images, LazyImages, Pixels, select
from training.data.sources import name_of
from training.data.splits import split_validation, validation_fraction
from training.detection.formats import read
from training.detection.formats.raw import RawBox, RawData, RawImage
from training.engine.progress import track

# The long side of images: the small one if nearly all objects have at least this many pixels per side in it.
_SMALL_FRAME, _LARGE_FRAME, _SMALLEST_SIDE, _SMALL_PERCENTILE = 320, 512, 32, 5
# Annotation tools round to whole pixels; what protrudes by less than that is silently clipped.
_TOLERANCE = 1.0

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Boxes = tuple[FloatArray, IntArray]


@dataclass(frozen=True, slots=True)
class DetectionSplit:
    """Images with their boxes.

    Attributes:
        images: uint8, shape (n, height, width, 3), letterboxed; decoded on demand if they are very many.
        boxes: of each image, float32, shape (k, 4): x_min, y_min, x_max, y_max in pixels of the original image.
        labels: of each image, int64, shape (k,).
        letterboxes: how each original is placed in its image.
        names: of the files.
        crowds: of each image, the boxes and labels of regions with many objects that are not annotated one by one;
            empty if no image has any. They are not trained on, and detections in them are not counted.
    """

    images: Images
    boxes: tuple[FloatArray, ...]
    labels: tuple[IntArray, ...]
    letterboxes: tuple[Letterbox, ...]
    names: tuple[str, ...]
    crowds: tuple[Boxes, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def fitted_boxes(self, index: int) -> FloatArray:
        """The boxes of an image in pixels of the letterboxed one."""
        return self.letterboxes[index].to_frame(self.boxes[index])

    def annotations(self) -> Iterator[bytes]:
        """All boxes and labels of each image, for a fingerprint."""
        for boxes, labels, crowd in zip(self.boxes, self.labels, self.crowds, strict=True):
            yield b"".join(part.tobytes() for part in (boxes, labels, *crowd))

    def take(self, indices: IntArray) -> "DetectionSplit":
        """The images at `indices`, in that order, with their boxes."""
        return replace(self.without_pixels(indices), images=select(self.images, indices))

    def without_pixels(self, indices: IntArray) -> "DetectionSplit":
        """The boxes of the images at `indices`, in that order, for what only looks at boxes."""
        parts: Any = (self.boxes, self.labels, self.letterboxes, self.names, self.crowds)
        chosen: Any = (tuple(part[index] for index in indices) if part else () for part in parts)
        return DetectionSplit(np.empty((len(indices), 0, 0, 3), np.uint8), *chosen)


@dataclass(frozen=True, slots=True)
class DetectionData:
    """Images with boxes in three splits."""

    name: str
    classes: tuple[str, ...]
    train: DetectionSplit
    validation: DetectionSplit
    test: DetectionSplit
    fingerprint: str
    inspection: Inspection = field(default_factory=Inspection)
    added: Added | None = None

    @property
    def division(self) -> tuple[IntArray, IntArray]:
        """The indices of the selection half and of the calibration half of validation."""
        return split_validation(np.zeros(len(self.validation), np.int64))

    @property
    def choice(self) -> DetectionSplit:
        """The selection half of validation."""
        return self.validation.take(self.division[0])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every letterboxed image."""
        height, width = self.train.images.shape[1:3]
        return height, width

    def pixel_fingerprint(self) -> str:
        """The fingerprint in manifests that are older than content hashes; decodes every image."""

        def parts() -> Iterator[bytes]:
            for split in (self.train, self.validation, self.test):
                for canvas, annotations in zip(split.images, split.annotations(), strict=True):
                    yield canvas.tobytes() + annotations

        return fingerprint("sha256", parts())


def load_detection(
    source: str, *, size: tuple[int, int] | None = None, bad: Bad = "refuse", limit: int | None = None, seed: int = 0
) -> DetectionData:
    """Loads a data set of images with boxes.

    Args:
        source: as `training.detection.formats.read` takes it.
        size: height and width, multiples of 32, that images are letterboxed to; by default the aspect ratio is the
            median of a sample, and the long side 320, or 512 if objects would be too small.
        bad: whether images that cannot be read and invalid boxes are an error or left out; either way they are named.
        limit: the most images of each split, for a trial.
        seed: of the splits that are held out from train.

    Raises:
        DataError: as `read`; an unreadable image; a bad box.
    """
    raw = read(source)
    inspection = raw.inspection
    if not raw.classes:
        raw.problems.settle(source, "refuse", inspection)
        raise DataError(f"{source}: no box has a class.")
    given = set(raw.splits)
    _hold_out(source, raw, seed)
    images = {name: raw.splits[name][:limit] for name in SPLITS}
    if not size:
        size, reason = _common_size(images["train"])
        inspection.notes.append(reason)
    lazy = sum(map(len, images.values())) * size[0] * size[1] * 3 > IN_MEMORY
    splits: dict[str, DetectionSplit] = {}
    digests: dict[str, list[bytes]] = {}
    for name in SPLITS:
        splits[name], digests[name] = _load(_Images(images[name], size), raw.classes, lazy, raw.problems)
    raw.problems.settle(source, bad, inspection)
    empty = sum(not len(boxes) for boxes in splits["train"].boxes)
    if empty == len(splits["train"]):
        raise DataError(f"{source}: no training image has a box.")
    for name in ("validation", "test"):
        if not any(map(len, splits[name].boxes)):
            raise DataError(f"{source}: none of the {len(splits[name])} {name} images has a box: add some that have.")
    counts = {name: len(split) for name, split in splits.items()}
    describe_splits(inspection, counts, [name for name in counts if name not in given], "images")
    labels = np.concatenate([indices for split in splits.values() for indices in split.labels])
    describe_classes(inspection, raw.classes, np.bincount(labels, minlength=len(raw.classes)).tolist(), "boxes")
    describe_repeats(inspection, digests, "images")
    if crowds := sum(len(boxes) for split in splits.values() for boxes, _ in split.crowds):
        inspection.notes.append(
            f"crowds (iscrowd): {crowds:,}; they are not trained on, and detections in them are not counted"
        )
    if empty:
        inspection.notes.append(f"{empty:,} training images have no box: all of them is background")
    contents = (b"".join([name.encode(), *digests[name], *splits[name].annotations()]) for name in SPLITS)
    identity = fingerprint("files-sha256", [repr(size).encode(), *contents])
    return DetectionData(
        name_of(source), raw.classes, **splits, fingerprint=identity, inspection=inspection, added=None
    )


def _hold_out(source: str, raw: RawData, seed: int) -> None:
    if "test" not in raw.splits and "validation" in raw.splits:
        raw.splits["test"] = raw.splits.pop("validation")
    for name, fraction in (("test", 0.2), ("validation", 0.15)):
        if not raw.splits.get(name):
            images = raw.splits["train"]
            if name == "validation":
                fraction = validation_fraction(len(images), fraction)
            count = round(len(images) * fraction)
            if not 0 < count < len(images):
                raise DataError(f"{source}: too few training images ({len(images)}) to hold out a {name} split.")
            order = np.random.default_rng(seed).permutation(len(images))
            raw.splits[name] = [images[i] for i in sorted(order[:count])]
            raw.splits["train"] = [images[i] for i in sorted(order[count:])]


def _common_size(images: Sequence[RawImage]) -> tuple[tuple[int, int], str]:
    """The smaller frame if even small objects keep enough pixels in it, and why; sides are multiples of 32.

    The aspect ratio is the median of a sample of the images.
    """
    ratios, sides = [], []
    for image in images[:: max(1, len(images) // 64)]:
        with suppress(QuartetError, OSError):  # named when all are read
            height, width = EncodedImage.open(image.read()).upright_size
            ratios.append(height / width)
            for box in image.boxes:
                scale = np.array((width, height) if box.relative else (1, 1)) / max(height, width)
                sides.append(float(np.prod(np.subtract(box.corners[2:], box.corners[:2]) * scale).clip(0) ** 0.5))
    small = float(np.nanpercentile(sides, _SMALL_PERCENTILE)) if sides else 0.0
    ratio = float(np.median(ratios)) if ratios else 1.0

    def frame(long_side: int) -> tuple[int, int]:
        height, width = (max(32, round(long_side * min(each, 1.0) / 32) * 32) for each in (ratio, 1 / ratio))
        return height, width

    is_small = small * _SMALL_FRAME >= _SMALLEST_SIDE
    long_side, other = (_SMALL_FRAME, _LARGE_FRAME) if is_small else (_LARGE_FRAME, _SMALL_FRAME)
    (height, width), (other_height, other_width) = frame(long_side), frame(other)
    change = "takes longer, and may be more accurate" if is_small else "is faster, and misses more small objects"
    return (height, width), (
        f"frames of {height}x{width}, in which {100 - _SMALL_PERCENTILE}% of the objects are at least "
        f"{small * long_side:.0f} pixels across; --image-size {other_height}x{other_width} {change}"
    )


@dataclass(frozen=True, slots=True)
class _Images:
    """Encoded images (see `ImageFiles`), decoded into frames of `size`; can be sent to other processes."""

    images: Sequence[RawImage]
    size: tuple[int, int]

    def read(self, index: int) -> bytes:
        return self.images[index].read()

    def where(self, index: int) -> str:
        image = self.images[index]
        return str(image.image) if isinstance(image.image, Path) else image.name

    def key(self, index: int) -> bytes | None:
        image = self.images[index]
        return file_key(str(image.image)) if isinstance(image.image, Path) else image.key

    def decode(self, data: bytes) -> tuple[int, int, Pixels]:
        canvas, frame = letterbox(EncodedImage.open(data), *self.size)
        return frame.height, frame.width, canvas

    def __call__(self, index: int) -> Pixels:
        return self.decode(self.read(index))[2]


def _load(
    files: _Images, classes: tuple[str, ...], lazy: bool, problems: Problems
) -> tuple[DetectionSplit, list[bytes]]:
    """The images that can be read, with their valid boxes, and a digest of each; the others are added to `problems`."""
    kept: list[int] = []
    digests: list[bytes] = []
    objects: list[Boxes] = []
    crowds: list[Boxes] = []
    frames: list[Letterbox] = []
    count = len(files.images)
    pixels = np.empty((0 if lazy else count, *files.size, 3), dtype=np.uint8)
    every = examine(files, np.arange(count), files.decode, cached=lazy)
    for row, content in enumerate(track(every, "Decoding", total=count)):
        if isinstance(content, str):
            problems.add(files.where(row), content)
            continue
        if not lazy:
            pixels[len(kept)] = content[3]
        frame = Letterbox.of(content[1], content[2], *files.size)
        for parts, crowd in ((objects, False), (crowds, True)):
            boxes = (box for box in files.images[row].boxes if box.crowd == crowd)
            parts.append(checked_boxes(boxes, frame, classes, problems))
        kept.append(row)
        frames.append(frame)
        digests.append(content[0])
    split = DetectionSplit(
        LazyImages(files, np.array(kept, np.int64), (*files.size, 3)) if lazy else pixels[: len(kept)],
        tuple(boxes for boxes, _ in objects),
        tuple(labels for _, labels in objects),
        tuple(frames),
        tuple(files.images[row].name for row in kept),
        tuple(crowds),
    )
    return split, digests


def checked_boxes(raw: Iterable[RawBox], frame: Letterbox, classes: tuple[str, ...], problems: Problems) -> Boxes:
    """The valid boxes, in pixels, and their classes; what is wrong with the others is added to `problems`."""
    limits = np.array([frame.width, frame.height] * 2, dtype=np.float64)
    boxes, labels = [], []
    for box in raw:
        corners = np.array(box.corners, dtype=np.float64) * (limits if box.relative else 1)
        sides = corners[2:] - corners[:2]
        text = "{:g}, {:g} to {:g}, {:g}".format(*corners)
        if not np.isfinite(corners).all():
            problems.add(box.origin, f"not a number: {text}")
        elif (sides < 0).any():
            problems.add(box.origin, f"inverted: {text}")
        elif (sides == 0).any():
            problems.add(box.origin, f"empty: {text}")
        elif (corners < -_TOLERANCE).any() or (corners > limits + _TOLERANCE).any():
            problems.add(box.origin, f"outside of the image of {frame.width} x {frame.height}: {text}")
        elif box.label not in classes:
            problems.add(box.origin, f"unknown class: {box.label}")
        else:
            boxes.append(corners.clip(0, limits))
            labels.append(classes.index(box.label))
    return np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(labels, dtype=np.int64)
