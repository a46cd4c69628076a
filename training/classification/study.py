"""What one change of a network gains: short trainings that differ in nothing else, each with several seeds."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from training.classification.architectures import build
from training.classification.labels import predict
from training.classification.options import DEFAULTS, Arch, NetworkSettings
from training.classification.task import Classification, ClassificationSettings
from training.data.augment import Augment
from training.data.images import ImageData, ImageSplit
from training.engine.fit import fit
from training.engine.processes import from_main
from training.engine.settings import FitSettings
from training.export.cards import count_parameters
from training.rows import Row, keep_rows, recall_rows

EPOCHS = 16
IMAGES = 1500
MEASURED = 2000
SEEDS = 3
# Of the validation images, while a training runs: nothing is chosen by them.
_WATCHED = 50
_PLAIN = Augment(flip=False, translate=0, cutout=0)


@dataclass(frozen=True, slots=True)
class Variant:
    """A network with one change.

    Attributes:
        build: makes it from a seed.
        kind: of the change, which says why it matters (`training.classification.effects`); empty for none.
        arch: whose learning rate it takes, compared with that of the CNN.
    """

    build: Callable[[int], nn.Module]
    kind: str = ""
    arch: Arch = "cnn"


def run_study(
    variants: Mapping[str, Variant],
    data: ImageData,
    settings: FitSettings,
    learning: ClassificationSettings,
    path: Path,
    accelerator: Accelerator,
    console: Console,
    network: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Trains each variant a few times on the same part of the training split, long enough to learn it by heart.

    Without augmentation, so that the few epochs suffice for that.

    Args:
        variants: by what is different in them.
        data: its validation split measures, which is the selection half; the test split is not used.
        settings: of the training, except for the epochs, the batch size, the weight averaging and the seed.
        learning: likewise, except for augmentation.
        path: the JSON file that keeps the rows; a variant that is already in it, measured with the same data and
            settings, is not trained again.
        accelerator: the device and the precision.
        console: where progress goes.
        network: the settings that are varied, in plain JSON types.

    Returns:
        A row for each variant: `change`, `kind`, `epochs`, `train` (images), `measured` (validation images),
        `parameters`, `train_accuracy` (of the images trained on) and `validation_accuracy`, both a list with a value
        for each seed, and `seconds` (of one training).
    """
    order = np.random.default_rng(settings.seed).permutation(len(data.train))
    part = data.train.take(order[:IMAGES])
    order = np.random.default_rng(settings.seed).permutation(len(data.validation))
    measured = data.validation.take(order[:MEASURED])
    # With so few images, batches of the usual size would make too few steps.
    short = replace(settings, epochs=EPOCHS, batch_size=min(settings.batch_size, 64), ema=0.0)
    short = replace(short, lr=settings.lr * short.batch_size / settings.batch_size)
    plain = replace(learning, augment=_PLAIN)
    origin = {
        "data": data.fingerprint,
        "train": len(part),
        "measured": len(measured),
        "seeds": SEEDS,
        "network": network,
        "settings": asdict(short),
        "learning": asdict(plain),
        "precision": accelerator.mixed_precision,
    }
    rows = from_main(accelerator, recall_rows(path, origin))
    for change, variant in variants.items():
        if change in (row["change"] for row in rows):
            continue
        rate = short.lr * DEFAULTS[variant.arch].lr / DEFAULTS["cnn"].lr
        started, figures = time.perf_counter(), []
        for seed in range(settings.seed, settings.seed + SEEDS):
            model = variant.build(seed)
            task = Classification(part, measured.take(np.arange(min(_WATCHED, len(measured)))), plain)
            how = replace(short, lr=rate, seed=seed)
            quiet, folder = Console(quiet=True), path.parent / "study"
            fit(model, task, how, folder, accelerator=accelerator, console=quiet, keep="last")
            figures.append([_accuracy(model, split, accelerator) for split in (part, measured)])
        seconds = (time.perf_counter() - started) / SEEDS
        known, unknown = (list(one) for one in zip(*figures, strict=True))
        console.print(
            f"study: {change}: accuracy {np.mean(known):.4f} on training, {np.mean(unknown):.4f} on validation images, "
            f"{seconds:.0f} s",
            highlight=False,
        )
        rows.append(
            {
                "change": change,
                "kind": variant.kind,
                "epochs": EPOCHS,
                "train": len(part),
                "measured": len(measured),
                "parameters": count_parameters(model),
                "train_accuracy": known,
                "validation_accuracy": unknown,
                "seconds": seconds,
            }
        )
        if accelerator.is_main_process:
            keep_rows(path, origin, rows)
    return rows


def _accuracy(model: nn.Module, split: ImageSplit, accelerator: Accelerator) -> float:
    return float((predict(model, split.images, accelerator).argmax(1) == split.labels).mean())


def cnn_variants(network: NetworkSettings, data: ImageData) -> dict[str, Variant]:
    """The CNN as it is, the dense network, and the CNN with one setting changed at a time."""
    half, more = (tuple(round(width * factor) for width in network.widths) for factor in (0.5, 1.5))
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "unchanged": ("", {}),
        "dense layers": ("dense", {"arch": "mlp"}),
        f"half the filters {half}": ("fewer filters", {"widths": half}),
        f"1.5 times the filters {more}": ("more filters", {"widths": more}),
        _depth(network.depth - 1): ("fewer layers", {"depth": network.depth - 1}),
        _depth(network.depth + 1): ("more layers", {"depth": network.depth + 1}),
        "dropout 0.2": ("dropout", {"dropout": 0.2}),
        "dropout 0.5": ("dropout", {"dropout": 0.5}),
    }
    return {
        name: Variant(partial(build, replace(network, **change), data), kind, change.get("arch", "cnn"))
        for name, (kind, change) in changes.items()
        if change.get("depth", 1) > 0
    }


def _depth(count: int) -> str:
    return f"{count} convolution{'s' * (count != 1)} per group"
