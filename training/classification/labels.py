"""Learning the labels of images: the task of a plain classifier, such as the one that judges generated images."""

import contextlib

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from training.data.augment import Augment, to_pixels
from training.data.images import ImageSplit
from training.data.lazy import Images, LazyImages, batch_of
from training.engine.learner import Batch, Learner, Step

EVALUATION_BATCH = 500
# The most pixels in such a batch, at the size that the network works at: photographs are evaluated a few at a time.
EVALUATION_PIXELS = 1 << 21


class LabelledImages(Learner):
    """See `Learner`.

    Args:
        train: the images to learn from.
        validation: the images that choose the epoch.
        augment: what is done to the training images.
        label_smoothing: probability mass that is spread over all classes.
    """

    unit = "images"
    score = "accuracy"

    def __init__(
        self, train: ImageSplit, validation: ImageSplit, augment: Augment, label_smoothing: float = 0.1
    ) -> None:
        self.images = train.images
        self.decodes = isinstance(train.images, LazyImages)
        self.labels = torch.from_numpy(train.labels)
        self.augment = augment
        self.label_smoothing = label_smoothing
        self._validation = validation

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        """See `Learner`."""
        return {"images": batch_of(self.images, items), "items": items, "labels": self.labels[items]}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Learner`; the figures are the cross-entropy with the labels as they are, and the accuracy."""
        pixels = self.augment(batch["images"], batch["items"], step.epoch, step.rng)
        target = batch["labels"]
        logits = network(pixels).float()
        truth = F.one_hot(target, logits.shape[1]).float()
        loss = F.cross_entropy(logits, truth, label_smoothing=self.label_smoothing)
        return loss, label_figures(logits.detach(), target)

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """See `Learner`."""
        outputs = torch.from_numpy(predict(network, self._validation.images, accelerator))
        target = torch.from_numpy(self._validation.labels)
        figures = label_figures(outputs, target)
        return {"loss": figures["cross_entropy"].item(), "accuracy": figures["accuracy"].item()}


def label_figures(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What training and validation have in common, whatever else is in the loss: cross-entropy and accuracy."""
    return {
        "cross_entropy": F.cross_entropy(logits, target),
        "accuracy": (logits.argmax(1) == target).float().mean(),
    }


@torch.no_grad()
def predict(
    model: nn.Module, images: Images, accelerator: Accelerator | None = None, *, flip: bool = False
) -> npt.NDArray[np.float32]:
    """Logits, shape (n, classes), of uint8 images, shape (n, height, width, channels), without augmentation.

    Args:
        model: a classifier; one that enlarges its images has their side in pixels as its attribute `size`.
        images: the images.
        accelerator: gives the precision; without one it is that of the model.
        flip: whether to average over each image and its mirror image.
    """
    model.eval()
    device = next(model.parameters()).device
    side = int(getattr(model, "size", 0))
    pixels_each = max(images.shape[1] * images.shape[2], side * side) * (2 if flip else 1)
    batch = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // pixels_each))
    logits = []
    for start in range(0, len(images), batch):
        pixels = to_pixels(torch.from_numpy(images[start : start + batch]).to(device))
        with accelerator.autocast() if accelerator else contextlib.nullcontext():
            logits.append((mirrored(model, pixels) if flip else model(pixels)).float().cpu())
    return torch.cat(logits).numpy()


def mirrored(network: nn.Module, pixels: Tensor) -> Tensor:
    """A classifier's logits, averaged over the images and their mirror images; shaped as its own.

    Both pass through as one batch, so that an exported graph holds the network once.
    """
    logits: Tensor = network(torch.cat((pixels, pixels.flip(3))))
    return logits.unflatten(0, (2, -1)).mean(0)
