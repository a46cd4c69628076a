"""The report of an autoencoder: its pictures, and what its card reads of the record."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.manifold import TSNE

from service.tasks.palette import COLOURS, class_colour
from training.autoencoder.evaluation import Findings, add_noise, nearest
from training.data.images import ImageData
from training.report.plots import SMALL, WIDTH, save_figure, save_plot, show_image
from training.report.record import REPORT, update_record

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
# From images to latents, and from latents to images.
Code = Callable[[Any], Any]
Codec = tuple[Code, Code]
_COLUMNS = 10
# From one image to another; the middle is one of them.
_STEPS = 9
# Below this confidence, or at a class that is neither end, an image between two is marked. The judge learns from
# smoothed labels, so it is hardly ever surer than 0.93.
_CLEAR = 0.7
# Classes whose names are in the map itself.
_MOST_NAMED = 20


def write_report(
    folder: Path, codec: Codec, data: ImageData, findings: Findings, read: Callable[[Images], Floats] | None = None
) -> None:
    """Draws and records what was measured of the version in `folder`.

    `read` is the judge: the probabilities of the classes of images, shape (n, classes).
    """
    test, known, density = data.test.images, data.train.images, findings.density
    encode, generate = codec
    first = test[:_COLUMNS]
    _strip(folder, "reconstructed.png", ("test images", first), ("restored", findings.reconstructed[:_COLUMNS]))
    noisy = add_noise(first)
    _strip(folder, "denoised.png", ("test images", first), ("with noise", noisy), ("restored", generate(encode(noisy))))
    steps = _interpolations(generate, findings.test_latents, data)
    readings = [] if read is None else [_reading(read(images), data.classes) for _, images in steps]
    _strip(folder, "interpolated.png", *steps, notes=readings)
    of_classes = (
        (name, generate(density.draw(_COLUMNS, seed=label, label=label)[0]))
        for label, name in enumerate(data.classes[:20])
    )
    _strip(folder, "generated.png", *of_classes, beside=True)
    noise = np.random.default_rng(0).normal(0, 1, (2 * _COLUMNS, len(density.means[0, 0])))
    single = (noise * findings.train_latents.std(0) + findings.train_latents.mean(0)).astype(np.float32)
    sampled = generate(density.draw(2 * _COLUMNS, seed=1)[0])
    names = ("each number drawn on its own", "", "a mixture of Gaussians of each class", "")
    rows = np.concatenate((generate(single), sampled))
    _strip(folder, "single-against-mixture.png", *zip(names, np.split(rows, 4), strict=True))
    indices, _ = nearest(sampled[:_COLUMNS], known)
    _strip(folder, "nearest.png", ("generated", sampled[:_COLUMNS]), ("the nearest training images", known[indices]))
    save_plot(folder, "map.png", WIDTH, 5.4, lambda axes: _draw_map(axes[0], findings, data))
    # Reconstructions are as smooth as generated images, but no copies of training images.
    generated = generate(density.draw(500, seed=2)[0])
    pictures = (generated, findings.reconstructed[:500], test[:500])
    distances = [float(nearest(images, known)[1].mean()) for images in pictures]
    update_record(folder, denoising=findings.denoising, distances=distances, read_between=readings)


def _reading(probabilities: Floats, classes: Sequence[str]) -> list[tuple[str, float]]:
    """The likeliest class of each image and its probability."""
    return [(classes[row.argmax()], round(float(row.max()), 2)) for row in probabilities]


def _interpolations(generate: Code, latents: npt.NDArray[np.float32], data: ImageData) -> list[tuple[str, Images]]:
    """From the first test image of a class to the first of the next, for a few; without classes, from any to any."""
    labels, named = data.test.labels, len(data.classes) > 1
    firsts = np.unique(labels, return_index=True)[1][:6] if named else range(min(6, len(labels)))
    fractions = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, None]
    return [
        (
            f"{data.classes[labels[one]]} to {data.classes[labels[other]]}" if named else "",
            generate((1 - fractions) * latents[one] + fractions * latents[other]),
        )
        for one, other in itertools.pairwise(firsts)
    ]


def _strip(
    folder: Path,
    name: str,
    *rows: tuple[str, Images],
    notes: Sequence[Sequence[tuple[str, float]]] = (),
    beside: bool = False,
) -> None:
    """Rows of images, one below the other, each with its heading above, or with `beside` to its left.

    `notes` are what was read in each image, and how likely that is. What is no clear picture of the class at one of the
    ends of its row has a frame.
    """
    count = max(len(row) for _, row in rows)
    side = (WIDTH - 0.5 * beside) / count
    heights = [side + 0.22 * bool(heading and not beside) + 0.36 * bool(notes) for heading, _ in rows]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    top, left = sum(heights), WIDTH - count * side
    for number, (heading, row) in enumerate(rows):
        y = top - 0.22 * bool(heading and not beside)
        style: dict[str, Any] = {"transform": figure.dpi_scale_trans, "va": "center"}
        if beside:
            figure.text(left - 0.1, y - side / 2, heading, ha="right", **style)
        else:
            figure.text(0.03, top - 0.11, heading, ha="left", **style)
        for column, image in enumerate(row):
            place = (left + (column + 0.02) * side, y - 0.98 * side, 0.96 * side, 0.96 * side)
            axis = figure.add_axes(np.divide(place, (WIDTH, sum(heights)) * 2).tolist())
            show_image(axis, image)
            if notes:
                note, likely = notes[number][column]
                is_clear = likely >= _CLEAR and note in (notes[number][0][0], notes[number][-1][0])
                middle = left + (column + 0.5) * side
                text = f"{note}\n{likely:.0%}" if is_clear else f"{note}?\n{likely:.0%}"
                figure.text(middle, y - side - 0.15, text, ha="center", fontsize=SMALL, linespacing=1, **style)
                if not is_clear:
                    corners: dict[str, Any] = {
                        "transform": axis.transAxes,
                        "fill": False,
                        "edgecolor": COLOURS[4],
                        "linewidth": 3,
                    }
                    axis.add_patch(Rectangle((0, 0), 1, 1, clip_on=False, **corners))
        top -= heights[number]
    (folder / REPORT).mkdir(parents=True, exist_ok=True)
    save_figure(figure, folder / REPORT / name)


def _draw_map(axis: Axes, findings: Findings, data: ImageData) -> None:
    latents, labels = findings.test_latents[:2000], data.test.labels[:2000]
    perplexity = min(30.0, max(2.0, len(latents) / 4))
    plane: Any = TSNE(2, random_state=0, init="pca", perplexity=perplexity).fit_transform(latents)
    for label, name in enumerate(data.classes):
        mine = labels == label
        axis.scatter(plane[mine, 0], plane[mine, 1], s=5, color=class_colour(label), label=name)
        if mine.any() and len(data.classes) <= _MOST_NAMED:
            centre = np.median(plane[mine], 0)
            frame = {"facecolor": "white", "edgecolor": class_colour(label), "pad": 2.0, "linewidth": 1.5}
            axis.text(centre[0], centre[1], name, ha="center", va="center", fontsize=12, bbox=frame)
    axis.axis("off")
    if len(data.classes) > _MOST_NAMED:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3)
