"""The manifests of an autoencoder and its two parts."""

from typing import Literal

from pydantic import Field, model_validator

from service.inference.cards import Card, MainFigure, Probability
from service.tasks.cards import ImageInput
from service.tasks.familiarity import FamiliarManifest

# What new latents are drawn from, beside a decoder.
DENSITY = "density.npz"


class AutoencoderMetrics(Card):
    """Test figures of an autoencoder and its parts; squared errors are on the 0 to 1 scale.

    The judge is a classifier trained on real images. Figures that need labels are None without them.

    Attributes:
        mse: of restored test images.
        validation_mse: of restored validation images.
        pca_mse: of a PCA with as many components, on the test split.
        judge_accuracy: of the judge on the test split.
        judge_agreement: how often the judge assigns a generated image to the requested class.
        frechet_generated: Fréchet distance, in the judge's features, between generated and test images.
        frechet_restored: between restored and test images.
        frechet_train: between training and test images; a lower bound.
        linear_latents: test accuracy of logistic regression on the latents.
        linear_pixels: test accuracy of logistic regression on the pixels.
    """

    mse: float = Field(ge=0)
    validation_mse: float = Field(ge=0)
    pca_mse: float = Field(ge=0)
    judge_accuracy: Probability | None = None
    judge_agreement: Probability | None = None
    frechet_generated: float | None = None
    frechet_restored: float | None = None
    frechet_train: float | None = None
    linear_latents: Probability | None = None
    linear_pixels: Probability | None = None


def _known(**figures: float | None) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


class ImageCodeManifest(FamiliarManifest):
    """What an autoencoder and its two parts have in common: the images and the dimension of the latents."""

    labels: tuple[str, ...]
    image: ImageInput
    latent: int = Field(gt=0)
    metrics: AutoencoderMetrics

    @property
    def main_figure(self) -> MainFigure:
        # The parts have the weights of the whole, so a single figure decides on all three.
        return MainFigure("mse", self.metrics.mse, higher_is_better=False)


class AutoencoderManifest(ImageCodeManifest):
    """uint8 images to restored uint8 images and each one's mean squared error on the 0 to 1 scale."""

    former_tasks = ("image-reconstruction",)
    task: Literal["autoencoder"] = "autoencoder"

    @property
    def headline(self) -> dict[str, float]:
        return {"mse": self.metrics.mse}

    @model_validator(mode="after")
    def _check_shapes(self) -> "AutoencoderManifest":
        self.check_shapes([self.image.shape], [self.image.shape, (-1,)], "image")
        return self


class EncoderManifest(ImageCodeManifest):
    """uint8 images to latents, float32."""

    former_tasks = ("image-encoding",)
    task: Literal["encoder"] = "encoder"

    @property
    def headline(self) -> dict[str, float]:
        return _known(linear_accuracy=self.metrics.linear_latents)

    @model_validator(mode="after")
    def _check_shapes(self) -> "EncoderManifest":
        self.check_shapes([self.image.shape], [(-1, self.latent)], "image and latent")
        return self


class DecoderManifest(ImageCodeManifest):
    """Latents, float32, to uint8 images; beside it lies the density that new latents are drawn from."""

    former_tasks = ("image-generation",)
    task: Literal["decoder"] = "decoder"

    @property
    def companions(self) -> tuple[str, ...]:
        return (DENSITY,)

    @property
    def headline(self) -> dict[str, float]:
        metrics = self.metrics
        return _known(
            judge_agreement=metrics.judge_agreement,
            judge_accuracy=metrics.judge_accuracy,
            frechet=metrics.frechet_generated,
        )

    @model_validator(mode="after")
    def _check_shapes(self) -> "DecoderManifest":
        self.check_shapes([(-1, self.latent)], [self.image.shape], "latent and image")
        return self
