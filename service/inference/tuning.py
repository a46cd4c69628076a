"""What was measured on a machine before, in a file: neither a start nor a reload has to measure it again.

One file serves machines of several kinds, on a volume that they share, and each takes what was measured on its own.
"""

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import onnxruntime as ort
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.inference.device import available_cpus, cuda_index
from service.inference.machine import read_cpu, read_driver
from service.inference.performance import Performance

logger = logging.getLogger(__name__)

# In the models folder, unless a setting says otherwise.
TUNING = "tuning.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TunedGraph(_Record):
    """How a graph is best run on a machine.

    Attributes:
        model: its name and version, for those who read the file.
        variant: likewise.
        max_batch: the largest batch.
        seconds: what such a batch takes, on one core or on the GPU.
        alone: what a batch of one takes, likewise.
        inline: whether its batches run on the event loop.
        items_per_second: under load, by the number of batches that ran at a time.
        p99_ms: how long an item took under load, the slowest hundredth left out, in milliseconds.
    """

    model: str
    variant: str
    max_batch: int = Field(ge=1)
    seconds: float = Field(gt=0, allow_inf_nan=False)
    alone: float = Field(gt=0, allow_inf_nan=False)
    inline: bool
    items_per_second: dict[int, float]
    p99_ms: float

    @property
    def performance(self) -> Performance:
        """As loading takes it."""
        return Performance(self.max_batch, self.seconds, self.alone, self.inline)


class Tuning(_Record):
    """The graphs that were measured, by machine and by the sha256 of their files."""

    format: Literal[1] = 1
    machines: dict[str, dict[str, TunedGraph]] = {}

    def threads(self, machine: str) -> int | None:
        """How many batches at a time served all graphs of a machine best, as the geometric mean of their rates."""
        rates = [graph.items_per_second for graph in self.machines.get(machine, {}).values()]
        counts = set.intersection(*({count for count, rate in each.items() if rate > 0} for each in rates or [{}]))
        # Of equals the most: lone batches get as many cores.
        return max(counts, key=lambda n: (round(sum(math.log(each[n]) for each in rates), 2), n), default=None)

    def with_graphs(self, machine: str, graphs: Mapping[str, TunedGraph]) -> "Tuning":
        """The same, and these graphs of a machine, by the sha256 of their files."""
        return Tuning(machines={**self.machines, machine: {**self.machines.get(machine, {}), **graphs}})


def machine_key(device: str) -> str:
    """What a measurement depends on: the processor or the GPU, how many CPUs there are, and the runtime.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
    """
    cpu = read_cpu()
    parts = [f"{cpu.name} ({', '.join(cpu.features) or 'no features'})", f"{available_cpus()} CPUs"]
    if device != "cpu" and (driver := read_driver()):
        parts[:0] = [gpu.name for gpu in driver.gpus if gpu.index == cuda_index(device)]
        parts.append(f"driver {driver.version}")
    return ", ".join([*parts, f"ONNX Runtime {ort.__version__}"])


def read_tuning(path: Path) -> Tuning:
    """What was measured; nothing where the file is missing or cannot be used, which is said in the log."""
    try:
        return Tuning.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Tuning()
    except OSError as error:
        problem = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc'][-2:]))}: {first['msg']}" if first["loc"] else first["msg"]
    logger.warning("%s cannot be used (%s): remove it, or run `python -m service tune` again", path.name, problem)
    return Tuning()


def write_tuning(path: Path, tuning: Tuning) -> None:
    """Writes the file in one step: who reads it meanwhile gets the old one or the new.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(tuning.model_dump_json(indent=2) + "\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
