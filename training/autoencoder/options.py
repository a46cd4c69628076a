"""The options of the recipe for an autoencoder."""

from dataclasses import dataclass, field

from training.engine.settings import FitSettings
from training.options import Options

# Of the images' sides in pixels; more than that costs much, and blurs all the same.
LARGEST = 64
DEFAULTS = FitSettings(epochs=30, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4, warmup=0.05, ema=0.999)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network.

    Attributes:
        latent: dimension of the latent space.
        widths: channels after each halving.
    """

    latent: int = 32
    widths: tuple[int, ...] = (32, 64)


@dataclass(frozen=True, kw_only=True)
class ReconstructionSettings:
    """How an autoencoder learns, in addition to `FitSettings` (RAE, Ghosh et al. 2020, arXiv:1903.12436).

    Attributes:
        shrink: weight of the latents' mean square, which keeps them near the origin.
        noise: standard deviation of the noise added to the latents in training, so that near latents decode to similar
            images.
        consistency: weight of the mean squared distance between the latents of an image and of the same image shifted
            by a few pixels (the invariance term of Bardes et al. 2022, arXiv:2105.04906).
        denoise: half of the images are encoded with noise added to their pixels, of a standard deviation between 0 and
            this on the 0 to 1 scale, and are to be reconstructed without it (Vincent et al. 2008); 0 for none.
    """

    shrink: float = 1e-4
    noise: float = 0.15
    consistency: float = 0.04
    denoise: float = 0.5


@dataclass(frozen=True, kw_only=True)
class AutoencoderOptions(Options):
    """Trains on images alone, to encode and to generate.

    Attributes:
        data: a hub id, a URL, or a folder or archive of images or with parquet.
        encoding: of a table of labels, such as cp949; detected by default.
        image_size: side of the images in pixels; their own by default, or 64 if they are larger.
        components: Gaussians per class in the density of the latents.
        judge_epochs: epochs of the classifier that judges generated images; by default 6, or a third of the epochs of
            the training if that is less.
        generated: how many generated images are judged.
    """

    data: str = "ylecun/mnist"
    encoding: str | None = None
    image_size: int | None = None
    components: int = 10
    judge_epochs: int | None = None
    generated: int = 10_000
    network: NetworkSettings = field(default_factory=NetworkSettings)
    learning: ReconstructionSettings = field(default_factory=ReconstructionSettings)

    def check(self) -> None:
        super().check()
        if self.add:
            raise ValueError(
                "--add: nobody can correct a restored image, so captured items have no labels, which the judge and the "
                "density of each class need. `quartet captured export --unchecked` writes the images for a data set."
            )
