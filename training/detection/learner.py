"""What a detector learns: see `Learner`."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from service.tasks.detection.letterbox import Letterbox
from service.tasks.detection.manifest import Suppression
from training.data.augment import to_pixels
from training.data.lazy import LazyImages
from training.detection.augment import augment
from training.detection.data import DetectionSplit
from training.detection.evaluation import Detections, average_precision
from training.detection.graph import PostProcess
from training.detection.loss import LossWeights, detection_loss
from training.detection.network import Detector
from training.detection.options import AugmentOptions
from training.engine.learner import Batch, Learner, Step
from training.engine.processes import in_parts

EVALUATION_BATCH = 8


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """How a detector learns, in addition to `FitSettings`.

    Attributes:
        loss: weights of its parts, and the assignment.
        augment: what is done to the training images.
        mosaic_off_fraction: the fraction of the training, at its end, without mosaics (YOLOX, arXiv:2107.08430).
        iou: threshold of the non-maximum suppression during training; that of the published graph is chosen on the
            validation split afterwards (`training.detection.tuning`).
        score_threshold: detections need a higher score than this; also chosen anew.
        max_detections: per image.
    """

    loss: LossWeights = field(default_factory=LossWeights)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    mosaic_off_fraction: float = 0.15
    iou: float = 0.6
    score_threshold: float = 0.01
    max_detections: int = 300

    @classmethod
    def stated(cls, settings: Mapping[str, Any]) -> Self:
        """The settings that a manifest states, as far as they matter after the training."""
        given = dict(settings["augment"])
        if "mirror" in given:  # until version 1 of the committed detector, `flip` was upside down
            given |= {"flip": given.pop("mirror"), "flip_vertical": given["flip"]}
        return cls(
            augment=AugmentOptions(**given | {"scale": tuple(given["scale"])}),
            iou=settings["iou"],
            score_threshold=settings.get("score_threshold", settings.get("floor")),
            max_detections=settings["max_detections"],
        )

    @property
    def suppression(self) -> Suppression:
        """What is kept during training."""
        return Suppression(iou=self.iou, floor=self.score_threshold, max_detections=self.max_detections)


class DetectionLearner(Learner):
    """See `Learner`.

    Args:
        train: the images to learn from.
        validation: the images that choose the epoch.
        classes: their names.
        settings: of the loss and the augmentation.
    """

    unit = "images"
    score = "map"

    def __init__(
        self, train: DetectionSplit, validation: DetectionSplit, classes: tuple[str, ...], settings: DetectionSettings
    ) -> None:
        self._images = train.images
        self.decodes = isinstance(train.images, LazyImages)
        self._boxes, self._labels = _targets(train, range(len(train)))
        self._validation = validation
        self._classes = classes
        self._settings = settings
        self._mosaics = True

    def __len__(self) -> int:
        return len(self._images)

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Stops the mosaics towards the end, so that the network sees whole images."""
        self._mosaics = epoch < epochs * (1 - self._settings.mosaic_off_fraction)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        """Augmented images, and their objects as `padded` returns them."""
        settings, mosaics = self._settings.augment, self._mosaics
        pixels, boxes, labels = augment(settings, self._images, self._boxes, self._labels, items, rng, mosaics=mosaics)
        return {"pixels": pixels, "objects": padded(boxes, labels)}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Learner`; the figures are the parts of the loss."""
        logits, box_logits = network(batch["pixels"].contiguous(memory_format=torch.channels_last))
        inner: Any = getattr(network, "module", network)  # several GPUs wrap it
        # Distances are means of distributions, which bfloat16 would round to a sixteenth of a stride.
        with torch.autocast(logits.device.type, enabled=False):
            cells = (logits, box_logits, inner.points, inner.strides)
            return detection_loss(*cells, *batch["objects"], weights=self._settings.loss)

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """See `Learner`."""
        assert isinstance(network, Detector)  # noqa: S101 - only a detector learns this
        split, settings = self._validation, self._settings

        def measure(items: npt.NDArray[np.int64]) -> list[tuple[Detections, float]]:
            losses: list[float] = []

            def note_loss(batch: Sequence[int], logits: Tensor, box_logits: Tensor) -> None:
                objects = [part.to(logits.device) for part in padded(*_targets(split, batch))]
                cells = (logits, box_logits, network.points, network.strides)
                loss, _ = detection_loss(*cells, *objects, weights=settings.loss)
                losses.extend([loss.item()] * len(batch))

            found = detect(network, split, settings.suppression, accelerator, items.tolist(), note_loss)
            return list(zip(found, losses, strict=True))

        found, losses = zip(*in_parts(accelerator, len(split), measure), strict=True)
        figures = average_precision(found, split, self._classes)
        return {"loss": float(np.mean(losses)), "map_50": figures.map_50, "map": figures.map}


def _targets(split: DetectionSplit, items: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """The boxes in letterboxed images, and their labels."""
    boxes = [torch.from_numpy(split.fitted_boxes(index)) for index in items]
    return boxes, [torch.from_numpy(split.labels[index]) for index in items]


def padded(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and a mask of a batch, padded to the most objects in an image, but at least one."""
    most = max(1, *(len(one) for one in labels))
    truth = boxes[0].new_zeros((len(boxes), most, 4))
    names = labels[0].new_zeros((len(boxes), most))
    real = torch.zeros((len(boxes), most), dtype=torch.bool)
    for row, (corners, classes) in enumerate(zip(boxes, labels, strict=True)):
        truth[row, : len(corners)], names[row, : len(classes)], real[row, : len(classes)] = corners, classes, True
    return truth, names, real


@torch.no_grad()
def detect(
    network: Detector,
    split: DetectionSplit,
    suppression: Suppression,
    accelerator: Accelerator | None = None,
    items: Sequence[int] | None = None,
    see: Callable[[Sequence[int], Tensor, Tensor], None] | None = None,
) -> list[Detections]:
    """The detections in each image, in pixels of the originals.

    Args:
        network: the detector.
        split: the images.
        suppression: what is kept.
        accelerator: gives the precision; without one it is that of the network.
        items: which of the images; by default all.
        see: is given the indices of each batch, and the network's outputs for it.
    """
    device = next(network.parameters()).device
    post_process = PostProcess(network.size, suppression).to(device)
    items = range(len(split)) if items is None else items
    found = []
    for start in range(0, len(items), EVALUATION_BATCH):
        batch = list(items[start : start + EVALUATION_BATCH])
        images = torch.from_numpy(split.images[np.array(batch)]).to(device)
        with accelerator.autocast() if accelerator else contextlib.nullcontext():
            raw = network(to_pixels(images))
            outputs = post_process(*raw)
            if see:
                see(batch, *raw)
        frames = [split.letterboxes[index] for index in batch]
        found += in_originals(frames, [output.cpu().numpy() for output in outputs])
    return found


def in_originals(frames: Sequence[Letterbox], outputs: Sequence[npt.NDArray[Any]]) -> list[Detections]:
    """The detections in some images, in pixels of the originals.

    Args:
        frames: how each original is placed in its image.
        outputs: of the graph: boxes, scores, classes.
    """
    found = []
    for frame, boxes, scores, classes in zip(frames, *outputs, strict=True):
        real = scores > 0
        found.append(Detections(frame.to_original(boxes[real]), scores[real], classes[real]))
    return found
