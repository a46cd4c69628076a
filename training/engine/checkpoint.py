"""The checkpoint in the folder of a run: how far a training is, and whether another run may continue it."""

import contextlib
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.engine.atomic import replacing
from training.engine.weights import CHECKPOINT


@dataclass(slots=True)
class FitState:
    """What a checkpoint holds apart from tensors.

    Attributes:
        epoch: the epochs done.
        best_epoch: the one whose weights are kept; 0 before the first, or if the initial weights are kept.
        improved_epoch: the last one whose score was better than all before; the best one may be a later equal.
        best_score: of it, on the validation split; minus infinity if that was not a number.
        history: a row of figures for each epoch.
        seconds: that the training took.
        initial: the figures on the validation split before the first step.
        step: steps done of the next epoch.
        items: items in these steps.
        step_seconds: that these steps took.
        sums: of each figure of these steps, weighted by items.
        resumed: after which epochs it was continued from a checkpoint.
        validation_seconds: that the last pass over the validation items took.
    """

    epoch: int = 0
    best_epoch: int = 0
    improved_epoch: int = 0
    best_score: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    initial: dict[str, float] = field(default_factory=dict)
    step: int = 0
    items: int = 0
    step_seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    resumed: list[int] = field(default_factory=list)
    validation_seconds: float = 0.0


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces the checkpoint, atomically."""
    with replacing(path) as partial:
        torch.save(content, partial)


def read(path: Path, described: Mapping[str, Any], model: nn.Module, device: torch.device) -> dict[str, Any]:
    """The checkpoint of a training with these settings and this network.

    Raises:
        ValueError: it was made with other settings (except for epochs that are not over, and another patience) or with
            another network.
    """
    # Of several processes on a CPU, the device is called cpu:0, which `load` does not know.
    saved: dict[str, Any] = torch.load(path, map_location="cpu" if device.type == "cpu" else device, weights_only=True)
    before = {"patience": 0, **saved["settings"]}
    free = {"patience", "epochs"} if described["epochs"] >= saved["state"]["epoch"] else {"patience"}
    names = [n for n in {**before, **described} if n not in free and before.get(n) != described.get(n)]
    if names:
        changed = ", ".join(f"{name} {before.get(name)}, now {described.get(name)}" for name in names)
        raise ValueError(f"{path} was made with other settings ({changed}). Use another --run-dir.")
    here = model.state_dict()
    if {n: v.shape for n, v in saved["model"].items()} != {n: v.shape for n, v in here.items()}:
        raise ValueError(f"{path} was made with another network. Use another --run-dir.")
    return saved


def recorded_settings(folder: Path) -> dict[str, Any]:
    """The settings of the checkpoint in the folder of a run, origin and precision included; empty without one."""
    return _read_any(folder).get("settings", {})


def recorded_history(folder: Path) -> dict[str, Any] | None:
    """The `history` and the `initial` figures of the checkpoint in the folder of a run; None without one."""
    state = _read_any(folder).get("state")
    return state and {name: state.get(name) for name in ("history", "initial")}


def stopped(folder: Path) -> str:
    """Where the training in the folder of a run was stopped, in words; empty if it is complete, or not readable."""
    if not (saved := _read_any(folder)):
        return ""
    state, settings = saved["state"], saved["settings"]
    epochs, patience = settings["epochs"], settings.get("patience", 0)
    if state["epoch"] < epochs and not 0 < patience <= state["epoch"] - state.get("improved_epoch", state["epoch"]):
        return f"was stopped in epoch {state['epoch'] + 1} of {epochs}"
    return ""


def unfinished(folder: Path, delivered: float | None) -> str:
    """What a run lacks, in words: the end of its training, or its export; empty if nothing, or there is no run.

    Args:
        folder: of the run.
        delivered: when its drafts were written, in seconds since the epoch; None if it has none.
    """
    if where := stopped(folder):
        return where
    saved = _read_any(folder)
    if saved and (delivered is None or delivered < (folder / CHECKPOINT).stat().st_mtime):
        return f"is complete after {saved['state']['epoch']} epochs, but was not exported"
    return ""


def _read_any(folder: Path) -> dict[str, dict[str, Any]]:
    """The checkpoint; empty if there is none, or if it cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError, RuntimeError, pickle.UnpicklingError):
        found = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
    return found
