"""Figures of every epoch for other programs that show them, through accelerate's trackers."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator


def tracker(name: str | None) -> str | None:
    """The tracker as accelerate takes it; raises ValueError if its package is not installed."""
    if name is not None and find_spec(name) is None:
        raise ValueError(f"--track {name}: the package is not installed: pip install {name}")
    return name


def begin_tracking(
    accelerator: Accelerator, name: str | None, folder: Path, run: str, settings: Mapping[str, Any]
) -> None:
    """Begins a run of the tracker, if there is one; the files of TensorBoard go below the folder of the run."""
    if name is None:
        return
    (folder / "tracking").mkdir(parents=True, exist_ok=True)
    # `set_directories` would leave the folder for logs at what the accelerator was made with.
    accelerator.project_configuration.logging_dir = str(folder / "tracking")
    plain = {key: value for key, value in settings.items() if isinstance(value, bool | int | float | str)}
    accelerator.init_trackers(run, config=plain)
