"""Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531): a teacher's predictions, and the loss with them."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from service.inference.manifest import MODEL, sha256
from service.inference.session import Session
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.registry import read_manifest
from training.images import ImageData
from training.progress import track


def teach(version: Path, data: ImageData, cache: Path) -> npt.NDArray[np.float32]:
    """The teacher's probabilities for every training image, as it is and mirrored.

    Two views instead of every augmented one: to run the teacher at each step would cost more than the training.

    Args:
        version: the folder of a published classifier of the same classes and image size.
        data: the images.
        cache: a folder that keeps the predictions for a resumed run.

    Returns:
        float32, shape (2, images, classes): as they are, and mirrored.

    Raises:
        ValueError: the model does not fit the data.
    """
    manifest = read_manifest(version)
    if not isinstance(manifest, ClassifierManifest):
        raise ValueError(f"{version}: is a model for {manifest.task}; a teacher must be an image classifier")
    image = manifest.image
    shape = (image.height, image.width, image.channels)
    if manifest.labels != data.classes or shape != data.shape:
        raise ValueError(
            f"{version}: was made for {len(manifest.labels)} classes and images of {shape}; the data has "
            f"{len(data.classes)} classes and images of {data.shape}"
        )
    key = hashlib.sha256(f"{sha256(version / MODEL)} {data.fingerprint} {len(data.train)}".encode()).hexdigest()
    path = cache / f"teacher-{key[:12]}.npy"
    if path.is_file():
        predictions: npt.NDArray[np.float32] = np.load(path)
        return predictions
    session = Session(version / MODEL, "auto")
    name = session.inputs[0]
    starts = range(0, len(data.train), manifest.max_batch)
    predictions = np.empty((2, len(data.train), len(data.classes)), dtype=np.float32)
    for start in track(starts, f"Predictions of {manifest.name} {version.name}"):
        images = data.train.images[start : start + manifest.max_batch]
        for view, pixels in enumerate((images, np.ascontiguousarray(images[:, :, ::-1]))):
            predictions[view, start : start + len(images)] = session.run({name: pixels})[0]
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, predictions)
    return predictions


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    """The probabilities at another temperature, shape kept."""
    return torch.softmax(probabilities.clamp_min(1e-8).log() / temperature, dim=-1)


def distillation_loss(
    logits: Tensor,
    truth: Tensor,
    softened: Tensor | None,
    *,
    label_smoothing: float,
    weight: float,
    temperature: float,
) -> Tensor:
    """Cross-entropy with the labels and, if there is a teacher, with its predictions.

    Args:
        logits: shape (batch, classes).
        truth: the labels, one-hot or mixed by CutMix, shape (batch, classes).
        softened: the teacher's probabilities at `temperature`, shape (batch, classes), or None without a teacher.
        label_smoothing: of `truth`.
        weight: of the teacher's part; the labels have the rest.
        temperature: of the teacher's part.
    """
    hard = F.cross_entropy(logits, truth, label_smoothing=label_smoothing)
    if softened is None:
        return hard
    # The gradient of softened predictions shrinks with the square of the temperature.
    soft = F.cross_entropy(logits / temperature, softened) * temperature**2
    return (1 - weight) * hard + weight * soft
