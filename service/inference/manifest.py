"""The typed card beside every model: what it is, how to feed it, how good it is, what made it.

`models/<name>/<version>/` holds `model.onnx`, `manifest.json`, `golden.npz`, `report/` and whatever else the
task needs; the manifest names the sha256 of each file that serving reads. One pydantic model per task.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from service.inference.cards import Card, ManifestBase, Probability

MANIFEST = "manifest.json"
MODEL = "model.onnx"
GOLDEN = "golden.npz"


class InvalidModel(Exception):
    """A version on disk cannot be served; the message says why."""


class ImageInput(Card):
    """How to prepare an image: the largest centred part of this aspect, resized with antialiasing (bicubic).

    Attributes:
        height: in pixels; likewise `width`.
        channels: 1 for grey, 3 for RGB.
        background: the brightness (0 to 1) that the edges of all training images have, where they have one; tells
            a picture on white paper from one on black.
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[1, 3]
    background: Probability | None = Field(None, exclude_if=lambda value: value is None)


class LetterboxInput(Card):
    """How to prepare an image: scaled whole into a frame of this size (bilinear), centred, the rest filled."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[3] = 3


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


class ClassifierManifest(ManifestBase):
    """An image classifier: uint8 pixels (batch, height, width, channels) to probabilities (batch, labels)."""

    task: Literal["image-classification"] = "image-classification"
    labels: tuple[str, ...]
    image: ImageInput
    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...] = Field(min_length=1)

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"accuracy": self.metrics.accuracy}

    @model_validator(mode="after")
    def _agrees(self) -> "ClassifierManifest":
        stated = ([spec.shape for spec in self.inputs], [spec.shape for spec in self.outputs])
        image = (-1, self.image.height, self.image.width, self.image.channels)
        if stated != ([image], [(-1, len(self.labels))]):
            raise ValueError(f"its image and labels need tensors of {image} and (-1, {len(self.labels)})")
        return self


class DetectorClassMetrics(Card):
    """Test figures of one class: average precision at an overlap of 0.5, of 0.75, and the mean over 0.5 to 0.95."""

    label: str
    ap_50: Probability
    ap_75: Probability
    ap: Probability
    support: int


class DetectorMetrics(Card):
    """Test figures of a detector (Lin et al. 2014, arXiv:1405.0312): means over the classes."""

    map_50: Probability
    map_75: Probability
    map: Probability
    validation_map: Probability
    per_class: tuple[DetectorClassMetrics, ...]


class ThresholdCurve(Card):
    """Figures at each of the thresholds, at an overlap of 0.5."""

    precision: tuple[Probability, ...]
    recall: tuple[Probability, ...]
    f1: tuple[Probability, ...]


class ThresholdCurves(Card):
    """What each confidence threshold costs and buys, measured on the test split.

    Attributes:
        confidence: the thresholds, rising; a detection counts if its score is at least the threshold.
        overall: over all classes together.
        per_class: by label.
    """

    confidence: tuple[Probability, ...] = Field(min_length=101)
    overall: ThresholdCurve
    per_class: dict[str, ThresholdCurve]

    @model_validator(mode="after")
    def _same_length(self) -> "ThresholdCurves":
        for curve in (self.overall, *self.per_class.values()):
            if {len(curve.precision), len(curve.recall), len(curve.f1)} != {len(self.confidence)}:
                raise ValueError("every curve needs a point for each threshold")
        return self


class Suppression(Card):
    """What the graph keeps: of a class's boxes that overlap by more than `iou` the best, and no score below `floor`."""

    iou: Probability
    floor: Probability
    max_detections: int = Field(gt=0)


class DetectorManifest(ManifestBase):
    """An object detector: uint8 pixels (batch, height, width, 3) to the best detections, the best first.

    The outputs are `boxes` (batch, detections, 4: x_min, y_min, x_max, y_max in pixels of the input), `scores`
    (batch, detections; 0 fills up) and `classes` (batch, detections: places among the labels).
    """

    task: Literal["object-detection"] = "object-detection"
    labels: tuple[str, ...]
    image: LetterboxInput
    suppression: Suppression
    metrics: DetectorMetrics
    curves: ThresholdCurves

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"map_50": self.metrics.map_50, "map": self.metrics.map}

    @model_validator(mode="after")
    def _agrees(self) -> "DetectorManifest":
        stated = ([spec.shape for spec in self.inputs], [(spec.name, spec.shape) for spec in self.outputs])
        image = (-1, self.image.height, self.image.width, self.image.channels)
        most = self.suppression.max_detections
        outputs = [("boxes", (-1, most, 4)), ("scores", (-1, most)), ("classes", (-1, most))]
        if stated != ([image], outputs):
            raise ValueError(f"its image and suppression need tensors of {image} and {outputs}")
        return self


class TextManifest(ManifestBase):
    """A text classifier: int64 token ids (batch, length; 0 is padding at the end) to probabilities (batch, labels).

    Beside it lies `tokenizer.json`, which makes token ids of a text.

    Attributes:
        max_length: the most words of a text that are read.
        words: size of the vocabulary, padding and unknown included.
    """

    task: Literal["text-classification"] = "text-classification"
    labels: tuple[str, ...]
    max_length: int = Field(gt=0)
    words: int = Field(gt=2)
    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...] = Field(min_length=1)

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"accuracy": self.metrics.accuracy, "macro_f1": self.metrics.macro_f1}

    @property
    def longest(self) -> int:
        """The most words of a text that are read."""
        return self.max_length

    @model_validator(mode="after")
    def _agrees(self) -> "TextManifest":
        stated = ([spec.shape for spec in self.inputs], [spec.shape for spec in self.outputs])
        if stated != ([(-1, -1)], [(-1, len(self.labels))]):
            raise ValueError(f"its labels need tensors of (-1, -1) and (-1, {len(self.labels)})")
        return self


class ColumnCard(Card):
    """A column of numbers and what the training rows hold in it."""

    name: str
    mean: float
    std: float = Field(ge=0)
    low: float
    high: float
    missing: Probability = Field(description="share of the training rows without a value")


class CrossValidated(Card):
    """A figure over five folds of the training rows: accuracy, or the share of the variance that is told (R2)."""

    mean: float
    std: float = Field(ge=0)


class TabularMetrics(Card):
    """Test figures; those of the other kind are absent.

    Attributes:
        accuracy: of classes; likewise `macro_f1`.
        rmse: root mean squared error of numbers, in the target's unit; `mae`: mean absolute error.
        r2: share of the variance of the test targets that is told.
        cross_validated: by method: this network, a linear one, gradient boosting.
    """

    accuracy: Probability | None = None
    macro_f1: Probability | None = None
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None
    cross_validated: dict[str, CrossValidated]


class TabularManifest(ManifestBase):
    """Rows of numbers, float32 (batch, columns; NaN where a value is missing), to probabilities or to one number.

    Attributes:
        kind: classes with probabilities (batch, labels), or a number (batch, 1).
        target: what is told.
        columns: in the order of the input.
    """

    task: Literal["tabular"] = "tabular"
    kind: Literal["classification", "regression"]
    target: str
    columns: tuple[ColumnCard, ...] = Field(min_length=1)
    labels: tuple[str, ...]
    metrics: TabularMetrics
    calibration: Calibration | None = None

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        figures = {"accuracy": self.metrics.accuracy, "r2": self.metrics.r2}
        return {name: value for name, value in figures.items() if value is not None}

    @model_validator(mode="after")
    def _agrees(self) -> "TabularManifest":
        stated = ([spec.shape for spec in self.inputs], [spec.shape for spec in self.outputs])
        wanted = ([(-1, len(self.columns))], [(-1, len(self.labels) if self.kind == "classification" else 1)])
        if stated != wanted:
            raise ValueError(f"its columns and labels need tensors of {wanted}")
        return self


class AutoencoderMetrics(Card):
    """Test figures of an autoencoder and its parts.

    Attributes:
        mse: mean squared error of restored test images, on the 0 to 1 scale.
        validation_mse: likewise on the validation split.
        pca_mse: of restoring from as many principal components, on the test split.
        judge_accuracy: of a classifier of real images, on the test split.
        judge_agreement: how often it sees the class that was asked for in generated images.
        frechet_generated: Frechet distance, in the judge's features, of generated images from test images.
        frechet_restored: likewise of restored test images.
        frechet_train: likewise of training images, the least that can be hoped for.
        linear_latents: test accuracy of logistic regression on the latents.
        linear_pixels: likewise on the pixels.
    """

    mse: float = Field(ge=0)
    validation_mse: float = Field(ge=0)
    pca_mse: float = Field(ge=0)
    judge_accuracy: Probability
    judge_agreement: Probability
    frechet_generated: float
    frechet_restored: float
    frechet_train: float
    linear_latents: Probability
    linear_pixels: Probability


class ImageCodeManifest(ManifestBase):
    """What an autoencoder and its two parts have in common: the images and the length of the code."""

    labels: tuple[str, ...]
    image: ImageInput
    latent: int = Field(gt=0)
    metrics: AutoencoderMetrics

    def _check_tensors(self, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]]) -> None:
        stated = ([spec.shape for spec in self.inputs], [spec.shape for spec in self.outputs])
        if stated != (inputs, outputs):
            raise ValueError(f"its image and latent need tensors of {inputs} and {outputs}")

    @property
    def _pixels(self) -> tuple[int, ...]:
        return (-1, self.image.height, self.image.width, self.image.channels)


class AutoencoderManifest(ImageCodeManifest):
    """uint8 images to restored uint8 images and each one's mean squared error on the 0 to 1 scale."""

    task: Literal["image-reconstruction"] = "image-reconstruction"

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"mse": self.metrics.mse}

    @model_validator(mode="after")
    def _agrees(self) -> "AutoencoderManifest":
        self._check_tensors([self._pixels], [self._pixels, (-1,)])
        return self


class EncoderManifest(ImageCodeManifest):
    """uint8 images to latents, float32."""

    task: Literal["image-encoding"] = "image-encoding"

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"linear_accuracy": self.metrics.linear_latents}

    @model_validator(mode="after")
    def _agrees(self) -> "EncoderManifest":
        self._check_tensors([self._pixels], [(-1, self.latent)])
        return self


class DecoderManifest(ImageCodeManifest):
    """Latents, float32, to uint8 images; beside it lies the density that new latents are drawn from."""

    task: Literal["image-generation"] = "image-generation"

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"judge_agreement": self.metrics.judge_agreement, "frechet": self.metrics.frechet_generated}

    @model_validator(mode="after")
    def _agrees(self) -> "DecoderManifest":
        self._check_tensors([(-1, self.latent)], [self._pixels])
        return self


Manifest = (
    ClassifierManifest
    | DetectorManifest
    | TextManifest
    | TabularManifest
    | AutoencoderManifest
    | EncoderManifest
    | DecoderManifest
)
_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="task")])


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the version in `folder`, after checking the sha256 of every file that it names.

    Raises:
        InvalidModel: it is missing or malformed, or a file is missing or is not the one it was made with.
    """
    path = folder / MANIFEST
    try:
        manifest = _MANIFEST.validate_json(path.read_bytes())
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
