"""`quartet adopt --task classification`: an image classifier that takes files of images and answers labels."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quartet.adopt import preprocessing
from quartet.adopt.base import AdoptTask, Proposal
from quartet.adopt.batching import decide
from quartet.adopt.graph import CannotAdopt, Loaded, Value, inputs_of
from quartet.adopt.labels import labels_of
from quartet.adopt.pixels import input_of, with_pixels, with_probabilities
from quartet.adopt.preprocessing import Preprocessing, preprocessing_of
from quartet.adopt.samples import CALLS, Samples, read
from quartet.adopt.scores import find_scores
from quartet.extras import needs
from service.tasks.cards import ImageInput
from service.tasks.classification.manifest import ClassifierManifest


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `--task classification`."""
    parser.add_argument(
        "--labels", metavar="FILE", type=Path,
        help="one label a line, in the order of the graph's output, or JSON (default: the labels in the file's "
        "metadata)",
    )  # fmt: skip
    preprocessing.add_options(parser)
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--evaluate", metavar="DATA",
        help="labelled images, in folders named after labels or as `quartet train` reads them: one half calibrates, "
        "and the other measures (default: nothing is measured, and probabilities are as the graph gives them)",
    )  # fmt: skip
    group.add_argument(
        "--bad", choices=("refuse", "drop"), default="refuse",
        help="what to do about images that cannot be used (default: refuse)",
    )  # fmt: skip


def propose(loaded: Loaded, options: argparse.Namespace) -> Proposal:
    """Composes a graph from uint8 pixels to probabilities.

    Raises:
        CannotAdopt: the graph is no classifier of images, the labels do not fit its output, or it is not known how to
            prepare the images.
    """
    values = inputs_of(loaded.model)
    if len(values) > 1:
        names = ", ".join(value.name for value in values)
        raise CannotAdopt("no images", f"The graph has {len(values)} inputs ({names}); an image classifier has one.")
    if options.ranges:
        raise CannotAdopt("range", "--range is for plain tensors: pixels are from 0 to 255. Leave it out.")
    labels, origin = labels_of(options.labels, loaded.source.metadata)
    prepared = preprocessing_of(values[0], options)
    with_images = with_pixels(loaded.model, prepared)
    samples = _samples(input_of(with_images), prepared, options.samples)
    found = find_scores(with_images, samples, labels)
    model = with_probabilities(with_images, found.output, found.answers[:1], found.kind, len(labels))
    changed = loaded.changed(model, *prepared.lines, f"labels: {len(labels)}, from {origin}", found.line)
    description = f"{loaded.source.file}, trained elsewhere, {len(labels)} labels"
    known = {"labels": labels, "image": _image(prepared)}
    call = "curl --data-binary @IMAGE.jpg -H 'Content-Type: image/jpeg' "
    call += shlex.quote(f"localhost:8000/v1/predict?model={options.name}")
    if options.evaluate:
        return _evaluated(changed, samples, {**known, "description": description}, call, options)

    def make_manifest(fields: Mapping[str, Any]) -> ClassifierManifest:
        stated = f"{description}; never evaluated, so its probabilities are not calibrated"
        return ClassifierManifest(**{**fields, **known, "description": stated})

    return Proposal(changed, samples, make_manifest, rows=True, call=call)


def _evaluated(
    loaded: Loaded, samples: Samples, known: Mapping[str, Any], call: str, options: argparse.Namespace
) -> Proposal:
    """The proposal for a composed graph that labelled images calibrate and measure."""
    with needs("evaluate"):
        from quartet.adopt.evaluation import evaluate_on
    batching = decide(loaded.model, samples, options.max_batch, rows=True)
    # A graph for a batch of one ends with the softmax as it was composed.
    model = batching.model if batching.most > 1 else loaded.model
    labels, image = known["labels"], known["image"]
    found = evaluate_on(options.evaluate, model, labels, image, batch=batching.most, bad=options.bad)

    def make_manifest(fields: Mapping[str, Any]) -> ClassifierManifest:
        measured = found.fields(fields["adopted"].command, fields["golden"])
        return ClassifierManifest(**{**fields, **known, **measured})

    return Proposal(
        loaded.changed(found.model, *found.lines),
        Samples.of_rows({input_of(found.model): found.golden}, "given"),
        make_manifest,
        rows=True,
        write=found.write,
        call=call,
    )


CLASSIFICATION = AdoptTask("an image classifier, at /v1/predict", add_options, propose)


def _samples(name: str, prepared: Preprocessing, file: Path | None) -> Samples:
    """Images: given as uint8 of shape (n, height, width, channels), or noise and smooth colours."""
    if file is not None:
        return read(file, [Value(name, "uint8", (1, *prepared.shape))])
    random = np.random.default_rng(0)
    height, width, channels = prepared.shape
    noise = random.integers(0, 256, (CALLS // 2, *prepared.shape), dtype=np.uint8)
    coarse = random.integers(0, 256, (CALLS // 2, 4, 4, channels), dtype=np.uint8)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    return Samples.of_rows({name: np.concatenate([noise, coarse[:, rows][:, :, columns]])}, "random")


def _image(prepared: Preprocessing) -> ImageInput:
    return ImageInput(
        height=prepared.height,
        width=prepared.width,
        channels=prepared.channels,
        resize=prepared.resize,
        crop=prepared.crop,
        interpolation=prepared.interpolation,
    )
