"""The out-of-distribution score of a version: the data that it is fitted and measured on, and its graphs."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from rich.console import Console
from sklearn.metrics import roc_auc_score

from service.inference.cards import GoldenCard, TensorSpec, Use
from service.inference.manifest import MODEL
from service.tasks.cards import LEVELS, FamiliarityCard, ForeignFigures
from service.tasks.familiarity import UNFAMILIAR, FamiliarManifest
from training.data import foreign
from training.data.images import ImageData
from training.export import history
from training.export.distances import MOST_HELD_OUT, Distance, Method, append, cross_fitted, measure, write_features
from training.export.evaluator import Array, run_in_batches, sample
from training.export.golden import as_defined, kernel_ratios, rounded_up
from training.export.layers import middle_map, penultimate

MOST_TRAINING, MOST_TEST = 5000, 2000
_MIDDLE = (
    "how far the means of the channels in the middle of the network are from those of training images (Mahalanobis "
    "distance)"
)

MAPS = Method(_MIDDLE, ((Distance.mahalanobis, middle_map),))
IMAGES = Method(
    f"{_MIDDLE}, and the last layer's features from those of the nearest class",
    (*MAPS.distances, (Distance.to_class_means, penultimate)),
)


@dataclass(frozen=True, slots=True)
class OodData:
    """Items of a task; only `run` needs to know what they are.

    Attributes:
        labels: class indices of the training items, shape (n,); all equal where there are no classes.
        held_out: distinct items that the p-values are calibrated on, from the calibration half of validation.
        foreign: out-of-distribution items, by the name of their data.
        run: a graph's outputs for items, in their order.
        uses: the record of `train` and `held_out`.
    """

    method: Method
    train: Any
    labels: npt.NDArray[np.int64]
    held_out: Any
    test: Any
    foreign: Mapping[str, Any]
    run: Callable[[Path, Any], list[Array]]
    uses: tuple[Use, ...]


def ood_data_from_images(
    data: ImageData, sources: Mapping[str, str] | None = None, method: Method = IMAGES, *, enlarged: int = 0
) -> OodData:
    """The data for a model of images.

    Args:
        data: of the training.
        sources: other images by name (`training.data.foreign.read_images`).
        method: the score.
        enlarged: the side in pixels to which the graph enlarges images; 0 if it does not.
    """
    less = images_less(data, enlarged)
    train = data.train.take(some_indices(len(data.train), MOST_TRAINING // less))
    _, calibration = data.division
    others = foreign.made_up_images(data.shape)
    others |= {name: foreign.read_images(source, data.shape) for name, source in (sources or {}).items()}
    return OodData(
        method,
        train.images,
        train.labels,
        data.validation.take(calibration[some_indices(len(calibration), MOST_HELD_OUT // less)]).images,
        data.test.take(some_indices(len(data.test), MOST_TEST // less)).images,
        {name: images[: foreign.MOST // less] for name, images in others.items()},
        lambda graph, images: run_in_batches(graph, "images", images),
        ood_uses(len(train), data.division, MOST_HELD_OUT // less),
    )


def images_less(data: ImageData, enlarged: int) -> int:
    """By which factor fewer images are used than the most, since those of many pixels take long."""
    return 1 if max(data.shape[0] * data.shape[1], enlarged**2) <= 128 * 128 else 5


def ood_items(train: int, held_out: int, test: int, less: int = 1) -> int:
    """How many items the score is fitted and measured on, of so many and of made-up ones; see `images_less`."""
    counts = (train, MOST_TRAINING), (held_out, MOST_HELD_OUT), (test, MOST_TEST), (2 * foreign.MOST, 2 * foreign.MOST)
    return sum(min(count, most // less) for count, most in counts)


def ood_uses(train: int, division: Any, held_out: int = MOST_HELD_OUT) -> tuple[Use, ...]:
    """The record of `OodData`: `train` training items, and at most `held_out` of the calibration half."""
    fitted = Use(split="train", purpose=history.DISTANCES, items=train)
    return (fitted, *history.halves_used(division, calibration=(history.P_VALUES,), most=held_out))


def some_indices(count: int, most: int) -> npt.NDArray[np.int64]:
    """The indices of up to `most` of so many items, in ascending order; always the same random ones."""
    return np.sort(sample(most, count))


_TRUE_POSITIVE_RATE = 0.95
ManifestT = TypeVar("ManifestT", bound=FamiliarManifest)


def with_ood(folder: Path, manifest: ManifestT, data: OodData, console: Console) -> ManifestT:
    """Adds the output `unfamiliar` to all graphs of the version in `folder`, in place of an earlier one.

    Returns:
        The manifest of what `folder` holds then.

    Raises:
        ValueError: kernels differ so much that a golden file would catch nothing.
    """

    def add(graph: str, golden: GoldenCard) -> dict[str, Any]:
        card = add_ood(folder / graph, data)
        return {"familiarity": card, "golden": _complete_golden(folder, graph, golden, manifest, card)}

    fields = add(MODEL, manifest.golden)
    variants: list[Any] = []
    for variant in manifest.variants:
        own = add(variant.file, variant.golden)
        variants.append(variant.model_copy(update={**own, "size": (folder / variant.file).stat().st_size}))
    card = fields["familiarity"]
    if card.foreign:
        caught = ", ".join(f"{each.data} ({each.caught:.0%})" for each in card.foreign)
        console.print(
            f"typicality is below {card.level:g} for {card.test_below[f'{card.level:g}']:.0%} of the test items; among "
            f"inputs of another kind: {caught}",
            highlight=False,
            soft_wrap=True,
        )
    outputs = (*manifest.answers, TensorSpec(name=UNFAMILIAR, dtype="float32", shape=(-1,)))
    changed = manifest.model_copy(update={**fields, "outputs": outputs, "variants": tuple(variants)})
    return history.with_uses(changed, *data.uses, Use(split="test", purpose=history.FIGURES, items=len(data.test)))


def add_ood(graph: Path, data: OodData) -> FamiliarityCard:
    """Adds a score of the graph's own features to its file, and measures it."""
    method = data.method
    layers = method.layers(onnx.load(graph))
    with tempfile.TemporaryDirectory() as scratch:
        features = Path(scratch) / MODEL
        write_features(graph, layers, features)
        distances = method.fit(layers, data.run(features, data.train), data.labels)
        held_out = measure(distances, data.run(features, data.held_out))
    append(graph, distances, held_out)
    known = data.run(graph, data.test)[-1]
    card = FamiliarityCard(
        method=method.words,
        method_chosen_on=method.chosen_on,
        calibrated_on=len(held_out),
        test_below=_below(known),
        cross_fitted_below=_below(cross_fitted(held_out)),
    )
    figures = [_figures(name, known, data.run(graph, items)[-1], card.level) for name, items in data.foreign.items()]
    return card.model_copy(update={"foreign": tuple(figures)})


def _below(values: npt.NDArray[Any]) -> dict[str, float]:
    return {f"{level:g}": float((values < level).mean()) for level in LEVELS}


def _figures(name: str, known: npt.NDArray[Any], foreign: npt.NDArray[Any], level: float) -> ForeignFigures:
    is_known = np.repeat((True, False), (len(known), len(foreign)))
    threshold = np.quantile(foreign, _TRUE_POSITIVE_RATE, method="higher")
    return ForeignFigures(
        data=name,
        items=len(foreign),
        auroc=float(roc_auc_score(is_known, np.concatenate((known, foreign)))),
        false_alarms=float((known <= threshold).mean()),
        caught=float((foreign < level).mean()),
    )


def _complete_golden(
    folder: Path, graph: str, golden: GoldenCard, manifest: FamiliarManifest, card: FamiliarityCard
) -> GoldenCard:
    """Adds the graph's p-values, as ONNX defines them, to a golden file, and their tolerance to its card."""
    path = folder / golden.file
    with np.load(path) as file:
        arrays = dict(file)
    inputs = {spec.name: arrays[spec.name] for spec in manifest.inputs}
    arrays[UNFAMILIAR] = as_defined(folder / graph, inputs)[UNFAMILIAR]
    np.savez_compressed(path, allow_pickle=False, **arrays)
    # Rounding on another machine may move two held-out items across a distance.
    least = max(0.002, 2 * card.smallest)
    # As multiples of a tolerance of 1.
    unit = GoldenCard(rows=golden.rows, atol=1.0)
    difference = kernel_ratios(folder / graph, inputs, {UNFAMILIAR: arrays[UNFAMILIAR]}, unit)[UNFAMILIAR]
    # A golden file that accepted more would catch nothing; few held-out items make steps that are larger.
    tolerance, most = max(least, 2 * difference), max(0.05, least)
    if tolerance > most:
        raise ValueError(
            f"{graph}: its {UNFAMILIAR} may be off by {tolerance:.3g} from one kernel to another, and a golden file "
            f"may accept {most:.3g} at most"
        )
    return golden.model_copy(update={"tolerances": golden.tolerances | {UNFAMILIAR: rounded_up(tolerance)}})
