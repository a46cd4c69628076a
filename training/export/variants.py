"""A variant that was tried: what decides whether it is kept, and what the report says of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.inference.cards import Kept, Speed


@dataclass(frozen=True, slots=True)
class Trial:
    """A variant that was tried.

    Attributes:
        name: of the method and the variant.
        path: of its graph.
        device: that it is meant for.
        method: how it was made, in words.
        validation: the figure that decides whether it is kept.
        size: of its file, in bytes; likewise `reference_size`.
        speed: beside the reference; empty where it could not be measured.
        rejection_reason: None if it is kept.
    """

    name: str
    path: Path
    device: Literal["cpu", "cuda"]
    method: str
    validation: Kept
    size: int
    reference_size: int
    speed: tuple[Speed, ...]
    rejection_reason: str | None = None

    @property
    def kept(self) -> bool:
        """Whether it is kept."""
        return self.rejection_reason is None

    @property
    def gain(self) -> float:
        """The speedup over the reference in the largest batches that were measured."""
        return gain_of(self.speed[-1]) if self.speed else 1.0

    def __str__(self) -> str:
        speedups = ", ".join(f"{gain_of(speed):.2f} at {speed.batch}" for speed in self.speed) or "not measured"
        return (
            f"{self.name}: {self.rejection_reason or 'kept'}; validation {self.validation.figure} "
            f"{self.validation.value:.4f} (reference {self.validation.reference:.4f}), speedup in batches: {speedups}; "
            f"{self.size / 1e6:.1f} MB ({self.reference_size / 1e6:.1f}); {self.method}"
        )


def gain_of(speed: Speed) -> float:
    """The speedup over the reference."""
    return speed.items_per_second / speed.reference
