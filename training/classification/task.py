"""What an image classifier learns: labels, and the predictions of a larger network if there is one."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.augment import Augment, cutmix
from training.classification.distill import distillation_loss, soften
from training.classification.network import Transfer
from training.images import ImageSplit
from training.labels import LabelledImages, label_figures
from training.lazy import batch_of
from training.task import Draw


@dataclass(frozen=True, slots=True)
class ClassificationSettings:
    """How a classifier learns, in addition to `FitSettings`.

    Attributes:
        label_smoothing: probability mass that is spread over all classes.
        distill: the weight of the teacher's prediction in the loss, if there is a teacher; the label has the rest.
        distill_temperature: what softens the teacher's prediction and the network's before they are compared.
        augment: what is done to the training images.

    Raises:
        ValueError: a fraction outside of 0 to 1.
    """

    label_smoothing: float = 0.1
    distill: float = 0.7
    distill_temperature: float = 2.0
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        for option, fraction in (
            ("label-smoothing", self.label_smoothing),
            ("distill", self.distill),
            ("cutmix", self.augment.cutmix),
        ):
            if not 0 <= fraction <= 1:
                raise ValueError(f"--{option} {fraction:g}: must be at least 0 and at most 1")


class Classification(LabelledImages):
    """See `training.task.Task`.

    Args:
        train: the images to learn from.
        validation: the images that choose the epoch.
        settings: of the loss and the augmentation.
        teacher: probabilities, shape (2, images, classes), that another network predicts for each training image as
            it is and mirrored; see `training.classification.distill`.
    """

    def __init__(
        self,
        train: ImageSplit,
        validation: ImageSplit,
        settings: ClassificationSettings,
        teacher: npt.NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(train, validation, settings.augment, settings.label_smoothing)
        self._settings = settings
        self._soft = None if teacher is None else soften(torch.from_numpy(teacher), settings.distill_temperature)

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Enlarges the images of a network that starts with small ones."""
        if isinstance(network, Transfer):
            network.set_progress(epoch / epochs)

    def loss(
        self, network: nn.Module, items: Tensor, epoch: int, draw: Draw, device: torch.device
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `training.task.Task`; the figures are the cross-entropy with the labels as they are, and the accuracy."""
        settings, soft = self._settings, self._soft
        pixels = self.augment(batch_of(self.images, items).to(device), items.to(device), epoch, draw.own)
        target = self.labels[items].to(device)
        softened = None if soft is None else soft[self.augment.mirrored(items, epoch).long(), items].to(device)
        partner, kept = None, 1.0
        if self.augment.cutmix and torch.rand((), generator=draw.shared) < self.augment.cutmix:
            pixels, partner, kept = cutmix(pixels, draw.own)
        logits = network(pixels).float()
        truth = F.one_hot(target, logits.shape[1]).float()
        if partner is not None:
            truth = truth.lerp(truth[partner], 1 - kept)
            softened = None if softened is None else softened.lerp(softened[partner], 1 - kept)
        loss = distillation_loss(
            logits,
            truth,
            softened,
            label_smoothing=self.label_smoothing,
            weight=settings.distill,
            temperature=settings.distill_temperature,
        )
        return loss, label_figures(logits.detach(), target)
