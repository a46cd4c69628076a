"""The weights that a run or a published version holds, for another training to start from."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from service.inference.manifest import MANIFEST
from training.registry import read_manifest

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
# What a module calls the network that it holds together with something that only the training needs.
INNER = "inner"


def weights_file(folder: Path) -> str:
    """The name of the file with the weights of a run or version; raises ValueError if there is none."""
    for name in (WEIGHTS, CHECKPOINT):
        if (folder / name).is_file():
            return name
    raise ValueError(f"{folder}: holds neither a run's {CHECKPOINT} nor a version's {WEIGHTS}")


def best_weights(folder: Path) -> dict[str, Tensor]:
    """The state dict of the best epoch of a run, or of a version; raises ValueError if there is none."""
    if weights_file(folder) == WEIGHTS:
        state = load_file(folder / WEIGHTS)
        return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    weights: dict[str, Tensor] = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)["best"]
    if not weights:
        raise ValueError(f"{folder}: the run was stopped before its first epoch ended: --resume it first")
    return inner_weights(weights)


def inner_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state dict that is the network's own, if it holds more than that, or all of it."""
    prefix = f"{INNER}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)} or weights


def start_from(model: nn.Module, folder: Path) -> None:
    """Loads the best weights of another run or version; raises ValueError if they are of another network."""
    try:
        model.load_state_dict(best_weights(folder))
    except RuntimeError as error:
        raise ValueError(f"--init-from {folder}: is a run of another network: {error}") from None


def fingerprint_of(folder: Path) -> str | None:
    """The fingerprint of the data that a run or a published version was trained on; None if `folder` is neither."""
    if (folder / MANIFEST).is_file():
        data = read_manifest(folder).data
        return data.fingerprint if data else None
    if not (folder / CHECKPOINT).is_file():
        return None
    saved: dict[str, dict[str, str]] = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    return saved["settings"].get("data")


def keep_weights(model: nn.Module, folder: Path) -> None:
    """Writes a network's weights into a version's folder in half precision, for a later training to start from."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # the library makes it readable by its owner alone
