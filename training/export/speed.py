"""How fast a variant is beside its reference, in ONNX Runtime's sessions without the service."""

import re
import time
from pathlib import Path
from typing import Literal

from service.inference.cards import Speed
from service.inference.session import Session
from training.export.layers import Inputs

BATCHES = (1, 8, 32)
_SECONDS = 0.15
_ROUNDS = 5


def compare_speed(
    variant: Path, reference: Path, examples: Inputs, device: Literal["cpu", "cuda"]
) -> tuple[Speed, ...]:
    """Items per second of both at some batch sizes; they take turns, and each figure is of its best round.

    On a CPU the sessions have one thread, as busy models are served, and its processor time counts: whatever else the
    machine does meanwhile hardly changes that.
    """
    sessions = [Session(path, device, 1) for path in (variant, reference)]
    most = min(len(array) for array in examples.values())
    found = []
    for batch in sorted({min(batch, most) for batch in BATCHES}):
        inputs = {name: array[:batch] for name, array in examples.items()}
        rates: list[list[float]] = [[], []]
        for _ in range(_ROUNDS):
            for session, own in zip(sessions, rates, strict=True):
                own.append(_rate(session, inputs, batch))
        # Whatever else runs meanwhile makes rounds slower, never faster.
        value, of_reference = map(max, rates)
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


def machine(device: Literal["cpu", "cuda"]) -> str:
    """The processor with what makes int8 fast on it, or the GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    features = [flag for flag in ("avx512_vnni", "avx_vnni", "amx_int8") if flag in text]
    return f"{name[1] if name else 'unknown processor'} ({', '.join(features) or 'without VNNI'})"
