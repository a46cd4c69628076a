"""Images with boxes of any data, to measure a published detector on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from service.tasks.detection.letterbox import Letterbox
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.detection.thresholds import choose_threshold
from training.data.dataset import DataError
from training.detection.data import Boxes, DetectionSplit, FloatArray, IntArray, checked_boxes
from training.detection.evaluation import Detections, average_precision, box_iou, precision_intervals
from training.detection.formats import read
from training.detection.formats.raw import RawImage
from training.export.figures import bootstrap
from training.export.labelled import EncodedImages, Findings, LabelIndex, Labelled, choose_splits


class _Image(NamedTuple):
    """What is kept of an image: how it is placed in its frame, its objects and crowds, and what was found."""

    frame: Letterbox
    objects: Boxes
    crowds: Boxes
    found: Detections


class BoxedImages(Labelled):
    """Images with boxes, of the sources that `training.detection.formats.read` takes.

    Args:
        manifest: of the detector.
        options: `EvaluateOptions`.

    Raises:
        DataError: the data cannot be used.
    """

    # All detections: average precision ranks those below every threshold too.
    options = (("confidence", "0"), ("max_detections", "1000"))

    def __init__(self, manifest: DetectorManifest, options: Any) -> None:
        source = options.data
        raw = read(source, needs_train=False)
        splits = choose_splits(source, {name: part for name, part in raw.splits.items() if part}, options.split)
        if options.limit is not None:
            splits = {name: _sample(part, options.limit) for name, part in splits.items()}
        images = [image for part in splits.values() for image in part]
        known = LabelIndex(manifest.labels, raw.problems)
        for box in (box for image in images for box in image.boxes):
            known.find(box.label, box.origin)
        raw.problems.settle(source, options.bad, raw.inspection)
        parts = {name: (_Photographs(part), range(len(part))) for name, part in splits.items()}
        super().__init__(manifest, source, EncodedImages(parts), raw.inspection)
        self._raw = images
        self._images: dict[int, _Image] = {}

    def take(self, index: int, answer: Mapping[str, Any]) -> None:
        labels, size = self.manifest.labels, self.manifest.image
        frame = Letterbox.of(answer["height"], answer["width"], size.height, size.width)
        # Boxes of labels that the model does not have have been named and left out.
        boxes = [box for box in self._raw[index].boxes if box.label in labels]
        objects, crowds = (
            checked_boxes((box for box in boxes if box.crowd == crowd), frame, labels, self.problems)
            for crowd in (False, True)
        )
        corners = [[box[side] for side in ("x_min", "y_min", "x_max", "y_max")] for box in answer["boxes"]]
        found = Detections(
            np.array(corners, dtype=np.float32).reshape(-1, 4),
            np.array([box["score"] for box in answer["boxes"]], dtype=np.float32),
            np.array([box["index"] for box in answer["boxes"]], dtype=np.int64),
        )
        self._images[index] = _Image(frame, objects, crowds, found)

    def findings(self) -> Findings:
        labels, metrics = self.manifest.labels, self.manifest.metrics
        images = [self._images[index] for index in self.answered]
        split = _split_of(images, [self._raw[index].name for index in self.answered])
        if not sum(map(len, split.labels)):
            raise DataError(f"{self.name}: no image has a box.")
        found = [image.found for image in images]
        measured, intervals = average_precision(found, split, labels), precision_intervals(found, split, labels)
        threshold = choose_threshold(self.manifest)
        counts = np.array([_counts(image, threshold.confidence) for image in images])

        def at_threshold(chosen: IntArray) -> dict[str, float]:
            right, false, missed = counts[chosen].sum(0).tolist()
            return {"precision": right / max(1, right + false), "recall": right / max(1, right + missed)}

        intervals |= bootstrap(at_threshold, len(counts))
        values = {"map": measured.map, "map_50": measured.map_50, **at_threshold(np.arange(len(counts)))}
        cards = {"precision": threshold.precision, "recall": threshold.recall}
        of_card = {}
        if metrics is not None:
            cards |= {"map": metrics.map, "map_50": metrics.map_50}
            of_card = {each.label: each.ap for each in metrics.per_class if each.support}
        classes = [
            {"class": each.label, "boxes": each.support, "AP": float(each.ap), "AP at 0.5": float(each.ap_50),
             "AP in the card": of_card.get(each.label)}
            for each in measured.per_class if each.support
        ]  # fmt: skip
        order = np.argsort(-counts[:, 1:].sum(1), kind="stable")
        worst = [
            {"image": self.found.where(self.answered[row]), "objects": int(counts[row, 0] + counts[row, 2]),
             "missed": int(counts[row, 2]), "false": int(counts[row, 1])}
            for row in order if counts[row, 1:].any()
        ]  # fmt: skip
        return Findings(
            tuple(self.figure(name, value, intervals[name], cards.get(name)) for name, value in values.items()),
            sorted(classes, key=lambda row: row["AP"]),
            worst,
            [f"precision and recall are of detections with a score of at least {threshold.confidence:g}"],
        )


@dataclass(frozen=True, slots=True)
class _Photographs:
    """The files of images."""

    images: Sequence[RawImage]

    def read(self, index: int) -> bytes:
        return self.images[index].read()

    def where(self, index: int) -> str:
        image = self.images[index]
        return str(image.image) if isinstance(image.image, Path) else image.name


def _sample(images: Sequence[RawImage], limit: int) -> list[RawImage]:
    order = np.random.default_rng(0).permutation(len(images))
    return [images[index] for index in sorted(order[:limit])]


def _split_of(images: Sequence[_Image], names: Sequence[str]) -> DetectionSplit:
    return DetectionSplit(
        np.empty((len(images), 0, 0, 3), np.uint8),
        tuple(image.objects[0] for image in images),
        tuple(image.objects[1] for image in images),
        tuple(image.frame for image in images),
        tuple(names),
        tuple(image.crowds for image in images),
    )


def _counts(image: _Image, confidence: float) -> tuple[int, int, int]:
    """How many detections of at least this confidence are right and false, and how many objects are missed.

    A detection is right if it overlaps an object of its class, which no better one has, by at least 0.5; see
    `training.detection.evaluation` about crowds.
    """
    found = image.found.select(image.found.scores >= confidence)
    boxes, labels = image.objects
    overlaps = np.where(found.classes[:, None] == labels, box_iou(found.boxes, boxes), 0.0)
    free, right, false = np.ones(len(labels), dtype=bool), 0, 0
    for row in np.argsort(-found.scores, kind="stable"):
        candidates = np.where(free, overlaps[row], 0.0)
        if candidates.size and candidates.max() >= 0.5:
            free[candidates.argmax()] = False
            right += 1
        elif not _lies_in(found.boxes[row], image.crowds[0][image.crowds[1] == found.classes[row]]):
            false += 1
    return right, false, int(free.sum())


def _lies_in(box: FloatArray, crowds: FloatArray) -> bool:
    """Whether at least half of a box is in one of some crowds, shape (n, 4)."""
    sides = np.minimum(box[2:], crowds[:, 2:]) - np.maximum(box[:2], crowds[:, :2])
    area = float(np.prod(box[2:] - box[:2]))
    return bool((sides.clip(0).prod(1) >= area / 2).any())
