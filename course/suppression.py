"""What non-maximum suppression and the penalty for uncertain edges do to a published detector's average precision.

The network's own boxes are read from its graph once, then kept in several ways. No weight changes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from course.study import Row, measure_rows, study_parser, table, write_study
from service.inference.manifest import MANIFEST, MODEL
from service.tasks.detection.manifest import DetectorManifest, Suppression
from training.data.dataset import DataError
from training.data.hub import SPLITS
from training.detection.data import DetectionData, DetectionSplit, load_detection
from training.detection.evaluation import EVALUATION_BATCH, average_precision, in_originals
from training.detection.graph import PostProcess, graph_outputs
from training.detection.learner import DetectionSettings
from training.registry import training_of

# Boxes that overlap completely: none suppresses another.
_NEVER = 1.0
Outputs = tuple[Tensor, Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study and writes its report."""
    parser = study_parser("course.suppression", __doc__)
    parser.add_argument("--version", type=Path, default=Path("models/detector/1"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    manifest = DetectorManifest.model_validate_json((options.version / MANIFEST).read_bytes())
    image = manifest.image
    data = in_order_of(
        manifest.labels,
        load_detection(options.data, size=(image.height, image.width), limit=options.limit, seed=options.seed),
    )
    splits = {"validation": data.validation, "test": data.test}
    outputs = {name: graph_outputs(options.version / MODEL, split) for name, split in splits.items()}
    trained = DetectionSettings.stated(training_of(manifest).settings).suppression
    measures = {
        name: partial(_measure, suppression, data, splits, outputs)
        for name, suppression in ways(trained, manifest.suppression).items()
    }
    origin = {
        "data": data.fingerprint,
        "model": manifest.files[MODEL],
        "images": {name: len(split) for name, split in splits.items()},
    }
    rows = measure_rows(options.folder, origin, measures, Console())
    write_study(
        options.folder,
        "# Which boxes to keep",
        f"The boxes of `{manifest.name}/{options.version.name}`, kept in several ways. Mean average precision (mean "
        f"over an IoU of 0.5 to 0.95) on the {len(data.validation)} validation images, which chose the last way, and "
        f"on the {len(data.test)} test images, which did not:",
        table(
            ("way", "boxes per image", "validation", "test", "test at IoU 0.5"),
            [
                (
                    name,
                    f"{row['boxes']:.0f}",
                    f"{row['validation']['map']:.4f}",
                    f"{row['test']['map']:.4f}",
                    f"{row['test']['map_50']:.4f}",
                )
                for name, row in rows.items()
            ],
        ),
        "Boxes per image: those with a score of 0.1 or more, on test. *Spread edges*: a box of which the network is "
        "unsure where the edges are gets a lower score.",
    )


def in_order_of(labels: Sequence[str], data: DetectionData) -> DetectionData:
    """The data with its classes in the order of a model's labels; formats differ in the order that they imply.

    Raises:
        DataError: the classes are others.
    """
    if set(data.classes) != set(labels):
        raise DataError(f"{data.name}: its classes are {', '.join(data.classes)}; those of the model are not the same.")
    numbers = np.array([labels.index(label) for label in data.classes])

    def renumbered(split: DetectionSplit) -> DetectionSplit:
        crowds = tuple((boxes, numbers[each]) for boxes, each in split.crowds)
        return dataclasses.replace(split, labels=tuple(numbers[each] for each in split.labels), crowds=crowds)

    splits: dict[str, Any] = {name: renumbered(getattr(data, name)) for name in SPLITS}
    return dataclasses.replace(data, classes=tuple(labels), **splits)


def ways(trained: Suppression, chosen: Suppression) -> Mapping[str, Suppression]:
    """From keeping everything to what validation chose, by name."""
    plain = trained.model_copy(update={"soft": False, "spread_penalty": 0.0, "usual_spreads": ()})
    soft = chosen.model_copy(update={"floor": plain.floor, "spread_penalty": 0.0, "usual_spreads": ()})
    return {
        "all boxes": plain.model_copy(update={"iou": _NEVER}),
        f"non-maximum suppression at {plain.iou}": plain,
        f"soft suppression at {soft.iou}": soft,
        "soft, spread edges, as published": chosen,
    }


def _measure(
    suppression: Suppression, data: DetectionData, splits: Mapping[str, DetectionSplit], outputs: Mapping[str, Outputs]
) -> Row:
    row: Row = {}
    for name, split in splits.items():
        post_process = PostProcess(data.size, suppression)
        batches = zip(*(part.split(EVALUATION_BATCH) for part in outputs[name]), strict=True)
        parts = [post_process(*batch) for batch in batches]
        found = in_originals(split.letterboxes, [torch.cat(part).numpy() for part in zip(*parts, strict=True)])
        precision = average_precision(found, split, data.classes)
        row[name] = {"map": round(precision.map, 4), "map_50": round(precision.map_50, 4)}
        row["boxes"] = round(sum(int((each.scores >= 0.1).sum()) for each in found) / len(found), 1)
    return row


if __name__ == "__main__":
    main()
