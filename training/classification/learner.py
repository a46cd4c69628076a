"""What an image classifier learns: labels, and what a larger network makes of the images if there is one."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.classification.distill import Teaching, distillation_loss, feature_loss, soften
from training.classification.labels import LabelledImages, label_figures
from training.classification.network import Transfer
from training.data.augment import Augment, cutmix
from training.data.images import ImageSplit
from training.engine.learner import Batch, Step


@dataclass(frozen=True, slots=True)
class ClassificationSettings:
    """How a classifier learns, in addition to `FitSettings`.

    Attributes:
        label_smoothing: probability mass that is spread over all classes.
        distill: the weight of the teacher's prediction in the loss, if there is a teacher; the label has the rest.
        distill_features: the weight of the loss of the teacher's features, which is added to that of the predictions.
        distill_temperature: what softens the teacher's prediction and the network's before they are compared.
        augment: what is done to the training images.
    """

    label_smoothing: float = 0.1
    distill: float = 0.7
    distill_features: float = 0.0
    distill_temperature: float = 2.0
    augment: Augment = field(default_factory=Augment)


class Classification(LabelledImages):
    """See `Learner`.

    Args:
        train: the images to learn from.
        validation: the images that choose the epoch.
        settings: of the loss and the augmentation.
        teacher: what another network makes of the training images; its features are learned by a network that is
            `training.classification.distill.Guided`.
    """

    def __init__(
        self,
        train: ImageSplit,
        validation: ImageSplit,
        settings: ClassificationSettings,
        teacher: Teaching | None = None,
    ) -> None:
        super().__init__(train, validation, settings.augment, settings.label_smoothing)
        self._settings = settings
        self._soft = self._features = None
        if teacher:
            self._soft = soften(torch.from_numpy(teacher.probabilities), settings.distill_temperature)
        if teacher and teacher.features is not None:
            self._features = torch.from_numpy(teacher.features)

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Enlarges the images of a network that starts with small ones."""
        if isinstance(network, Transfer):
            network.set_progress(epoch / epochs)

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Learner`; the figures are the cross-entropy with the labels as they are, and the accuracy."""
        settings = self._settings
        pixels = self.augment(batch["images"], batch["items"], step.epoch, step.rng)
        target = batch["labels"]
        view = self.augment.mirrored(step.items, step.epoch).long()
        softened, features = (
            None if part is None else part[view, step.items].to(step.device).float()
            for part in (self._soft, self._features)
        )
        partner, kept = None, 1.0
        if self.augment.cutmix and torch.rand((), generator=step.shared_rng) < self.augment.cutmix:
            pixels, partner, kept = cutmix(pixels, step.rng)
        answer = network(pixels)
        logits, mapped = answer if isinstance(answer, tuple) else (answer, None)
        logits = logits.float()
        truth = F.one_hot(target, logits.shape[1]).float()
        if partner is not None:
            truth = truth.lerp(truth[partner], 1 - kept)
            softened, features = (
                None if part is None else part.lerp(part[partner], 1 - kept) for part in (softened, features)
            )
        loss = distillation_loss(
            logits,
            truth,
            softened,
            label_smoothing=self.label_smoothing,
            weight=settings.distill,
            temperature=settings.distill_temperature,
        )
        if mapped is not None and features is not None:
            loss = loss + settings.distill_features * feature_loss(mapped.float(), features)
        return loss, label_figures(logits.detach(), target)
