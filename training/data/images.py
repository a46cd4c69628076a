"""Labelled images from a hub id or a local folder, the data of classifiers and autoencoders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from service.errors import QuartetError
from service.tasks.images import EncodedImage, fit
from training.data.contents import ImageFiles, content_fingerprint, examine, pixel_fingerprint
from training.data.dataset import DataError, Inspection
from training.data.hub import SPLITS, stratified_split
from training.data.image_sources import ImageItems, open_images
from training.data.inspection import Bad, Problems, describe_classes, describe_repeats, describe_splits
from training.data.lazy import IN_MEMORY, Images, LazyImages, Pixels, select
from training.data.splits import hold_out, limited, split_validation
from training.engine.progress import track

# Photographs of any size are resized to the size that ImageNet backbones are trained at.
DEFAULT_SIZE = 224
_SAME_BACKGROUND = 0.05
_BACKGROUND_SAMPLE = 10_000
# Of a class: below this, rounding its quota the same way every time would matter.
_FEW_HELD_OUT = 10


@dataclass(frozen=True, slots=True)
class ImageSplit:
    """Images with their labels.

    Attributes:
        images: uint8, shape (n, height, width, channels); decoded on demand if they are very many.
        labels: int64, shape (n,).
    """

    images: Images
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "ImageSplit":
        """The items at `indices`, in that order."""
        return ImageSplit(select(self.images, indices), self.labels[indices])


@dataclass(frozen=True, slots=True)
class ImageData:
    """A data set with its three splits and its fingerprint; `held_out` names the splits that were taken from train."""

    name: str
    classes: tuple[str, ...]
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    fingerprint: str
    held_out: frozenset[str] = frozenset()
    inspection: Inspection = field(default_factory=Inspection)

    @property
    def division(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The indices of the selection half and of the calibration half of validation."""
        return split_validation(self.validation.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    def pixel_fingerprint(self) -> str:
        """The fingerprint in manifests that are older than content hashes; decodes every image."""

        def parts() -> Iterator[bytes]:
            for split in (self.train, self.validation, self.test):
                yield from (pixels.tobytes() for pixels in split.images)
                yield split.labels.tobytes()

        return pixel_fingerprint(parts())


def load_images(
    source: str,
    *,
    size: int | None = None,
    largest: int = DEFAULT_SIZE,
    validation: float = 0.1,
    limit: int | None = None,
    labelled: bool = True,
    bad: Bad = "refuse",
    encoding: str | None = None,
    seed: int = 0,
) -> ImageData:
    """Loads a data set of images.

    Args:
        source: as `training.data.image_sources.open_images` takes it.
        size: the side of the square that images are resized to; by default they keep their size if all have the same,
            of at most `largest` pixels, and become squares of `largest` otherwise.
        largest: see `size`.
        validation: the fraction of train that becomes the validation split if the source has none.
        limit: the most images of each split (stratified), for a trial.
        labelled: whether labels are needed; without labels all images are of one class.
        bad: what to do with images that cannot be read.
        encoding: of a table of labels; found by default.
        seed: of the splits that are held out from train.

    Raises:
        DataError: a wrong path, a missing column, an empty class, an unreadable image.
    """
    inspection, problems = Inspection(), Problems()
    opened = open_images(source, inspection, problems, labelled=labelled, encoding=encoding)
    splits, classes = opened.splits, opened.classes
    _check_classes(source, splits["train"], classes, labelled)

    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    missing = frozenset({"test", "validation"} - splits.keys())
    for name, fraction in (("test", 0.2), ("validation", validation)):
        if name in missing:
            train = splits["train"]
            kept, taken = _held_out(source, name, train.labels, fraction, seed)
            splits["train"], splits[name] = train.take(kept), train.take(taken)
    if limit is not None:
        splits = {
            name: part.take(limited(name, part.labels, limit, seed)) if len(part) > limit else part
            for name, part in splits.items()
        }

    shape = _shape(source, splits["train"], size, largest)
    lazy = sum(map(len, splits.values())) * int(np.prod(shape)) > IN_MEMORY
    parts: dict[str, ImageSplit] = {}
    digests: dict[str, list[bytes]] = {}
    for name in SPLITS:
        title = f"Decoding {source} [{name}]"
        parts[name], digests[name] = _read(title, splits[name], shape, lazy, problems)
    problems.settle(source, bad, inspection)

    counts = {name: len(part) for name, part in parts.items()}
    describe_splits(inspection, counts, sorted(missing), "images")
    if len(classes) > 1:
        labels = np.concatenate([part.labels for part in parts.values()])
        describe_classes(inspection, classes, np.bincount(labels, minlength=len(classes)).tolist(), "images")
    describe_repeats(inspection, digests, "images")
    contents = (b"".join([name.encode(), *digests[name], parts[name].labels.tobytes()]) for name in SPLITS)
    fingerprint = content_fingerprint(shape, contents)
    return ImageData(opened.name, classes, **parts, fingerprint=fingerprint, held_out=missing, inspection=inspection)


def _held_out(
    source: str, name: str, labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The indices of training images that stay, and of those that are held out."""
    if np.unique(labels, return_counts=True)[1].min() * fraction < _FEW_HELD_OUT:
        return hold_out(source, name, len(labels), fraction, seed, labels)
    # As the committed models were trained. It always rounds the same classes down, which matters for small ones only.
    return stratified_split(labels, fraction, seed)


def common_background(images: Images) -> float | None:
    """The brightness (0 to 1) of the images' edges if it is nearly the same in all of them, otherwise None.

    Args:
        images: uint8, shape (n, height, width, channels); very many are sampled.
    """
    images = images[:: max(1, len(images) // _BACKGROUND_SAMPLE)] if isinstance(images, LazyImages) else images
    edges = np.concatenate((images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]), axis=1)
    brightness = edges.reshape(len(images), -1).mean(1) / 255
    return round(float(brightness.mean()), 4) if brightness.std() < _SAME_BACKGROUND else None


def _check_classes(source: str, train: ImageItems, classes: Sequence[str], labelled: bool) -> None:
    counts = np.bincount(train.labels, minlength=len(classes))
    missing = [label for label, count in zip(classes, counts, strict=True) if not count]
    if missing:
        raise DataError(f"{source} [train]: no image of the class {', '.join(missing)}.")
    if labelled and len(classes) < 2:
        raise DataError(f"{source}: has {len(classes)} class; classification needs two or more.")


def _shape(source: str, train: ImageItems, size: int | None, largest: int) -> tuple[int, int, int]:
    """Height, width and channels of the images, judged by a sample of the training split."""
    sample = []
    for index in train.indices[:: max(1, len(train) // 64)]:
        try:
            sample.append(EncodedImage.open(train.files.read(int(index))).decode(3))
        except (QuartetError, OSError):  # named when all are read
            continue
    if not sample:
        first = train.files.where(int(train.indices[0]))
        raise DataError(f"{first}: cannot be read, nor can any of a sample of {source}.")
    channels = 1 if all(np.ptp(pixels, axis=2).max() == 0 for pixels in sample) else 3
    sizes = {pixels.shape[:2] for pixels in sample}
    if size is None and len(sizes) == 1 and max(*sizes.pop()) <= largest:
        return (*sample[0].shape[:2], channels)
    return size or largest, size or largest, channels


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Decodes images and resizes them to `shape`; can be sent to other processes."""

    files: ImageFiles
    shape: tuple[int, int, int]

    def __call__(self, index: int) -> Pixels:
        return self.decode(self.files.read(index))[0]

    def decode(self, data: bytes) -> tuple[Pixels, tuple[int, int]]:
        height, width, channels = self.shape
        image = EncodedImage.open(data)
        pixels = image.decode(channels, 2 * height, 2 * width)
        # Of formats other than JPEG only decoding tells the orientation, always at full size.
        original = image.upright_size if image.pillow is None else pixels.shape[:2]
        return fit(pixels, height, width), original


def _read(
    title: str, items: ImageItems, shape: tuple[int, int, int], lazy: bool, problems: Problems
) -> tuple[ImageSplit, list[bytes]]:
    """The images of a split that can be decoded, and their content hashes; the others are added to `problems`."""
    decoder = _Decoder(items.files, shape)
    images = np.empty((0 if lazy else len(items), *shape), dtype=np.uint8)
    kept: list[int] = []
    digests: list[bytes] = []
    every = examine(items.files, items.indices, decoder.decode, pixels=not lazy)
    for row, content in enumerate(track(every, title, total=len(items))):
        if isinstance(content, str):
            problems.add(items.files.where(int(items.indices[row])), content)
            continue
        if content.pixels is not None:
            images[len(kept)] = content.pixels
        kept.append(row)
        digests.append(content.digest)
    chosen = items.take(np.array(kept, dtype=np.int64))
    return ImageSplit(
        LazyImages(decoder, chosen.indices, shape) if lazy else images[: len(kept)], chosen.labels
    ), digests
