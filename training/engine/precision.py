"""The precision of the arithmetic of a training, where the user leaves the choice to the program."""

from collections.abc import Collection
from typing import Literal

import torch


def choose_precision(device: str, safe: Collection[str]) -> tuple[Literal["float32", "bfloat16"], str]:
    """What `--precision auto` means here.

    Args:
        device: `cpu` or `cuda`.
        safe: the devices on which bfloat16 is faster for the network and as good; see `Recipe.fast_precision`.

    Returns:
        `float32` or `bfloat16`; and what makes bfloat16 fast here, empty for float32.
    """
    because = _fast_bfloat16(device) if device in safe else ""
    return ("bfloat16" if because else "float32"), because


def _fast_bfloat16(device: str) -> str:
    """What multiplies matrices faster in bfloat16 than in float32; empty if nothing does."""
    if device == "cuda":
        return "this GPU has tensor cores for it" if torch.cuda.is_bf16_supported(including_emulation=False) else ""
    if torch.cpu._is_amx_tile_supported():
        return "this CPU has AMX"
    return "this CPU has AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else ""
