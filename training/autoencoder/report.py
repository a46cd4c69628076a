"""The model card of an autoencoder: its reconstructions, its generated images, and its latents as features."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.manifold import TSNE

from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.manifest import (
    DENSITY,
    AutoencoderManifest,
    DecoderManifest,
    EncoderManifest,
)
from service.tasks.palette import class_colour
from training.autoencoder.evaluation import NOISE, Denoising, Findings, add_noise, nearest
from training.autoencoder.learner import decode, encode
from training.autoencoder.network import Autoencoder
from training.data.images import ImageData
from training.engine.fit import FitState
from training.report.markdown import interval, provenance, table, training_section
from training.report.plots import TRUE, Curve, draw_curves, save_plot, show_image

Images = npt.NDArray[np.uint8]
_COLUMNS = 12
_MAPPED = 2000
_COMPARED = 500
# From here on the judge takes restored images for what they are.
_RESTORED = 0.9
_UNLABELLED = (
    "The images have no labels, so there is no judge of generated ones, and nothing that the latents could predict."
)


def write_part_report(folder: Path, manifest: EncoderManifest | DecoderManifest, whole: str) -> None:
    """Writes the short `README.md` of a part into `folder`; it refers to the report of the model `whole`."""
    metrics, image = manifest.metrics, manifest.image
    pixels = f"uint8 images, {image.height} x {image.width} x {image.channels} (height, width, channels)"
    if isinstance(manifest, EncoderManifest):
        tensors = f"Input: {pixels}. Output: {manifest.latent} latents, float32."
        quality = (
            f"Logistic regression on the latents has a test accuracy of **{metrics.linear_latents:.4f}**, on the "
            f"pixels {metrics.linear_pixels:.4f}."
            if metrics.linear_latents is not None
            else _UNLABELLED
        )
    else:
        tensors = f"Input: {manifest.latent} latents, float32; new ones are sampled from `{DENSITY}`. Output: {pixels}."
        quality = (
            "A judge, a classifier trained on real images, recognises the requested class in "
            f"**{metrics.judge_agreement:.4f}** of the generated images."
            if metrics.judge_agreement is not None
            else _UNLABELLED
        )
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}.",
        tensors,
        quality,
        f"It is a part of the model `{whole}` and was trained with it; that model's report has the pictures and all "
        "other figures.",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")


def write_report(
    folder: Path,
    manifest: AutoencoderManifest,
    model: Autoencoder,
    data: ImageData,
    findings: Findings,
    state: FitState,
    onnx_difference: float,
) -> None:
    """Writes `README.md` and the pictures it shows into `folder`.

    Args:
        folder: is made if it does not exist.
        manifest: of the version.
        model: makes the pictures.
        data: likewise.
        findings: of the evaluation.
        state: of the finished training.
        onnx_difference: the largest difference of the exported graph from PyTorch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curve = Curve("error", "mean squared error", logarithmic=True)
    history, initial = state.history, state.initial
    save_plot(folder / "learning-curves.png", 6, 3.4, 1, lambda axes: draw_curves(axes[0], history, curve, initial))
    test = data.test.images
    first = test[:_COLUMNS]
    _strip(folder / "reconstructed.png", (TRUE, first), ("restored", findings.reconstructed[:_COLUMNS]))
    noisy = add_noise(first)
    restored = decode(model, encode(model, noisy))
    _strip(folder / "denoised.png", (TRUE, first), ("with noise", noisy), ("restored", restored))
    _strip(folder / "interpolated.png", *_interpolations(model, findings.test_latents, data))
    shown = range(min(len(data.classes), 20))
    _strip(
        folder / "generated.png",
        *((data.classes[label], _generate(model, findings.density, label)) for label in shown),
    )
    noise = np.random.default_rng(0).normal(0, 1, (2 * _COLUMNS, model.latent)) * findings.train_latents.std(0)
    latents, _ = findings.density.draw(2 * _COLUMNS, seed=1)
    sampled = decode(model, latents)
    single = decode(model, (noise + findings.train_latents.mean(0)).astype(np.float32))
    rows = (*np.split(single, 2), *np.split(sampled, 2))
    names = ("one Gaussian", "one Gaussian", "mixture", "mixture")
    _strip(folder / "single-against-mixture.png", *zip(names, rows, strict=True))
    indices, _ = nearest(sampled[:_COLUMNS], data.train.images)
    _strip(folder / "nearest.png", ("generated", sampled[:_COLUMNS]), ("nearest", data.train.images[indices]))
    generated = decode(model, findings.density.draw(_COMPARED, seed=2)[0])
    compared = (generated, findings.reconstructed[:_COMPARED], test[:_COMPARED])
    gaps = [float(nearest(images, data.train.images)[1].mean()) for images in compared]
    save_plot(folder / "map.png", 8, 6.5, 1, lambda axes: _map(axes[0], findings, data))
    (folder / "README.md").write_text(_card(manifest, data, findings, gaps, onnx_difference))


def _card(
    manifest: AutoencoderManifest,
    data: ImageData,
    findings: Findings,
    gaps: Sequence[float],
    onnx_difference: float,
) -> str:
    metrics = findings.metrics
    height, width, channels = data.shape
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}. Images of {height} x {width} x {channels} (height, width, channels) are encoded "
        f"as {manifest.latent} latents and decoded again. The same weights are published as three models: the whole, "
        "the encoder (images to latents) and the decoder (latents to images), which comes with the density that new "
        "latents are sampled from.",
        f"**Mean squared error {metrics.mse:.5f}**{interval(manifest, 'mse')} on the {len(data.test)} test images of "
        f"{data.name} (pixels from 0 to 1; validation {metrics.validation_mse:.5f}); PCA with as many components "
        f"reaches {metrics.pca_mse:.5f}.",
        "## Reconstruction",
        "Test images (above) and their reconstructions:",
        "![Reconstructed](reconstructed.png)",
        *_denoising(findings.denoising, manifest.training.settings.get("denoise", 0)),
        "Interpolation between the latents of two images:",
        "![Interpolated](interpolated.png)",
        "## Generation",
        "Generated images, a row for each class, sampled from the density of its latents:",
        "![Generated](generated.png)",
        "The upper two rows decode latents that are sampled from a single Gaussian with the mean and the standard "
        "deviation of each latent, the lower two those from the mixture of Gaussians that is fitted to each class's "
        "latents after the training. Only the mixture knows which latents occur together:",
        "![Single Gaussian against mixture](single-against-mixture.png)",
        *_judgement(manifest),
        "Are they memorised? Generated images and the nearest training image of each:",
        "![Nearest training images](nearest.png)",
        _memory(gaps),
        "## The latents as features",
        (
            f"Logistic regression on the {manifest.latent} latents has a test accuracy of "
            f"{metrics.linear_latents:.4f}, on the {height * width * channels} pixels {metrics.linear_pixels:.4f}. "
            if metrics.linear_latents is not None
            else ""
        )
        + f"The latents of {_MAPPED} test images, projected by t-SNE and coloured by class:",
        "![Map of the latents](map.png)",
        *training_section(manifest),
        *provenance(manifest, f"{onnx_difference:.1g}"),
    ]
    return "\n\n".join(parts) + "\n"


def _memory(gaps: Sequence[float]) -> str:
    """Whether generated images are copies: how near they and others are to the training images.

    Args:
        gaps: mean squared differences from the nearest training image, of generated images, of reconstructions of test
            images, which are as smooth but no copies, and of test images themselves.
    """
    generated, reconstructed, real = gaps
    return (
        f"The mean squared difference from the nearest training image is {generated:.4f} for generated images, "
        f"{reconstructed:.4f} for reconstructions of test images, which the same decoder draws, and "
        f"{real:.4f} for the test images themselves. Generated images are "
        + ("no nearer than the reconstructions." if generated >= reconstructed else "nearer than the reconstructions.")
    )


def _judgement(manifest: AutoencoderManifest) -> list[str]:
    """What a judge says of generated images."""
    metrics = manifest.metrics
    if metrics.judge_agreement is None:
        return [_UNLABELLED]
    return [
        f"A judge, a convolutional network trained on the real images (test accuracy {metrics.judge_accuracy:.4f}), "
        f"recognises the requested class in **{metrics.judge_agreement:.4f}** of the generated images"
        f"{interval(manifest, 'judge_agreement')}.",
        table(
            ("Fréchet distance from the test images, in the judge's features", ""),
            [
                ("generated images", f"{metrics.frechet_generated:.3f}"),
                ("reconstructed test images", f"{metrics.frechet_restored:.3f}"),
                ("training images (the lower bound)", f"{metrics.frechet_train:.3f}"),
            ],
        ),
    ]


def _denoising(found: Denoising, strength: float) -> list[str]:
    """What the reconstruction makes of noise, good or bad, and with how much of it the network was trained."""
    change = "less" if found.restored_mse < found.noisy_mse else "no less"
    said = (
        f"Test images, the same with noise of standard deviation {NOISE:g} added, and the reconstructions from that. "
        f"Over the test images the mean squared error of the noisy ones is {found.noisy_mse:.4f}, of their "
        f"reconstructions {found.restored_mse:.4f}: {change}."
    )
    if found.judged_restored is not None:
        said += (
            f" The judge recognises {found.judged_clean:.1%} of the test images as they are, {found.judged_noisy:.1%} "
            f"of the noisy ones and **{found.judged_restored:.1%}** of the restored ones."
        )
        if found.judged_restored < _RESTORED:
            said += " This network does not restore noisy images."
    if strength:
        said += (
            f" In training half of the images were encoded with noise of a random strength up to {strength:g}, and "
            "were to be reconstructed without it."
        )
    return [said, "![Denoised](denoised.png)"]


def _generate(model: Autoencoder, density: Density, label: int) -> Images:
    latents, _ = density.draw(_COLUMNS, seed=label, label=label)
    return decode(model, latents)


def _interpolations(model: Autoencoder, latents: npt.NDArray[np.float32], data: ImageData) -> list[tuple[str, Images]]:
    """From the first test image of a class to the first of the next, for a few; without classes, from any to any."""
    labels, named = data.test.labels, len(data.classes) > 1
    if named:
        firsts = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:6]]
    else:
        firsts = list(range(min(6, len(labels))))
    shares = np.linspace(0, 1, _COLUMNS, dtype=np.float32)[:, None]
    return [
        (
            f"{data.classes[labels[one]]} to {data.classes[labels[other]]}" if named else "",
            decode(model, (1 - shares) * latents[one] + shares * latents[other]),
        )
        for one, other in itertools.pairwise(firsts)
    ]


def _strip(path: Path, *rows: tuple[str, Images]) -> None:
    """Rows of images, one below the other, each with its heading to the left."""
    count = max(len(row) for _, row in rows)

    def draw(axes: Sequence[Axes]) -> None:
        for axis in axes:
            axis.axis("off")
        for number, (heading, row) in enumerate(rows):
            first = axes[number * count]
            first.text(-0.15, 0.5, heading, transform=first.transAxes, ha="right", va="center")
            for column, image in enumerate(row):
                show_image(axes[number * count + column], image)

    save_plot(path, 0.8 * count + 1.2, 0.8 * len(rows), count, draw, len(rows))


def _map(axis: Axes, findings: Findings, data: ImageData) -> None:
    latents, labels = findings.test_latents[:_MAPPED], data.test.labels[:_MAPPED]
    perplexity = min(30.0, max(2.0, len(latents) / 4))
    plane: Any = TSNE(2, random_state=0, init="pca", perplexity=perplexity).fit_transform(latents)
    for label, name in enumerate(data.classes):
        mine = labels == label
        axis.scatter(plane[mine, 0], plane[mine, 1], s=7, color=class_colour(label), label=name)
    axis.axis("off")
    axis.set_title("Latents of test images: near points are similar images")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3)
