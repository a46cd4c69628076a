"""The typed card beside every model: what it is, how to feed it, how good it is, what made it.

`models/<name>/<version>/` holds `model.onnx`, `manifest.json`, `golden.npz`, `report/` and whatever else the
task needs; the manifest names the sha256 of each file that serving reads. One pydantic model per task.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MANIFEST = "manifest.json"
MODEL = "model.onnx"
GOLDEN = "golden.npz"

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Probability = Annotated[float, Field(ge=0, le=1)]


class InvalidModel(Exception):
    """A version on disk cannot be served; the message says why."""


class Card(BaseModel):
    """A part of a manifest: unknown fields are an error, so that a typing slip never passes for a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(Card):
    """One input or output of the graph.

    Attributes:
        name: as in the graph.
        dtype: as numpy names it.
        shape: -1 is a dynamic axis; the first axis is the batch.
    """

    name: str
    dtype: Literal["uint8", "int64", "float32"]
    shape: tuple[int, ...]


class DataCard(Card):
    """What a model learned from and was measured on.

    Attributes:
        name: the data set, with whatever sets this copy apart.
        fingerprint: sha256 over all pixels and labels in order.
        train: how many items trained it; likewise `validation` and `test`.
    """

    name: str
    fingerprint: str
    train: int
    validation: int
    test: int


class TrainingCard(Card):
    """What made a model.

    Attributes:
        recipe: the command.
        settings: every setting of the recipe, the seed among them.
        epochs_run: epochs trained.
        best_epoch: the epoch that was kept, chosen on the validation split.
        seconds: wall-clock time of the training.
        parameters: trainable and fixed numbers in the network.
        versions: of the libraries that made it.
    """

    recipe: str
    settings: dict[str, Any]
    epochs_run: int
    best_epoch: int
    seconds: float
    parameters: int
    versions: dict[str, str]


class GoldenCard(Card):
    """How `golden.npz` is to be compared.

    Attributes:
        rows: how many inputs it holds.
        atol: the largest absolute difference from PyTorch's output that is accepted.
    """

    rows: int
    atol: float


class ImageInput(Card):
    """How to prepare an image: the largest centred part of this aspect, resized with antialiasing (bicubic)."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[1, 3]


class Calibration(Card):
    """Temperature scaling (Guo et al. 2017, arXiv:1706.04599), fitted on validation, measured on test.

    Attributes:
        temperature: the logits were divided by it (inside the graph).
        ece_before: expected calibration error in 15 equal-width bins, without it.
        ece_after: likewise, with it.
    """

    temperature: float = Field(gt=0)
    ece_before: Probability
    ece_after: Probability


class ConformalPoint(Card):
    """One row of the split conformal table (Sadinle et al. 2019, arXiv:1609.00451).

    Attributes:
        coverage: how often the label set shall hold the truth.
        threshold: a label is in the set if its probability is at least this (the likeliest always is).
        test_coverage: how often it did on the test split.
        mean_set_size: labels in a set on average, likewise.
    """

    coverage: Probability
    threshold: Probability
    test_coverage: Probability
    mean_set_size: float


class ClassMetrics(Card):
    """Test figures of one class (one against the rest)."""

    label: str
    precision: Probability
    recall: Probability
    f1: Probability
    support: int


class ClassifierMetrics(Card):
    """Test figures of a classifier."""

    accuracy: Probability
    macro_f1: Probability
    negative_log_likelihood: float
    validation_accuracy: Probability
    per_class: tuple[ClassMetrics, ...]


class ManifestBase(Card):
    """What every task's manifest says."""

    format: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    description: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = Field(gt=0, description="the largest batch that was checked against PyTorch")
    data: DataCard
    training: TrainingCard
    golden: GoldenCard
    files: dict[str, str] = Field(description="sha256 of every file beside this one that serving reads")


class ClassifierManifest(ManifestBase):
    """An image classifier: uint8 pixels (batch, height, width, channels) to probabilities (batch, labels)."""

    task: Literal["image-classification"] = "image-classification"
    labels: tuple[str, ...]
    image: ImageInput
    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _agrees(self) -> "ClassifierManifest":
        stated = ([spec.shape for spec in self.inputs], [spec.shape for spec in self.outputs])
        image = (-1, self.image.height, self.image.width, self.image.channels)
        if stated != ([image], [(-1, len(self.labels))]):
            raise ValueError(f"its image and labels need tensors of {image} and (-1, {len(self.labels)})")
        return self


Manifest = ClassifierManifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the version in `folder`, after checking the sha256 of every file that it names.

    Raises:
        InvalidModel: it is missing or malformed, or a file is missing or is not the one it was made with.
    """
    path = folder / MANIFEST
    try:
        manifest = ClassifierManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InvalidModel(f"{path} is missing") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidModel(f"{path}: {place}: {first['msg']}") from None
    for name in (MODEL, GOLDEN):
        if name not in manifest.files:
            raise InvalidModel(f"{path}: files: names no {name}")
    for name, expected in manifest.files.items():
        try:
            actual = sha256(folder / name)
        except FileNotFoundError:
            raise InvalidModel(f"{folder / name} is missing") from None
        if actual != expected:
            raise InvalidModel(f"{folder / name}: sha256 is {actual}, not {expected} as the manifest says")
    return manifest


def sha256(path: Path) -> str:
    """The hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
