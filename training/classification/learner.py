"""What an image classifier learns: labels, and what a larger network makes of the images if there is one."""

import contextlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from training.classification.distill import Teaching, distillation_loss, feature_loss, soften
from training.classification.network import Transfer, mirrored
from training.data.augment import Augment, PhotoAugment, cutmix, mixup, to_pixels
from training.data.images import ImageSplit
from training.data.lazy import Images, LazyImages
from training.engine.learner import Batch, Learner, Step
from training.engine.loader import batch_of
from training.engine.progress import track
from training.export.calibration import fit_temperature

EVALUATION_BATCH = 500
# The most pixels in such a batch, at the size that the network works at: photographs are evaluated a few at a time.
EVALUATION_PIXELS = 1 << 21


@dataclass(frozen=True, slots=True)
class ClassificationSettings:
    """How a classifier learns, in addition to `FitSettings`; see `LossOptions`.

    `distill_temperature` softens the teacher's prediction and the network's before they are compared. `class_weights`
    are those of `training.classification.choice.class_weights`.
    """

    label_smoothing: float = 0.1
    distill: float = 0.7
    distill_features: float = 0.0
    distill_temperature: float = 2.0
    class_weights: tuple[float, ...] = ()
    augment: Augment | PhotoAugment = field(default_factory=Augment)


class Classification(Learner):
    """Learns the labels of `train`; the accuracy on `validation` chooses the epoch.

    A teacher's features are learned by a network that is `training.classification.distill.Guided`.

    Args:
        train: the training images.
        validation: those that choose.
        settings: how they are learned.
        teacher: its predictions.
        break_ties: whether the likelihood decides between equal accuracies, which are common with few images.
    """

    unit = "images"
    score = "accuracy"

    def __init__(
        self,
        train: ImageSplit,
        validation: ImageSplit,
        settings: ClassificationSettings,
        teacher: Teaching | None = None,
        *,
        break_ties: bool = False,
    ) -> None:
        if break_ties:
            self.score = "score"
        self.images = train.images
        self.decodes = isinstance(train.images, LazyImages)
        self.labels = torch.from_numpy(train.labels)
        self.settings = settings
        self._validation = validation
        self._side = 0
        self._class_weights = torch.tensor(settings.class_weights) if settings.class_weights else None
        self._teacher: list[Tensor] = []
        if teacher:
            self._teacher.append(soften(torch.from_numpy(teacher.probabilities), settings.distill_temperature))
        if teacher and teacher.features is not None:
            self._teacher.append(torch.from_numpy(teacher.features))

    def __len__(self) -> int:
        return len(self.labels)

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:
        if isinstance(network, Transfer):
            network.set_progress(epoch / epochs)
            self._side = network.training_size

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        images, augment = batch_of(self.images, items), self.settings.augment
        if isinstance(augment, PhotoAugment):
            height, width = images.shape[1:3]
            size = (self._side, self._side) if self._side else (height, width)
            images = augment(images, items, epoch, size, rng)
        return {"images": images, "items": items, "labels": self.labels[items]}

    def pixels(self, batch: Batch, step: Step) -> Tensor:
        """What the network gets of a batch, augmented."""
        augment = self.settings.augment
        if isinstance(augment, PhotoAugment):
            return to_pixels(batch["images"])
        return augment(batch["images"], batch["items"], step.epoch, step.rng)

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        settings, augment, target = self.settings, self.settings.augment, batch["labels"]
        pixels = self.pixels(batch, step)
        view = augment.mirrored(step.items, step.epoch).long()
        targets = [part[view, step.items].to(step.device).float() for part in self._teacher]
        partner, kept = None, 1.0
        if pixels.ndim == 4 and augment.cutmix + augment.mixup:
            drawn = torch.rand((), generator=step.shared_rng)
            if drawn < augment.cutmix:
                pixels, partner, kept = cutmix(pixels, step.rng)
            elif drawn < augment.cutmix + augment.mixup:
                pixels, partner, kept = mixup(pixels, step.rng)
        answer = network(pixels)
        logits, mapped = answer if isinstance(answer, tuple) else (answer, None)
        logits = logits.float()
        truth = F.one_hot(target, logits.shape[1]).float()
        if partner is not None:
            truth, *targets = (part.lerp(part[partner], 1 - kept) for part in (truth, *targets))
        softened = targets[0] if targets else None
        weights = settings.label_smoothing, settings.distill, settings.distill_temperature
        by_class = self._class_weights.to(step.device) if self._class_weights is not None else None
        loss = distillation_loss(logits, truth, softened, *weights, by_class)
        if mapped is not None:
            loss = loss + settings.distill_features * feature_loss(mapped.float(), targets[1])
        return loss, label_figures(logits.detach(), target)

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        return self.figures(predict(network, self._validation.images, accelerator))

    def figures(self, logits: npt.NDArray[np.float32]) -> dict[str, float]:
        """Those of validation: cross-entropy, accuracy, and the score if ties are broken."""
        labels = torch.from_numpy(self._validation.labels)
        found = label_figures(torch.from_numpy(logits), labels)
        figures = {"loss": found["cross_entropy"].item(), "accuracy": found["accuracy"].item()}
        if self.score == "score":
            scaled = torch.from_numpy(logits) / fit_temperature(logits, self._validation.labels)
            likelihood = torch.exp(-F.cross_entropy(scaled, labels)).item()
            # Less than the accuracy of one more image.
            figures["score"] = figures["accuracy"] + 0.5 * likelihood / len(labels)
        return figures


class HeadOnFeatures(Classification):
    """Learns the head of a network whose backbone is frozen, on features that were computed once.

    Args (beside those of `Classification`):
        features: of the training images, as they are and mirrored, float32, shape (2, n, features).
        validated: of the validation images, shape (m, features).
    """

    def __init__(
        self,
        train: ImageSplit,
        validation: ImageSplit,
        settings: ClassificationSettings,
        teacher: Teaching | None,
        features: npt.NDArray[np.float32],
        validated: npt.NDArray[np.float32],
    ) -> None:
        super().__init__(train, validation, settings, teacher, break_ties=True)
        self.decodes = False
        self._features, self._validated = torch.from_numpy(features), torch.from_numpy(validated)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        view = self.settings.augment.mirrored(items, epoch).long()
        return {"features": self._features[view, items], "items": items, "labels": self.labels[items]}

    def pixels(self, batch: Batch, step: Step) -> Tensor:
        features: Tensor = batch["features"]
        return features

    @torch.no_grad()
    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        network.eval()
        return self.figures(network(self._validated.to(next(network.parameters()).device)).float().cpu().numpy())


def label_figures(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Cross-entropy with the labels as they are, whatever else is in the loss, and accuracy."""
    return {"cross_entropy": F.cross_entropy(logits, target), "accuracy": (logits.argmax(1) == target).float().mean()}


@torch.no_grad()
def predict(
    model: nn.Module, images: Images, accelerator: Accelerator | None = None, *, flip: bool = False, title: str = ""
) -> npt.NDArray[np.float32]:
    """Logits, shape (n, classes), of uint8 images, shape (n, height, width, channels), without augmentation.

    Args:
        model: a classifier; one that enlarges its images has their side in pixels as its attribute `size`.
        images: in memory or on disk.
        accelerator: gives the precision; without one it is that of the model.
        flip: average over each image and its mirror image.
        title: of a progress bar; none without it.
    """
    model.eval()
    device = next(model.parameters()).device
    side = int(getattr(model, "size", 0))
    pixels_each = max(images.shape[1] * images.shape[2], side * side) * (2 if flip else 1)
    batch = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // pixels_each))
    logits = []
    starts = range(0, len(images), batch)
    for start in track(starts, title) if title else starts:
        pixels = to_pixels(torch.from_numpy(images[start : start + batch]).to(device))
        with accelerator.autocast() if accelerator else contextlib.nullcontext():
            logits.append((mirrored(model, pixels) if flip else model(pixels)).float().cpu())
    return torch.cat(logits).numpy()
