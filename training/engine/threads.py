"""How many threads compute in a training."""

import os

import torch
from threadpoolctl import threadpool_limits

from service.inference.device import available_cpus


def set_threads(wanted: int | None) -> str | None:
    """Sets the number of threads that compute, also in libraries beside PyTorch.

    Args:
        wanted: None for what OMP_NUM_THREADS says, or else one for each CPU that this process may use.

    Returns:
        A line that says why there are fewer threads than CPUs; None if that is not so, or was asked for.

    Raises:
        ValueError: `wanted` is less than 1.
    """
    if wanted is not None and wanted < 1:
        raise ValueError(f"--threads {wanted}: must be at least 1")
    cpus, machine = available_cpus(), os.cpu_count() or 1
    if wanted is None and ("OMP_NUM_THREADS" in os.environ or torch.get_num_threads() <= cpus):
        return None
    threads = wanted or cpus
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries that are loaded later
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    if wanted is not None:
        return None
    return f"{threads} threads, since this process may use {cpus} of {machine} CPUs; --threads overrides this"
