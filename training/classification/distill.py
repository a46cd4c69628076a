"""Knowledge distillation from a teacher's predictions (Hinton et al. 2015, arXiv:1503.02531) and features.

Features are learned through a linear map that exists only in training (Romero et al. 2014, arXiv:1412.6550; Chen et al.
2022, arXiv:2210.15274).
"""

import hashlib
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from service.inference.cuda import serving_device
from service.inference.manifest import MODEL, sha256
from service.inference.session import Session
from service.tasks.classification.manifest import ClassifierManifest
from training.backbones.cnn import CNN
from training.data.images import ImageData
from training.engine.atomic import replacing
from training.engine.progress import track
from training.export.distances import Writer, without_ood
from training.export.layers import answer_with, penultimate
from training.registry import read_manifest


class Teaching(NamedTuple):
    """What a teacher makes of every training image, as it is and mirrored.

    Attributes:
        probabilities: float32, shape (2, images, classes): of the images as they are, and mirrored.
        features: float16, shape (2, images, features): what the teacher's last layer gets, less its mean over the
            images; None if they were not asked for.
    """

    probabilities: npt.NDArray[np.float32]
    features: npt.NDArray[np.float16] | None = None


def teach(version: Path, data: ImageData, cache: Path, console: Console, *, features: bool = False) -> Teaching:
    """Runs a teacher on every training image; `cache` is a folder that keeps the answers for a resumed run.

    Raises:
        ValueError: `version` is no published classifier of the same classes and image size.
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
    seen = f"{sha256(version / MODEL)} {data.fingerprint} {len(data.train)} {features}"
    path = cache / f"teacher-{hashlib.sha256(seen.encode()).hexdigest()[:12]}.npz"
    if path.is_file():
        try:
            with path.open("rb") as file, np.load(file) as saved:
                return Teaching(*saved.values())
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            console.print(f"{path} is damaged: the teacher is asked again.", style="yellow")
    model = without_ood(onnx.load(version / MODEL))
    wanted = [model.graph.output[0].name]
    if features:
        wanted.append(Writer(model).features(penultimate(model), "features"))
    answer_with(model, wanted)
    with tempfile.TemporaryDirectory() as scratch:
        onnx.save(model, Path(scratch) / MODEL)
        session = Session(Path(scratch) / MODEL, serving_device("auto"))
    name = session.inputs[0]
    parts = []
    starts = range(0, len(data.train), manifest.max_batch)
    for start in track(starts, f"Predictions of {manifest.name} {version.name}"):
        images = data.train.images[start : start + manifest.max_batch]
        views = [session.run({name: pixels}) for pixels in (images, np.ascontiguousarray(images[:, :, ::-1]))]
        probabilities, *others = (np.stack(both) for both in zip(*views, strict=True))
        parts.append([probabilities, *(array.astype(np.float16) for array in others)])
    answers = [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]
    if features:
        answers[1] -= answers[1].mean((0, 1), dtype=np.float32).astype(np.float16)
    with replacing(path) as partial, partial.open("wb") as written:
        np.savez(written, *answers)
    return Teaching(*answers)


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    """The probabilities at another temperature, shape kept."""
    return torch.softmax(probabilities.clamp_min(1e-8).log() / temperature, dim=-1)


def distillation_loss(
    logits: Tensor,
    truth: Tensor,
    softened: Tensor | None,
    label_smoothing: float,
    weight: float,
    temperature: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy with the labels and, if there is a teacher, with its predictions at a temperature.

    `truth` (one-hot, or mixed by CutMix) and `softened` have the shape of the logits, (batch, classes). The teacher's
    part has the weight `weight`, the labels have the rest, each item times the weight of its classes if there are
    `class_weights`, shape (classes,).
    """
    hard = F.cross_entropy(logits, truth, class_weights, label_smoothing=label_smoothing)
    if softened is None:
        return hard
    # The gradient of softened predictions shrinks with the square of the temperature.
    soft = F.cross_entropy(logits / temperature, softened) * temperature**2
    return (1 - weight) * hard + weight * soft


class Guided(nn.Module):
    """A CNN in training, with a linear map from its features to those of a teacher, of which there are `features`.

    In training mode it returns logits, shape (batch, classes), and mapped features, shape (batch, features); in
    evaluation mode the logits alone, as the CNN does.
    """

    def __init__(self, network: CNN, features: int) -> None:
        super().__init__()
        self.inner = network  # as `training.engine.weights.INNER` says
        self.map = nn.Linear(network.head.in_features, features)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.training:
            logits: Tensor = self.inner(pixels)
            return logits
        features = self.inner.features(pixels)
        return self.inner.head(self.inner.dropout(features)), self.map(features)


def feature_loss(mapped: Tensor, features: Tensor) -> Tensor:
    """One less the cosine between the mapped features and the teacher's, both of shape (batch, features); the mean."""
    return 1 - F.cosine_similarity(mapped, features).mean()
