"""Whether there is memory for another version: estimates of what it needs, and what is free.

A version that is loaded while the one before it serves needs memory beside that one.
"""

import contextlib
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.inference import cuda
from service.inference.device import cuda_index

# Loading takes at most this multiple of the largest graph, and these bytes for its batches. For the committed models
# that is 1.1 to 4 times what was measured at the peak of loading (59 MB for a graph of 16 MB, 105 MB for the detector's
# of 13 MB). On a GPU each shape of a graph has a session with weights of its own.
_TIMES, _TIMES_ON_GPU = 4, 6
_BYTES = 64_000_000
# What loading took before may vary by this factor, and this share of the free memory is not used.
_VARIATION = 1.25
_RESERVE = 0.1

_CGROUPS = Path("/sys/fs/cgroup")
_PROCESS = Path("/proc/self")


def estimate(size: int, on_gpu: bool = False, before: tuple[int, int] | None = None) -> int:
    """The bytes that loading a version takes at its peak.

    Args:
        size: bytes of its largest graph.
        on_gpu: whether the memory of the GPU is meant.
        before: bytes of the largest graph of another version of the model, and what loading that took; None if unknown.
    """
    if before is None:
        return (_TIMES_ON_GPU if on_gpu else _TIMES) * size + _BYTES
    other, took = before
    return math.ceil(_VARIATION * took * max(1.0, size / max(1, other)))


def fits(needed: int, available: int) -> bool:
    """Whether so many bytes can be taken of those that are free, and some are left for requests."""
    return needed <= (1 - _RESERVE) * available


def available_memory() -> int | None:
    """Bytes that this process can still take: of the machine and of its control groups; None if that is unknown."""
    group = re.search(r"^0::/(.*)$", _read(_PROCESS / "cgroup"), re.MULTILINE)
    folder = _CGROUPS / group[1] if group else _CGROUPS
    # The limits of all groups above hold too. In a container, those are often not visible.
    folders = [folder, *folder.parents]
    found = [
        _free_in_group(_read(each / "memory.max"), _read(each / "memory.current"), _read(each / "memory.stat"))
        for each in folders[: folders.index(_CGROUPS) + 1 if _CGROUPS in folders else 0]
    ]
    machine = re.search(r"^MemAvailable:\s*(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    if machine:
        found.append(1024 * int(machine[1]))
    return min((free for free in found if free is not None), default=None)


def _free_in_group(most: str, current: str, statistics: str) -> int | None:
    """The free bytes of a control group, from its files; None without a limit."""
    if not most.strip().isdecimal() or not current.strip().isdecimal():
        return None
    # Cached files count as used, and make room at once.
    cached = re.search(r"^inactive_file (\d+)$", statistics, re.MULTILINE)
    return max(0, int(most) - int(current) + (int(cached[1]) if cached else 0))


class Footprints:
    """What loading versions took on one device, and whether another one fits.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
    """

    def __init__(self, device: str) -> None:
        self._gpu = None if device == "cpu" else cuda_index(device)
        self._took: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._loading = 0
        self._alone = True

    def fits(self, folder: Path) -> bool:
        """Whether the version in `<name>/<version>` can be loaded beside those that are; True if nothing is known."""
        free = available_memory() if self._gpu is None else cuda.free_memory(self._gpu)
        needed = estimate(_largest_graph(folder), self._gpu is not None, self._took.get(folder.parent.name))
        return free is None or fits(needed, free)

    @contextmanager
    def measured(self, folder: Path) -> Iterator[None]:
        """Measures what loading a version takes meanwhile, unless it fails or others are loaded at the same time."""
        with self._lock:
            self._loading += 1
            self._alone = self._loading == 1
        used, size = _Used(self._gpu), _largest_graph(folder)  # the folder may be gone when the version is open
        took = None
        try:
            yield
            took = used.most()
        finally:
            with self._lock:
                self._loading -= 1
                if took and size and self._alone:
                    self._took[folder.parent.name] = (size, took)


class _Used:
    """The most memory that is used from now on, beyond what is used now."""

    def __init__(self, gpu: int | None) -> None:
        self._gpu = gpu
        self._before: int | None
        if gpu is not None:
            self._before = cuda.free_memory(gpu)
            return
        try:
            (_PROCESS / "clear_refs").write_text("5")  # sets VmHWM to what is resident now
            self._before = _peak()
        except OSError:
            self._before = None

    def most(self) -> int | None:
        """Bytes; None if that cannot be told. On a GPU, what is used now: its arenas do not shrink."""
        now = _peak() if self._gpu is None else cuda.free_memory(self._gpu)
        if self._before is None or now is None:
            return None
        return now - self._before if self._gpu is None else self._before - now


def _peak() -> int | None:
    found = re.search(r"^VmHWM:\s*(\d+) kB", _read(_PROCESS / "status"), re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def _largest_graph(folder: Path) -> int:
    """Bytes of the largest graph of a version; 0 if the folder cannot be read."""
    sizes = [0]
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        sizes += [entry.stat().st_size for entry in entries if entry.name.endswith(".onnx")]
    return max(sizes)


def _read(path: Path) -> str:
    """The text of a file of the system; empty if there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
