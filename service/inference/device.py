"""The devices that can be asked for, and the CPUs that this process may use."""

import logging
import math
import os
import re
from pathlib import Path
from typing import Annotated, NoReturn

from pydantic import AfterValidator

logger = logging.getLogger(__name__)

# The exit code of a process whose GPU has become unusable.
DEVICE_LOST = 3
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


class DeviceUnavailable(Exception):
    """The device that was asked for cannot serve; the message says what is missing."""


class DeviceLost(BaseException):
    """The GPU's context is unusable, and only a new process gets another one; the message says what happened.

    No error of an item or of a model, which is why nothing that handles those catches it: the threads that run graphs
    end the process.
    """


def end_process(lost: DeviceLost) -> NoReturn:
    """Ends the process at once, with the reason in the log and the exit code `DEVICE_LOST`.

    What is in flight would fail, and an orderly end would wait for it, and for the GPU, for good.
    """
    logger.critical("%s: this process ends, and only a new one can use the GPU", lost)
    os._exit(DEVICE_LOST)


def check_device(name: str) -> str:
    """The name of a device, if it is one.

    Raises:
        ValueError: says which names there are.
    """
    if not _DEVICE.fullmatch(name):
        raise ValueError("must be auto, cpu, cuda, or cuda:1 for the second of several GPUs")
    return name


# `cpu`; `cuda` or `cuda:N`, which never fall back; `auto`, which takes CUDA where it works.
Device = Annotated[str, AfterValidator(check_device)]


def cuda_index(device: str) -> int:
    """Which GPU a device means, as CUDA counts them."""
    return int(device.partition(":")[2] or 0)


def cuda_name(index: int) -> str:
    """The device's name, as answers and settings have it."""
    return f"cuda:{index}" if index else "cuda"


def available_cpus() -> int:
    """CPUs that this process may use: its affinity, cut to the container's quota (cgroup v2, v1)."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def cpu_quota() -> float | None:
    """How many CPUs the container may use (cgroup v2, v1); None without a limit."""
    for path, parse in (
        ("/sys/fs/cgroup/cpu.max", lambda text: text.split()),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", lambda text: (text.strip(), "100000")),
    ):
        try:
            quota, period = parse(Path(path).read_text())
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            return int(quota) / int(period)
    return None
