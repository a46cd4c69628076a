"""The report of an autoencoder: its pictures, and what its card reads of the record."""

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.manifold import TSNE

from service.tasks.palette import class_colour
from training.autoencoder.evaluation import Findings, add_noise, nearest
from training.autoencoder.learner import decode, encode
from training.autoencoder.network import Autoencoder
from training.data.images import ImageData
from training.report.plots import TRUE, save_plot, show_image
from training.report.record import update_record

Images = npt.NDArray[np.uint8]
_COLUMNS = 12


def write_report(folder: Path, model: Autoencoder, data: ImageData, findings: Findings) -> None:
    """Draws and records what was measured of the version in `folder`."""
    test, known, density = data.test.images, data.train.images, findings.density
    generate = partial(decode, model)
    first = test[:_COLUMNS]
    _strip(folder, "reconstructed.png", (TRUE, first), ("restored", findings.reconstructed[:_COLUMNS]))
    noisy = add_noise(first)
    _strip(folder, "denoised.png", (TRUE, first), ("with noise", noisy), ("restored", generate(encode(model, noisy))))
    _strip(folder, "interpolated.png", *_interpolations(model, findings.test_latents, data))
    of_classes = (
        (name, generate(density.draw(_COLUMNS, seed=label, label=label)[0]))
        for label, name in enumerate(data.classes[:20])
    )
    _strip(folder, "generated.png", *of_classes)
    noise = np.random.default_rng(0).normal(0, 1, (2 * _COLUMNS, model.latent)) * findings.train_latents.std(0)
    single = generate((noise + findings.train_latents.mean(0)).astype(np.float32))
    sampled = generate(density.draw(2 * _COLUMNS, seed=1)[0])
    names, rows = ("one Gaussian", "one Gaussian", "mixture", "mixture"), np.concatenate((single, sampled))
    _strip(folder, "single-against-mixture.png", *zip(names, np.split(rows, 4), strict=True))
    indices, _ = nearest(sampled[:_COLUMNS], known)
    _strip(folder, "nearest.png", ("generated", sampled[:_COLUMNS]), ("nearest", known[indices]))
    save_plot(folder, "map.png", 8, 6.5, lambda axes: _draw_map(axes[0], findings, data))
    # Reconstructions are as smooth as generated images, but no copies of training images.
    generated = generate(density.draw(500, seed=2)[0])
    pictures = (generated, findings.reconstructed[:500], test[:500])
    distances = [float(nearest(images, known)[1].mean()) for images in pictures]
    update_record(folder, denoising=findings.denoising, distances=distances)


def _interpolations(model: Autoencoder, latents: npt.NDArray[np.float32], data: ImageData) -> list[tuple[str, Images]]:
    """From the first test image of a class to the first of the next, for a few; without classes, from any to any."""
    labels, named = data.test.labels, len(data.classes) > 1
    firsts = np.unique(labels, return_index=True)[1][:6] if named else range(min(6, len(labels)))
    fractions = np.linspace(0, 1, _COLUMNS, dtype=np.float32)[:, None]
    return [
        (
            f"{data.classes[labels[one]]} to {data.classes[labels[other]]}" if named else "",
            decode(model, (1 - fractions) * latents[one] + fractions * latents[other]),
        )
        for one, other in itertools.pairwise(firsts)
    ]


def _strip(folder: Path, name: str, *rows: tuple[str, Images]) -> None:
    """Rows of images, one below the other, each with its heading to the left."""
    count = max(len(row) for _, row in rows)

    def draw(axes: Sequence[Axes]) -> None:
        for number, (heading, row) in enumerate(rows):
            first = axes[number * count]
            first.text(-0.15, 0.5, heading, transform=first.transAxes, ha="right", va="center")
            for column, image in enumerate(row):
                show_image(axes[number * count + column], image)

    save_plot(folder, name, 0.8 * count + 1.2, 0.8 * len(rows), draw, count, len(rows))


def _draw_map(axis: Axes, findings: Findings, data: ImageData) -> None:
    latents, labels = findings.test_latents[:2000], data.test.labels[:2000]
    perplexity = min(30.0, max(2.0, len(latents) / 4))
    plane: Any = TSNE(2, random_state=0, init="pca", perplexity=perplexity).fit_transform(latents)
    for label, name in enumerate(data.classes):
        mine = labels == label
        axis.scatter(plane[mine, 0], plane[mine, 1], s=7, color=class_colour(label), label=name)
    axis.axis("off")
    axis.set_title("Latents of test images: near points are similar images")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3)
