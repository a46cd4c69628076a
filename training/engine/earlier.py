"""What an earlier training left in the folder of a run."""

from pathlib import Path

import torch

from training.engine.weights import CHECKPOINT


def recorded_settings(folder: Path) -> dict[str, object]:
    """The settings of the checkpoint in the folder of a run, origin and precision included; empty without one."""
    if not (folder / CHECKPOINT).is_file():
        return {}
    saved: dict[str, dict[str, object]] = _read(folder)
    return saved["settings"]


def unfinished(folder: Path, delivered: float | None) -> str:
    """Where the training in the folder of a run was stopped, in words; empty if it is complete, or there is none.

    Args:
        folder: of the run.
        delivered: when its drafts were written, in seconds since the epoch; None if it has none.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return ""
    saved = _read(folder)
    state, settings = saved["state"], saved["settings"]
    epochs, patience = settings["epochs"], settings.get("patience", 0)
    if state["epoch"] < epochs and not 0 < patience <= state["epoch"] - state.get("improved_epoch", state["epoch"]):
        return f"was stopped in epoch {state['epoch'] + 1} of {epochs}"
    if delivered is None or delivered < path.stat().st_mtime:
        return f"is complete after {state['epoch']} epochs, but was not exported"
    return ""


def _read(folder: Path) -> dict[str, dict]:
    found: dict[str, dict] = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
    return found
