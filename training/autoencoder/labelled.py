"""Images of any data, to measure a published autoencoder on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.tasks.autoencoder.manifest import ImageCodeManifest
from training.data.dataset import Inspection
from training.data.image_sources import open_images
from training.data.inspection import Problems
from training.data.splits import limited
from training.export.figures import bootstrap
from training.export.labelled import EncodedImages, Findings, Labelled, choose_splits


class RestoredImages(Labelled):
    """Images, of the sources that `training.data.image_sources.open_images` takes; labels are not needed.

    Args:
        manifest: of the autoencoder.
        options: `EvaluateOptions`.

    Raises:
        DataError: the data cannot be used.
        ValueError: the version is a part of an autoencoder, of which nothing can be measured alone.
    """

    # The service guesses whether a picture is inverted; the training never inverts one.
    options = (("invert", "never"),)

    def __init__(self, manifest: ImageCodeManifest, options: Any) -> None:
        if manifest.task != "autoencoder":
            raise ValueError(f"{manifest.name}: is a part of an autoencoder: measure the autoencoder, which has both")
        source, inspection, problems = options.data, Inspection(), Problems()
        encoding = options.encoding
        _, found = open_images(source, inspection, problems, labelled=False, needs_train=False, encoding=encoding)
        splits = choose_splits(source, found, options.split)
        for name, part in splits.items():
            if options.limit is not None and len(part) > options.limit:
                splits[name] = part.take(limited(name, part.labels, options.limit, 0))
        problems.settle(source, options.bad, inspection)
        super().__init__(
            manifest,
            source,
            EncodedImages({name: (part.files, part.indices.tolist()) for name, part in splits.items()}),
            inspection,
        )
        self._errors = np.zeros(self.total)

    def take(self, index: int, answer: Mapping[str, Any]) -> None:
        self._errors[index] = answer["error"]

    def findings(self) -> Findings:
        errors = self._errors[self.answered]
        intervals = bootstrap(lambda chosen: {"mse": float(errors[chosen].mean())}, len(errors))
        card = self.manifest.metrics.mse
        figure = self.figure("mse", float(errors.mean()), intervals["mse"], card, higher_is_better=False)
        rows = np.argsort(-errors, kind="stable")
        worst = [{"image": self.found.where(self.answered[row]), "squared error": float(errors[row])} for row in rows]
        return Findings((figure,), worst=worst)
