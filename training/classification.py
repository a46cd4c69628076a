"""What an image classifier learns: labels, and the answers of a larger network where there is one."""

import contextlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from training.augment import Augment, cutmix, to_pixels
from training.data import ImageSplit
from training.distill import loss_of, soften
from training.fit import Draw
from training.networks import Transfer, mirrored

EVALUATION_BATCH = 500
# Of the images of such a batch together, as the network sees them: photographs go through a few at a time.
EVALUATION_PIXELS = 1 << 21


@dataclass(frozen=True, slots=True)
class ClassificationSettings:
    """How a classifier learns, beside `FitSettings`.

    Attributes:
        label_smoothing: probability mass that is spread over all classes.
        distill: the weight of the teacher's answer in the loss, where there is a teacher; the label has the rest.
        distill_temperature: what softens the teacher's answer and the network's before they are compared.
        augment: what is done to the training images.

    Raises:
        ValueError: a share that is none.
    """

    label_smoothing: float = 0.1
    distill: float = 0.7
    distill_temperature: float = 2.0
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        for option, share in (
            ("label-smoothing", self.label_smoothing),
            ("distill", self.distill),
            ("cutmix", self.augment.cutmix),
        ):
            if not 0 <= share <= 1:
                raise ValueError(f"--{option} {share:g}: is a share, at least 0 and at most 1")


class Classification:
    """See `training.fit.Task`.

    Args:
        train: the images to learn from.
        validation: the images that choose the epoch.
        settings: of the loss and the augmentation.
        teacher: probabilities, shape (2, images, classes), that another network gives to each training image as it
            is and mirrored; see `training.distill`.
    """

    unit = "images"
    score = "accuracy"

    def __init__(
        self,
        train: ImageSplit,
        validation: ImageSplit,
        settings: ClassificationSettings,
        teacher: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self._images = torch.from_numpy(train.images)
        self._labels = torch.from_numpy(train.labels)
        self._validation = validation
        self._settings = settings
        self._soft = None if teacher is None else soften(torch.from_numpy(teacher), settings.distill_temperature)

    def __len__(self) -> int:
        return len(self._labels)

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:  # noqa: ARG002 - the task's signature
        """Any, anew in every epoch."""
        return torch.randperm(len(self), generator=generator)

    def begin(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Lets the images of a network that starts with small ones grow."""
        if isinstance(network, Transfer):
            network.set_progress(epoch / epochs)

    def loss(
        self, network: nn.Module, items: Tensor, epoch: int, draw: Draw, device: torch.device
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `training.fit.Task`; the figure is the accuracy."""
        settings, soft = self._settings, self._soft
        pixels = settings.augment(self._images[items].to(device), items.to(device), epoch, draw.own)
        target = self._labels[items].to(device)
        answer = None if soft is None else soft[settings.augment.mirrored(items, epoch).long(), items].to(device)
        partner, kept = None, 1.0
        if settings.augment.cutmix and torch.rand((), generator=draw.shared) < settings.augment.cutmix:
            pixels, partner, kept = cutmix(pixels, draw.own)
        logits = network(pixels).float()
        truth = F.one_hot(target, logits.shape[1]).float()
        if partner is not None:
            truth = truth.lerp(truth[partner], 1 - kept)
            answer = None if answer is None else answer.lerp(answer[partner], 1 - kept)
        loss = loss_of(
            logits,
            truth,
            answer,
            label_smoothing=settings.label_smoothing,
            weight=settings.distill,
            temperature=settings.distill_temperature,
        )
        return loss, {"accuracy": (logits.detach().argmax(1) == target).float().mean()}

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """See `training.fit.Task`."""
        outputs = torch.from_numpy(predict(network, self._validation.images, accelerator))
        target = torch.from_numpy(self._validation.labels)
        return {
            "loss": F.cross_entropy(outputs, target).item(),
            "accuracy": (outputs.argmax(1) == target).float().mean().item(),
        }


@torch.no_grad()
def predict(
    model: nn.Module, images: npt.NDArray[np.uint8], accelerator: Accelerator | None = None, *, mirror: bool = False
) -> npt.NDArray[np.float32]:
    """Logits, shape (n, classes), of uint8 images, shape (n, height, width, channels), without augmentation.

    With an accelerator on its device and in its precision, otherwise where the model is, in its own. With `mirror`
    the mean over each image and its mirror image.
    """
    model.eval()
    device = next(model.parameters()).device
    side = model.size if isinstance(model, Transfer) else 0
    seen = max(images.shape[1] * images.shape[2], side * side) * (2 if mirror else 1)
    batch = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // seen))
    logits = []
    for start in range(0, len(images), batch):
        pixels = to_pixels(torch.from_numpy(images[start : start + batch]).to(device))
        with accelerator.autocast() if accelerator else contextlib.nullcontext():
            logits.append((mirrored(model, pixels) if mirror else model(pixels)).float().cpu())
    return torch.cat(logits).numpy()
