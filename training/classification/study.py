"""What one change of a network gains: short trainings that differ in nothing else."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from training.cards import count_parameters
from training.classification.architectures import NetworkSettings, build
from training.classification.task import Classification, ClassificationSettings
from training.fit import fit
from training.images import ImageData
from training.labels import predict
from training.rows import Row, keep_rows, recall_rows
from training.settings import FitSettings

EPOCHS = 6
IMAGES = 5000


def run_study(
    variants: Mapping[str, Callable[[], nn.Module]],
    data: ImageData,
    settings: FitSettings,
    learning: ClassificationSettings,
    path: Path,
    accelerator: Accelerator,
    console: Console,
    network: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Trains each variant for a few epochs on the same part of the training split.

    Args:
        variants: builds each network, by what is different in it.
        data: its validation split measures; the test split is not used.
        settings: of the training, except for the epochs, the batch size and the weight averaging.
        learning: likewise, except for CutMix.
        path: the JSON file that keeps the rows; a variant that is already in it, measured with the same data and
            settings, is not trained again.
        accelerator: the device and the precision.
        console: where progress goes.
        network: the settings that are varied, in plain JSON types.

    Returns:
        A row for each variant: `change`, `epochs`, `train` (images), `parameters`, `train_accuracy` (of the images
        trained on, without augmentation), `validation_accuracy`, `seconds`.
    """
    order = np.random.default_rng(settings.seed).permutation(len(data.train))
    part = data.train.take(order[:IMAGES])
    # With so few images, batches of the usual size would make too few steps; and CutMix needs many.
    short = replace(settings, epochs=EPOCHS, batch_size=min(settings.batch_size, 64), ema=0.0)
    plain = replace(learning, augment=replace(learning.augment, cutmix=0.0))
    short = replace(short, lr=settings.lr * short.batch_size / settings.batch_size)
    origin = {
        "data": data.fingerprint,
        "train": len(part),
        "network": network,
        "settings": asdict(short),
        "learning": asdict(plain),
        "precision": accelerator.mixed_precision,
    }
    rows = recall_rows(path, origin)
    for change, make in variants.items():
        if change in (row["change"] for row in rows):
            continue
        console.print(f"study: {change}")
        model = make()
        started = time.perf_counter()
        task = Classification(part, data.validation, plain)
        state = fit(model, task, short, path.parent / "study", accelerator=accelerator, console=console, keep="last")
        seconds = time.perf_counter() - started
        correct = predict(model, part.images, accelerator).argmax(1) == part.labels
        rows.append(
            {
                "change": change,
                "epochs": EPOCHS,
                "train": len(part),
                "parameters": count_parameters(model),
                "train_accuracy": float(correct.mean()),
                "validation_accuracy": state.history[-1]["validation_accuracy"],
                "seconds": seconds,
            }
        )
        if accelerator.is_main_process:
            keep_rows(path, origin, rows)
    return rows


def cnn_variants(network: NetworkSettings, data: ImageData, seed: int) -> dict[str, Callable[[], nn.Module]]:
    """The CNN as it is, and with one setting changed at a time."""
    half, more = (tuple(round(width * factor) for width in network.widths) for factor in (0.5, 1.5))
    changes: dict[str, dict[str, Any]] = {
        "unchanged": {},
        f"half the filters {half}": {"widths": half},
        f"1.5 times the filters {more}": {"widths": more},
        **({f"{network.depth - 1} convolutions per group": {"depth": network.depth - 1}} if network.depth > 1 else {}),
        f"{network.depth + 1} convolutions per group": {"depth": network.depth + 1},
        "dropout 0.2": {"dropout": 0.2},
        "dropout 0.5": {"dropout": 0.5},
    }
    return {name: partial(build, replace(network, **change), data, seed) for name, change in changes.items()}
