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
    """The GPU's context is unusable, and only a new process can get another one; the message says what happened.

    A BaseException, so that handlers for errors of items and models do not catch it. The threads that run graphs end
    the process.
    """


def end_process(lost: DeviceLost) -> NoReturn:
    """Ends the process at once, with the reason in the log and the exit code `DEVICE_LOST`.

    Calls in flight would fail, and an orderly shutdown would wait for them, and for the GPU, forever.
    """
    logger.critical("%s: this process ends, and only a new one can use the GPU", lost)
    os._exit(DEVICE_LOST)


def check_device(name: str) -> str:
    """Returns the name of a device; raises ValueError, which lists the names, if it is not one."""
    if not _DEVICE.fullmatch(name):
        raise ValueError("must be auto, cpu, cuda, or cuda:1 for the second of several GPUs")
    return name


# `cpu`; `cuda` or `cuda:N`, which never fall back; `auto`, which takes CUDA where it works.
Device = Annotated[str, AfterValidator(check_device)]


def cuda_index(device: str) -> int:
    """The index of a device's GPU, as CUDA counts them."""
    return int(device.partition(":")[2] or 0)


def cuda_name(index: int) -> str:
    """The name of the device of a GPU, as in answers and settings."""
    return f"cuda:{index}" if index else "cuda"


def available_cpus() -> int:
    """The number of CPUs that this process may use: its affinity, limited by the container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, math.ceil(cpu_quota() or cpus)))


def cpu_quota() -> float | None:
    """The number of CPUs that the container may use (cgroup v2, v1); None without a limit."""
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
