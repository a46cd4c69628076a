"""Labelled images from a hub id or a local folder, the data of classifiers and autoencoders."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from service.errors import QuartetError
from service.tasks.cards import ImageInput
from service.tasks.images import EncodedImage, decode_for, place
from training.data import hub
from training.data.added import Added
from training.data.contents import examine, fingerprint
from training.data.dataset import DataError, Inspection, absent_classes
from training.data.image_leaks import warn_of_image_leaks
from training.data.image_sources import Files, ImageItems, Rows, open_images
from training.data.inspection import Bad, Problems, describe_classes, describe_repeats, describe_splits
from training.data.lazy import IN_MEMORY, Images, LazyImages, Pixels, select
from training.data.sources import name_of
from training.data.splits import hold_out, limited, split_validation, validation_fraction
from training.engine.progress import track


@dataclass(frozen=True, slots=True)
class ImageSplit:
    """Images, uint8, shape (n, height, width, channels), and their labels, int64, shape (n,)."""

    images: Images
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "ImageSplit":
        return ImageSplit(select(self.images, indices), self.labels[indices])


@dataclass(frozen=True, slots=True)
class ImageData:
    """A data set with its three splits and its fingerprint.

    Attributes:
        held_out: the splits that were taken from train.
        original: the median height and width of the files, if they were resized.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    fingerprint: str
    held_out: frozenset[str] = frozenset()
    inspection: Inspection = field(default_factory=Inspection)
    added: Added | None = None
    original: tuple[int, int] | None = None

    @property
    def division(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return split_validation(self.validation.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    def pixel_fingerprint(self) -> str:
        """The fingerprint in manifests that are older than content hashes; decodes every image."""

        def parts() -> Iterator[bytes]:
            added = self.added.items if self.added else 0
            for split in (self.train.take(np.arange(len(self.train) - added)), self.validation, self.test):
                yield from (pixels.tobytes() for pixels in split.images)
                yield split.labels.tobytes()

        return fingerprint("sha256", parts())


def load_images(
    source: str,
    *,
    size: int | None = None,
    largest: int = 224,
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
        validation: the fraction of train that becomes the validation split if the source has none; more of few images,
            see `validation_fraction`.
        labelled: whether labels are needed; without labels all images are of one class.

    Raises:
        DataError: a wrong path, a missing column, an empty class, an unreadable image.
    """
    inspection, problems = Inspection(), Problems()
    classes, splits = open_images(source, inspection, problems, labelled=labelled, encoding=encoding)
    if missing := absent_classes(classes, splits["train"].labels):
        raise DataError(f"{source} [train]: no image of the class {', '.join(missing)}.")
    if labelled and len(classes) < 2:
        raise DataError(f"{source}: has {len(classes)} class; classification needs two or more.")

    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
    held_out = frozenset({"test", "validation"} - splits.keys())
    for name, fraction in (("test", 0.2), ("validation", validation)):
        if name in held_out:
            train = splits["train"]
            if name == "validation":
                fraction = validation_fraction(len(train), fraction)
            if np.unique(train.labels, return_counts=True)[1].min() * fraction < 10:
                kept, taken = hold_out(source, name, len(train), fraction, seed, train.labels)
            else:  # as the committed models were trained; it always rounds the same classes down
                kept, taken = hub.stratified_split(train.labels, fraction, seed)
            splits["train"], splits[name] = train.take(kept), train.take(taken)
    for name, part in splits.items():
        if limit is not None and len(part) > limit:
            splits[name] = part.take(limited(name, part.labels, limit, seed))

    shape, original = _shape(source, splits["train"], size, largest)
    lazy = sum(map(len, splits.values())) * int(np.prod(shape)) > IN_MEMORY
    height, width, channels = shape
    wanted = ImageInput(height=height, width=width, channels=1 if channels == 1 else 3)
    read = {
        name: read_split(f"Decoding {source} [{name}]", splits[name], wanted, problems, lazy=lazy)
        for name in hub.SPLITS
    }
    parts = {name: part for name, (part, _, _) in read.items()}
    digests = {name: hashes for name, (_, hashes, _) in read.items()}
    items = {name: kept for name, (_, _, kept) in read.items()}
    problems.settle(source, bad, inspection)

    describe_splits(inspection, {name: len(part) for name, part in parts.items()}, sorted(held_out), "images")
    if len(classes) > 1:
        labels = np.concatenate([part.labels for part in parts.values()])
        describe_classes(inspection, classes, np.bincount(labels, minlength=len(classes)).tolist(), "images")
    describe_repeats(inspection, digests, "images")
    if labelled and len(classes) > 1:
        seen = ("train", "validation")
        warn_of_image_leaks(inspection, [(items[name], parts[name].images) for name in seen], classes)
    contents = [b"".join([name.encode(), *digests[name], parts[name].labels.tobytes()]) for name in hub.SPLITS]
    identity = fingerprint("files-sha256", [repr(shape).encode(), *contents])
    return ImageData(
        name_of(source),
        classes,
        **parts,
        fingerprint=identity,
        held_out=held_out,
        inspection=inspection,
        added=None,
        original=original,
    )


def common_background(images: Images) -> float | None:
    """The brightness (0 to 1) of the images' edges if it is nearly the same in all of them, otherwise None."""
    images = images[:: max(1, len(images) // 10_000)] if isinstance(images, LazyImages) else images
    edges = np.concatenate((images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]), axis=1)
    brightness = edges.reshape(len(images), -1).mean(1) / 255
    return round(float(brightness.mean()), 4) if brightness.std() < 0.05 else None


def _shape(
    source: str, train: ImageItems, size: int | None, largest: int
) -> tuple[tuple[int, int, int], tuple[int, int] | None]:
    """Height, width and channels of the images, and the median size of the files if they are to be resized.

    Judged by a sample of the training split.
    """
    sample, reason = [], ""
    for index in train.indices[:: max(1, len(train) // 64)]:
        try:
            sample.append(EncodedImage.open(train.files.read(int(index))).decode(3))
        except (QuartetError, OSError) as error:  # all are named when all are read
            reason = reason or (error.detail if isinstance(error, QuartetError) else f"It cannot be read: {error}.")
    if not sample:
        where = train.files.where(int(train.indices[0]))
        raise DataError(f"{where}: {reason} No image of a sample of {source} can be read.")
    channels = 1 if all(np.ptp(pixels, axis=2).max() == 0 for pixels in sample) else 3
    height, width = sample[0].shape[:2]
    if size or max(height, width) > largest or any(pixels.shape[:2] != (height, width) for pixels in sample):
        height = width = size or largest
    middle = np.median([pixels.shape[:2] for pixels in sample], axis=0)
    original = (round(float(middle[0])), round(float(middle[1])))
    return (height, width, channels), None if original == (height, width) else original


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Decodes images and resizes them; can be sent to other processes."""

    files: Files | Rows
    wanted: ImageInput

    def __call__(self, index: int) -> Pixels:
        return self.examine(self.files.read(index))[2]

    def examine(self, data: bytes) -> tuple[int, int, Pixels]:
        """Upright height and width of the file, and the resized pixels."""
        image = EncodedImage.open(data)
        wanted = self.wanted
        pixels = decode_for(image, wanted)
        # Of formats other than JPEG only decoding tells the orientation, always at full size.
        original = image.upright_size if image.pillow is None else pixels.shape[:2]
        return original[0], original[1], place(pixels, wanted)


def read_split(
    title: str, items: ImageItems, wanted: ImageInput, problems: Problems, *, lazy: bool
) -> tuple[ImageSplit, list[bytes], ImageItems]:
    """Reads the images of a split.

    Args:
        title: of the progress bar.
        items: the images.
        wanted: how each is prepared.
        problems: what cannot be decoded is added to them.
        lazy: whether the images stay on disk, to be decoded when they are used.

    Returns:
        The images that can be decoded, their content hashes, and where they are.
    """
    decoder = _Decoder(items.files, wanted)
    contents = examine(items.files, items.indices, decoder.examine, cached=lazy)
    images = np.empty((0 if lazy else len(items), *wanted.shape[1:]), dtype=np.uint8)
    kept: list[int] = []
    digests: list[bytes] = []
    for row, content in enumerate(track(contents, title, total=len(items))):
        if isinstance(content, str):
            problems.add(items.files.where(int(items.indices[row])), content)
            continue
        if not lazy:
            images[len(kept)] = content[3]
        kept.append(row)
        digests.append(content[0])
    chosen = items.take(np.array(kept, dtype=np.int64))
    loaded = LazyImages(decoder, chosen.indices, wanted.shape[1:]) if lazy else images[: len(kept)]
    return ImageSplit(loaded, chosen.labels), digests, chosen
