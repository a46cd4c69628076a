"""Weights of a backbone from a file."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def refuse_missing_file(weights: str) -> None:
    """Refuses a value of `--weights` that is no file.

    Raises:
        ValueError: says what the option takes.
    """
    if not Path(weights).is_file():
        raise ValueError(f"{weights}: no such file of weights; --weights takes hub, package, none or a path")


def load_weights(module: nn.Module, file: str) -> None:
    """Loads a state dict (.pth, .pt, .safetensors) whose names, or else order and shapes, are those of the module.

    Raises:
        ValueError: no such file, no state dict, or one of another network.
    """
    refuse_missing_file(file)
    path = Path(file)
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever the unpickler does with these bytes
            raise ValueError(f"{path}: is not a file of weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds no state dict (a mapping of names to tensors)")
    target = module.state_dict()
    if state.keys() >= target.keys():
        state = {name: state[name] for name in target}
    elif len(state) <= len(target) + 2:
        # The same network with other parameter names: its tensors match in order and shape, the classifier's come last.
        state = dict(zip(target, state.values(), strict=False))
    if [value.shape for value in state.values()] != [value.shape for value in target.values()]:
        raise ValueError(f"{path}: holds the weights of another network ({len(state)} tensors, not {len(target)})")
    module.load_state_dict(state)
