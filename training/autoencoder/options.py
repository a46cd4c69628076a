"""The command line of the recipe for an autoencoder."""

from argparse import ArgumentParser

from training.engine.settings import FitSettings
from training.options import add_labelled_image_options, add_result_options, add_training_options, integers

# Of the images' sides in pixels; more than that costs much, and blurs all the same.
LARGEST = 64
DEFAULTS = FitSettings(epochs=30, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4, warmup=0.05, ema=0.999)


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take their default."""
    add_labelled_image_options(parser, "ylecun/mnist", LARGEST)
    net = parser.add_argument_group("network")
    net.add_argument("--latent", type=int, help="dimension of the latent space (default: 32)")
    net.add_argument("--widths", type=integers, help="channels after each halving (default: 32,64)")
    how = add_training_options(parser, "runs/autoencoder-DATA", {"any": DEFAULTS})
    how.add_argument("--shrink", type=float, help="weight of the latents' mean square (default: 0.0001)")
    how.add_argument(
        "--noise", type=float, help="standard deviation of the noise added to the latents in training (default: 0.15)"
    )
    how.add_argument(
        "--consistency",
        type=float,
        help="weight of the distance between the latents of an image and of it shifted (default: 0.04)",
    )
    how.add_argument(
        "--denoise",
        type=float,
        help="largest standard deviation of the noise that half of the images are encoded with (default: 0.5)",
    )
    how.add_argument("--components", type=int, help="Gaussians per class in the density of the latents (default: 10)")
    how.add_argument(
        "--judge-epochs",
        type=int,
        default=6,
        help="of the classifier that judges generated images (default: %(default)s)",
    )
    how.add_argument(
        "--generated", type=int, default=10_000, help="how many generated images are judged (default: %(default)s)"
    )
    add_result_options(parser, "autoencoder; the parts are encoder and decoder")
