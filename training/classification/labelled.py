"""Labelled images of any data, to measure a published classifier on."""

from typing import Any

import numpy as np

from service.tasks.classification.manifest import ClassifierManifest
from training.data.dataset import Inspection
from training.data.image_sources import open_images
from training.data.inspection import Problems
from training.data.splits import limited
from training.export.labelled import EncodedImages, LabelIndex, LabelledClasses, choose_splits


def labelled_images(manifest: ClassifierManifest, options: Any) -> LabelledClasses:
    """The images of any of the sources that `training.data.image_sources.open_images` takes.

    Args:
        manifest: of the classifier.
        options: `EvaluateOptions`.

    Raises:
        DataError: the data cannot be used.
    """
    source, inspection, problems = options.data, Inspection(), Problems()
    classes, found = open_images(source, inspection, problems, needs_train=False, encoding=options.encoding)
    splits = choose_splits(source, found, options.split)
    known, truth = LabelIndex(manifest.labels, problems), []
    for name, part in splits.items():
        if options.limit is not None and len(part) > options.limit:
            part = part.take(limited(name, part.labels, options.limit, 0))
        indices = [
            known.find(classes[label], part.files.where(int(index)))
            for index, label in zip(part.indices, part.labels, strict=True)
        ]
        splits[name] = part.take(np.flatnonzero([index is not None for index in indices]))
        truth += [index for index in indices if index is not None]
    known.check(source)
    problems.settle(source, options.bad, inspection)
    return LabelledClasses(
        manifest,
        source,
        EncodedImages({name: (part.files, part.indices.tolist()) for name, part in splits.items()}),
        inspection,
        truth,
    )
