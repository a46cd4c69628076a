"""What one change of a network buys: short trainings that differ in it alone."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from training.classification import Classification, ClassificationSettings, predict
from training.data import ImageData
from training.fit import FitSettings, fit
from training.rows import Row, keep_rows, recall_rows

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
        variants: what makes each network, by what is different in it.
        data: its validation split measures; the test split is not touched.
        settings: of the training, but for the epochs, the batch size and the averaging.
        learning: likewise, but for mixed images.
        path: the JSON file that keeps the rows; a variant that it holds already, measured with the same data and
            settings, is not trained again.
        accelerator: the device and the precision.
        console: where progress goes.
        network: settings of what is varied, in plain JSON types.

    Returns:
        A row for each variant: `change`, `epochs`, `train` (images), `parameters`, `train_accuracy` (of the images
        trained on, without augmentation), `validation_accuracy`, `seconds`.
    """
    order = np.random.default_rng(settings.seed).permutation(len(data.train))
    part = data.train.take(order[:IMAGES])
    # Batches of the usual size would leave so few images too few steps, and mixed images need many.
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
    for change, build in variants.items():
        if change in (row["change"] for row in rows):
            continue
        console.print(f"study: {change}")
        model = build()
        started = time.perf_counter()
        task = Classification(part, data.validation, plain)
        state = fit(
            model, task, short, path.parent / "study", accelerator=accelerator, console=console, whole=True, keep="last"
        )
        seconds = time.perf_counter() - started
        correct = predict(model, part.images, accelerator).argmax(1) == part.labels
        rows.append(
            {
                "change": change,
                "epochs": EPOCHS,
                "train": len(part),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "train_accuracy": float(correct.mean()),
                "validation_accuracy": state.history[-1]["validation_accuracy"],
                "seconds": seconds,
            }
        )
        if accelerator.is_main_process:
            keep_rows(path, origin, rows)
    return rows
