"""What a manifest says about a model's data and training."""

import contextlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import nn

from service.inference.cards import AddedCard, DataCard, TrainingCard
from service.inference.manifest import MODEL
from training.data.added import Added
from training.data.dataset import DataSet
from training.data.splits import division_digest
from training.engine.checkpoint import FitState
from training.export.figures import milliseconds_per_image
from training.report.record import update_record


def data_card(data: DataSet) -> DataCard:
    """What a model was trained and measured on."""
    held_out: frozenset[str] | None = getattr(data, "held_out", None)  # of images
    added: Added | None = getattr(data, "added", None)
    return DataCard(
        name=data.name,
        # Versions with the same test split are compared, whatever was added to the training split.
        fingerprint=added.base if added else data.fingerprint,
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
        division=division_digest(data.division[1]),
        added=added and AddedCard(items=added.items, repeated=added.repeated, unusable=added.unusable),
        held_out=None if held_out is None else tuple(sorted(held_out, reverse=True)),
    )


def training_card(command: str, settings: dict[str, Any], state: FitState, network: nn.Module) -> TrainingCard:
    """How a model was made; the parameters of the network are counted."""
    return TrainingCard(
        recipe=command,
        settings=settings,
        epochs_run=state.epoch,
        best_epoch=state.best_epoch,
        seconds=round(state.seconds, 1),
        parameters=count_parameters(network),
        versions=library_versions(),
    )


def record_cost(folder: Path, inputs: npt.NDArray[Any], max_batch: int) -> None:
    """Records how long the exported graph of the version in `folder` takes for an input, alone and in full batches."""
    alone, batched = (milliseconds_per_image(folder / MODEL, inputs, size) for size in (1, max_batch))
    update_record(folder, cost={"alone": alone, "batched": batched})


def count_parameters(network: nn.Module) -> int:
    """The number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def library_versions() -> dict[str, str]:
    """The installed versions of what shapes a model."""
    found = {"python": platform.python_version()}
    for name in ("torch", "timm", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy", "datasets"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
