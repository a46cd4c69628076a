"""`quartet adopt --evaluate`: what a classifier is worth on labelled images, half of which fit what is added to it.

One half fits the temperature, the label sets and the p-values, as the validation split does in a training; the other
only measures, as the test split does.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto
from rich.console import Console

from quartet.adopt.graph import Array, CannotAdopt
from quartet.adopt.opsets import opset_of, upgrade
from quartet.adopt.pixels import input_of
from service.inference.cards import DataCard, GoldenCard, ManifestBase, Step, Use
from service.inference.device import available_cpus
from service.inference.manifest import MODEL, InvalidModel
from service.inference.session import Session
from service.tasks.cards import FamiliarityCard, ImageInput
from service.tasks.familiarity import UNFAMILIAR
from training.classification.report import write_report
from training.data import foreign
from training.data.contents import fingerprint
from training.data.dataset import DataError, Inspection, class_names
from training.data.hub import be_quiet
from training.data.image_sources import ImageItems, open_images
from training.data.images import ImageData, ImageSplit, read_split
from training.data.inspection import Bad, Problems, describe_splits
from training.data.lazy import IN_MEMORY, Images
from training.data.sources import name_of
from training.data.splits import division_digest, split_validation
from training.engine.progress import track
from training.export import history
from training.export.calibration import Scaling, logits_alone, write_scaling
from training.export.distances import MOST_HELD_OUT
from training.export.figures import Evaluation, evaluate
from training.export.labelled import LabelIndex
from training.export.ood import IMAGES, MOST_TEST, MOST_TRAINING, OodData, add_ood, images_less, some_indices
from training.report.card import render_card

# Fewer say nothing about a model.
_FEWEST = 10
_GOLDEN = 16
_METHOD = replace(
    IMAGES,
    words="how far the means of the channels in the middle of the network are from those of the selection half of the "
    "validation images (Mahalanobis distance), and the last layer's features from those of the nearest class there",
)
# Of the nodes of the p-values.
OPSET = 18


@dataclass(frozen=True)
class Evaluated:
    """A graph with what was fitted on one half of the images, and what was measured on the other.

    Attributes:
        model: the graph, which answers calibrated probabilities, and `unfamiliar` where p-values could be fitted.
        lines: what was added to the graph, for people.
    """

    model: ModelProto
    data: ImageData
    evaluation: Evaluation
    familiarity: FamiliarityCard | None
    uses: tuple[Use, ...]
    seconds: float
    lines: tuple[str, ...]

    @property
    def golden(self) -> Array:
        """Images of the half that measures, uint8 of shape (n, height, width, channels), of as many labels as fit."""
        return self.data.test.images[self._chosen]

    @property
    def _chosen(self) -> Array:
        labels = self.data.test.labels
        order = np.argsort(labels, kind="stable")
        return np.sort(order[np.linspace(0, len(order) - 1, min(_GOLDEN, len(order))).astype(np.int64)])

    def fields(self, command: str, golden: GoldenCard) -> dict[str, Any]:
        """Fields of the manifest.

        Args:
            command: that adopted the graph.
            golden: as it is without what is known of the images.
        """
        data, card = self.data, self.familiarity
        # Where items were left out, it is not known which.
        rows = 0 if golden.chosen_from else golden.rows
        labels = class_names(data.test.labels[self._chosen[:rows]], data.classes) or None
        tolerances = dict(golden.tolerances)
        if card is not None:
            # Rounding on another machine may move two calibration items across a distance.
            tolerances[UNFAMILIAR] = max(tolerances[UNFAMILIAR], 0.002, 2 * card.smallest)
        return {
            **self.evaluation.fields,
            "familiarity": card,
            "golden": golden.model_copy(update={"labels": labels, "tolerances": tolerances}),
            "data": DataCard(
                name=data.name,
                fingerprint=data.fingerprint,
                train=0,
                validation=len(data.validation),
                test=len(data.test),
                division=division_digest(data.division[1]),
            ),
            "history": (self._step(command),),
        }

    def write(self, folder: Path, manifest: ManifestBase) -> None:
        """Writes the report: plots, and the model card."""
        write_report(folder, self.evaluation, self.data)
        render_card(folder, manifest)

    def _step(self, command: str) -> Step:
        begun = history.begun("adopt", command, self.data.fingerprint, available_cpus())
        return history.ended(begun.model_copy(update={"uses": self.uses}), self.seconds)


def evaluate_on(
    source: str, model: ModelProto, labels: tuple[str, ...], image: ImageInput, *, batch: int, bad: Bad
) -> Evaluated:
    """Calibrates a graph on one half of labelled images, and measures it on the other.

    Args:
        source: the images: folders named after labels, or what a training reads.
        model: from uint8 pixels to probabilities, of a softmax.
        labels: in the order of the probabilities.
        image: how an image is prepared.
        batch: images at a time.
        bad: what to do about images that cannot be used.

    Raises:
        CannotAdopt: the images cannot be used.
    """
    started = time.perf_counter()
    be_quiet()
    # Lines are wrapped for terminals, and not for files.
    console = Console(soft_wrap=not sys.stdout.isatty(), markup=False)
    try:
        data = read_images(source, labels, image, bad)
    except DataError as error:
        raise CannotAdopt("images", f"--evaluate {error}") from None
    data.inspection.print(console)
    upgraded, lines = upgrade(model, OPSET, {input_of(model): data.validation.images[:1]})
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / MODEL
        onnx.save(upgraded, graph)
        with logits_alone(graph) as bare:
            fitting, measuring = (
                _run(bare, part.images, batch, f"Answering {name} images")[0]
                for name, part in (("validation", data.validation), ("test", data.test))
            )
        evaluation = evaluate(labels, fitting, data.validation.labels, measuring, data.test.labels)
        uses = [
            *history.halves_used(data.division, (history.TEMPERATURE,), (history.LABEL_SETS,)),
            Use(split="test", purpose=history.FIGURES, items=len(data.test)),
        ]
        scaling = Scaling.of(evaluation.calibration)
        try:
            write_scaling(graph, scaling)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise CannotAdopt(
                "invalid graph", f"The graph cannot be calibrated, since ONNX's checker refuses it: {error}"
            ) from None
        lines.append(f"probabilities: calibrated, {_described(scaling)}")
        familiarity = None
        known = _known(data, batch)
        try:
            if opset_of(upgraded) < OPSET:
                raise ValueError(f"the graph cannot be converted to opset {OPSET}: export it with that one")
            familiarity = add_ood(graph, known)
        except (ValueError, InvalidModel, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            lines.append(f"no output {UNFAMILIAR}, the p-value of how typical an image is: {error}")
        else:
            uses += known.uses
            lines.append(f"output {UNFAMILIAR}: a p-value of how typical the image is, added")
        return Evaluated(
            onnx.load(graph), data, evaluation, familiarity, tuple(uses), time.perf_counter() - started, tuple(lines)
        )


def read_images(source: str, labels: tuple[str, ...], image: ImageInput, bad: Bad) -> ImageData:
    """Labelled images: those of the validation split fit, those of the test split measure, and none train.

    Of data with both splits, each is what it is called. Of other data one split, or all images, is divided into halves
    at random, always the same, with about the same fraction of every label. Training images of data that has other
    splits are left out, since the model may have been trained on them.

    Raises:
        DataError: they cannot be used.
    """
    inspection, problems = Inspection(), Problems()
    classes, splits = open_images(source, inspection, problems, needs_train=False)
    names = [name for name in ("validation", "test") if name in splits] or [*splits][:1]
    if left_out := sum(len(part) for name, part in splits.items() if name not in names):
        inspection.notes.append(f"{left_out:,} images of other splits than {' and '.join(names)} are left out")
    known = LabelIndex(labels, problems)
    parts = [_with_known_labels(splits[name], classes, known) for name in names]
    lazy = sum(map(len, parts)) * int(np.prod(image.shape[1:])) > IN_MEMORY
    read = [
        read_split(f"Decoding {source} [{name}]", part, image, problems, lazy=lazy)
        for name, part in zip(names, parts, strict=True)
    ]
    problems.settle(source, bad, inspection)
    fitting, measuring = _divided([split for split, _, _ in read])
    if min(len(fitting), len(measuring)) < _FEWEST:
        raise DataError(
            f"{source}: {len(fitting)} labelled images would fit and {len(measuring)} measure; give {_FEWEST} for each."
        )
    describe_splits(inspection, {"validation": len(fitting), "test": len(measuring)}, (), "images")
    digests = [digest for _, found, _ in read for digest in found]
    truth = [split.labels.tobytes() for split, _, _ in read]
    return ImageData(
        name=name_of(source),
        classes=labels,
        train=fitting.take(np.arange(0)),
        validation=fitting,
        test=measuring,
        fingerprint=fingerprint("files-sha256", [repr(image).encode(), *digests, *truth]),
        inspection=inspection,
    )


def _described(scaling: Scaling) -> str:
    exponent = "" if scaling.exponent == 1 else f", exponent {scaling.exponent:.3g}"
    return f"temperature {scaling.temperature:.3g}{exponent}"


def _divided(splits: Sequence[ImageSplit]) -> tuple[ImageSplit, ImageSplit]:
    if len(splits) == 2:
        return splits[0], splits[1]
    (split,) = splits
    fitting, measuring = split_validation(split.labels)
    return split.take(fitting), split.take(measuring)


def _with_known_labels(part: ImageItems, classes: Sequence[str], known: LabelIndex) -> ImageItems:
    """The images whose label the model has, with its index there; the others are problems."""
    found = [
        known.find(classes[label], part.files.where(int(index)))
        for index, label in zip(part.indices, part.labels, strict=True)
    ]
    kept = part.take(np.array([index is not None for index in found], dtype=bool))
    labels = np.array([index for index in found if index is not None], dtype=np.int64)
    return ImageItems(kept.files, kept.indices, labels)


def _known(data: ImageData, batch: int) -> OodData:
    """What the p-values are made of: distances from the selection half of validation, and the calibration half."""
    less = images_less(data, 0)
    selection, calibration = data.division
    near = selection[some_indices(len(selection), MOST_TRAINING // less)]
    held_out = calibration[some_indices(len(calibration), MOST_HELD_OUT // less)]
    fitting = data.validation.take(near)
    uses = (
        *history.halves_used(data.division, (history.DISTANCES,), most=len(near)),
        *history.halves_used(data.division, (), (history.P_VALUES,), most=len(held_out)),
    )
    return OodData(
        _METHOD,
        fitting.images,
        fitting.labels,
        data.validation.take(held_out).images,
        data.test.take(some_indices(len(data.test), MOST_TEST // less)).images,
        {name: images[: foreign.MOST // less] for name, images in foreign.made_up_images(data.shape).items()},
        partial(_run, batch=batch),
        uses,
    )


def _run(graph: Path, images: Images, batch: int, title: str = "Comparing images") -> list[Array]:
    """A graph's outputs for all images, in their order."""
    session = Session(graph, "cpu")
    starts = range(0, len(images), batch)
    (name,) = session.inputs
    parts = [session.run({name: images[start : start + batch]}) for start in track(starts, title, total=len(starts))]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
