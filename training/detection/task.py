"""What a detector learns: See `Learner`."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from service.tasks.detection.manifest import Suppression
from training.data.augment import to_pixels
from training.data.lazy import LazyImages
from training.detection.augment import BoxAugment
from training.detection.data import DetectionSplit
from training.detection.evaluation import Detections, average_precision
from training.detection.graph import Best
from training.detection.loss import LossWeights, detection_loss
from training.detection.network import Detector
from training.engine.learner import Batch, Learner, Step

EVALUATION_BATCH = 8


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """How a detector learns, in addition to `FitSettings`.

    Attributes:
        loss: weights of its parts, and the assignment.
        augment: what is done to the training images.
        calm: the fraction of the training, at its end, without mosaics (YOLOX, arXiv:2107.08430).
        iou: threshold of the non-maximum suppression while it learns; what the published graph keeps is chosen on
            the validation split afterwards (`training.detection.tuning`).
        floor: detections need a higher score than this, likewise.
        max_detections: per image.
    """

    loss: LossWeights = field(default_factory=LossWeights)
    augment: BoxAugment = field(default_factory=BoxAugment)
    calm: float = 0.15
    iou: float = 0.6
    floor: float = 0.01
    max_detections: int = 300

    @property
    def suppression(self) -> Suppression:
        """What is kept while it learns."""
        return Suppression(iou=self.iou, floor=self.floor, max_detections=self.max_detections)


class Detection(Learner):
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
        self._boxes = [torch.from_numpy(train.fitted_boxes(index)) for index in range(len(train))]
        self._labels = [torch.from_numpy(labels) for labels in train.labels]
        self._validation = validation
        self._classes = classes
        self._settings = settings
        self._mosaics = True

    def __len__(self) -> int:
        return len(self._images)

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Stops the mosaics towards the end, so that the network sees whole images."""
        self._mosaics = epoch < epochs * (1 - self._settings.calm)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        """See `Learner`."""
        augment = self._settings.augment
        pixels, boxes, labels = augment(self._images, self._boxes, self._labels, items, rng, self._mosaics)
        truth, names, real = padded(boxes, labels)
        return {"pixels": pixels, "boxes": truth, "labels": names, "real": real}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Learner`; the figures are the parts of the loss."""
        truth, names, real = batch["boxes"], batch["labels"], batch["real"]
        logits, edges = network(batch["pixels"].contiguous(memory_format=torch.channels_last))
        inner: Any = getattr(network, "module", network)  # several GPUs wrap it
        # Distances are means of distributions, which bfloat16 would round to a sixteenth of a stride.
        with torch.autocast(logits.device.type, enabled=False):
            return detection_loss(logits, edges, inner.points, inner.strides, truth, names, real, self._settings.loss)

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """See `Learner`."""
        assert isinstance(network, Detector)  # noqa: S101 - only a detector learns this
        losses: list[float] = []

        def note_loss(first: int, logits: Tensor, edges: Tensor) -> None:
            split, device = self._validation, logits.device
            batch = range(first, first + len(logits))
            boxes = [torch.from_numpy(split.fitted_boxes(index)).to(device) for index in batch]
            labels = [torch.from_numpy(split.labels[index]).to(device) for index in batch]
            loss, _ = detection_loss(
                logits, edges, network.points, network.strides, *padded(boxes, labels), self._settings.loss
            )
            losses.extend([loss.item()] * len(batch))

        found = detect(network, self._validation, self._settings, accelerator, note_loss)
        figures = average_precision(found, self._validation, self._classes)
        return {"loss": float(np.mean(losses)), "map_50": figures.map_50, "map": figures.map}


def padded(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and a mask of a batch, padded to the most objects in an image, but at least one."""
    most = max(1, *(len(one) for one in labels))
    truth = boxes[0].new_zeros((len(boxes), most, 4))
    names = labels[0].new_zeros((len(boxes), most))
    real = torch.zeros((len(boxes), most), dtype=torch.bool, device=truth.device)
    for row, (corners, classes) in enumerate(zip(boxes, labels, strict=True)):
        truth[row, : len(corners)], names[row, : len(classes)], real[row, : len(classes)] = corners, classes, True
    return truth, names, real


@torch.no_grad()
def detect(
    network: Detector,
    split: DetectionSplit,
    settings: DetectionSettings,
    accelerator: Accelerator | None = None,
    see: Callable[[int, Tensor, Tensor], None] | None = None,
) -> list[Detections]:
    """The detections in each image, in pixels of the originals.

    Args:
        network: the detector.
        split: the images.
        settings: of the suppression.
        accelerator: gives the precision; without one it is that of the network.
        see: is given the index of the first image of each batch, and the network's outputs for it.
    """
    device = next(network.parameters()).device
    best = Best(network.size, settings.suppression).to(device)
    found = []
    for start in range(0, len(split), EVALUATION_BATCH):
        batch = torch.from_numpy(split.images[start : start + EVALUATION_BATCH]).to(device)
        with accelerator.autocast() if accelerator else contextlib.nullcontext():
            raw = network(to_pixels(batch))
            outputs = best(*raw)
            if see:
                see(start, *raw)
        found += in_originals(split, start, [output.cpu().numpy() for output in outputs])
    return found


def in_originals(split: DetectionSplit, start: int, outputs: Sequence[npt.NDArray[Any]]) -> list[Detections]:
    """The detections of a batch, in pixels of the originals.

    Args:
        split: of the images.
        start: the index of the batch's first image.
        outputs: of the graph: boxes, scores, classes.
    """
    found = []
    for index, (boxes, scores, classes) in enumerate(zip(*outputs, strict=True), start):
        real = scores > 0
        found.append(Detections(split.letterboxes[index].to_original(boxes[real]), scores[real], classes[real]))
    return found
