"""What a detector learns: see `Learner`."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from service.tasks.detection.manifest import Suppression
from training.data.augment import to_pixels
from training.data.lazy import LazyImages
from training.detection.augment import augment
from training.detection.data import DetectionSplit, IntArray
from training.detection.evaluation import EVALUATION_BATCH, Detections, average_precision, in_originals
from training.detection.graph import PostProcess
from training.detection.loss import LossWeights, detection_loss
from training.detection.network import CellNetwork, Detector
from training.detection.options import AugmentOptions
from training.engine.learner import Batch, Learner, Step
from training.engine.processes import in_parts


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """How a detector learns, in addition to `FitSettings`.

    Attributes:
        mosaic_off_fraction: the fraction of the training, at its end, without mosaics (YOLOX, arXiv:2107.08430).
        iou: threshold of the non-maximum suppression during training; that of the published graph is chosen on the
            validation split afterwards, as is `score_threshold`.
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
        return Suppression(iou=self.iou, floor=self.score_threshold, max_detections=self.max_detections)


class DetectionLearner(Learner):
    """Learns from `train`; `validation` chooses the epoch."""

    unit = "images"
    score = "map"

    def __init__(
        self, train: DetectionSplit, validation: DetectionSplit, classes: tuple[str, ...], settings: DetectionSettings
    ) -> None:
        self._images, self._validation, self._classes, self._settings = train.images, validation, classes, settings
        self.decodes = isinstance(train.images, LazyImages)
        self._boxes, self._labels = _targets(train, range(len(train)))
        self._mosaics = True

    def __len__(self) -> int:
        return len(self._images)

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:
        # Towards the end the network sees whole images.
        self._mosaics = epoch < epochs * (1 - self._settings.mosaic_off_fraction)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        settings, mosaics = self._settings.augment, self._mosaics
        pixels, boxes, labels = augment(settings, self._images, self._boxes, self._labels, items, rng, mosaics=mosaics)
        return {"pixels": pixels, "objects": padded(boxes, labels)}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        logits, box_logits = network(batch["pixels"].contiguous(memory_format=torch.channels_last))
        inner: Any = getattr(network, "module", network)  # several GPUs wrap it
        # Distances are means of distributions, which bfloat16 would round to a sixteenth of a stride.
        with torch.autocast(logits.device.type, enabled=False):
            cells = (logits, box_logits, inner.points, inner.strides)
            return detection_loss(*cells, batch["objects"], self._settings.loss)

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        assert isinstance(network, Detector)  # noqa: S101 - only a detector learns this
        split = self._validation

        def measure(items: IntArray) -> list[tuple[Detections, float]]:
            losses: list[float] = []

            def note_loss(batch: IntArray, logits: Tensor, box_logits: Tensor) -> None:
                truth, labels, real = (part.to(logits.device) for part in padded(*_targets(split, batch.tolist())))
                cells = (logits, box_logits, network.points, network.strides)
                loss, _ = detection_loss(*cells, (truth, labels, real), self._settings.loss)
                losses.extend([loss.item()] * len(batch))

            found = detect(network, split, self._settings.suppression, accelerator, items, note_loss)
            return list(zip(found, losses, strict=True))

        found, losses = zip(*in_parts(accelerator, len(split), measure), strict=True)
        figures = average_precision(found, split, self._classes)
        return {"loss": float(np.mean(losses)), "map_50": figures.map_50, "map": figures.map}


def _targets(split: DetectionSplit, items: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    boxes = [torch.from_numpy(split.fitted_boxes(index)) for index in items]
    return boxes, [torch.from_numpy(split.labels[index]) for index in items]


def padded(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and a mask of a batch, padded to the most objects in an image, but at least one."""
    parts = [*boxes, torch.zeros(1, 4)], [*labels, torch.zeros(1, dtype=torch.long)]
    truth, names = (pad_sequence(part, batch_first=True)[:-1] for part in parts)
    counts = torch.tensor([len(one) for one in labels])
    return truth, names, torch.arange(truth.shape[1]) < counts[:, None]


@torch.no_grad()
def detect(
    network: CellNetwork,
    split: DetectionSplit,
    suppression: Suppression,
    accelerator: Accelerator | None = None,
    items: IntArray | None = None,
    see: Callable[[IntArray, Tensor, Tensor], None] | None = None,
) -> list[Detections]:
    """The detections in each image, in pixels of the originals.

    Args:
        accelerator: gives the precision; without one it is that of the network.
        items: which of the images; by default all.
        see: is given the indices of each batch, and the network's outputs for it.
    """
    device = next(network.parameters()).device
    post_process = PostProcess(network.size, suppression).to(device)
    items = np.arange(len(split)) if items is None else items
    found = []
    for start in range(0, len(items), EVALUATION_BATCH):
        batch = items[start : start + EVALUATION_BATCH]
        images = torch.from_numpy(split.images[batch]).to(device)
        with accelerator.autocast() if accelerator else contextlib.nullcontext():
            raw = network(to_pixels(images))
            outputs = post_process(*raw)
            if see:
                see(batch, *raw)
        frames = [split.letterboxes[index] for index in batch]
        found += in_originals(frames, [output.cpu().numpy() for output in outputs])
    return found
