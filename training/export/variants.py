"""A variant that was tried: what decides whether it is kept, and how fast it is beside its reference."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.inference.cards import Kept, Speed
from service.inference.session import Session
from training.export.layers import Inputs

Device = Literal["cpu", "cuda"]
_BATCHES = (1, 8, 32)
_SECONDS = 0.15
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """A variant that was tried.

    Attributes:
        method: how it was made, in words.
        size: of its file, in bytes, as is `reference_size`.
        speed: beside the reference; empty where it could not be measured.
        rejection_reason: None if it is kept.
    """

    name: str
    path: Path
    device: Device
    method: str
    validation: Kept
    size: int
    reference_size: int
    speed: tuple[Speed, ...]
    rejection_reason: str | None = None

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


def compare_speed(variant: Path, reference: Path, examples: Inputs, device: Device) -> tuple[Speed, ...]:
    """Items per second of both at some batch sizes; they take turns, and each figure is of its best round.

    On a CPU the sessions have one thread, as busy models are served, and its processor time counts: whatever else the
    machine does meanwhile hardly changes that.
    """
    sessions = [Session(path, device, 1) for path in (variant, reference)]
    most = min(len(array) for array in examples.values())
    found = []
    for batch in sorted({min(batch, most) for batch in _BATCHES}):
        inputs = {name: array[:batch] for name, array in examples.items()}
        rounds = [[_rate(session, inputs, batch) for session in sessions] for _ in range(_ROUNDS)]
        value, of_reference = map(max, zip(*rounds, strict=True))
        found.append(
            Speed(
                device=device,
                machine=machine(device),
                threads=sessions[0].threads,
                batch=batch,
                items_per_second=round(value, 1),
                reference=round(of_reference, 1),
            )
        )
    return tuple(found)


def _rate(session: Session, inputs: Inputs, batch: int) -> float:
    session.run(inputs)
    clock = time.thread_time if session.device == "cpu" else time.perf_counter
    runs, started = 0, clock()
    while (seconds := clock() - started) < _SECONDS:
        session.run(inputs)
        runs += 1
    return runs * batch / seconds


def machine(device: Device) -> str:
    """The processor with what makes int8 fast on it, or the GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    features = [flag for flag in ("avx512_vnni", "avx_vnni", "amx_int8") if flag in text]
    return f"{name[1] if name else 'unknown processor'} ({', '.join(features) or 'without VNNI'})"
