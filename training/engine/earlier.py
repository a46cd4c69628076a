"""What an earlier training left in the folder of a run."""

import contextlib
import pickle
from pathlib import Path
from typing import Any

import torch

from training.engine.weights import CHECKPOINT


def recorded_settings(folder: Path) -> dict[str, Any]:
    """The settings of the checkpoint in the folder of a run, origin and precision included; empty without one."""
    return _read(folder).get("settings", {})


def unfinished(folder: Path, delivered: float | None) -> str:
    """Where the training in the folder of a run was stopped, in words; empty if it is complete, or there is none.

    Args:
        folder: of the run.
        delivered: when its drafts were written, in seconds since the epoch; None if it has none.
    """
    path = folder / CHECKPOINT
    if not (saved := _read(folder)):
        return ""
    state, settings = saved["state"], saved["settings"]
    epochs, patience = settings["epochs"], settings.get("patience", 0)
    if state["epoch"] < epochs and not 0 < patience <= state["epoch"] - state.get("improved_epoch", state["epoch"]):
        return f"was stopped in epoch {state['epoch'] + 1} of {epochs}"
    if delivered is None or delivered < path.stat().st_mtime:
        return f"is complete after {state['epoch']} epochs, but was not exported"
    return ""


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    """The checkpoint; empty if there is none, or if it cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError, RuntimeError, pickle.UnpicklingError):
        found = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
    return found
