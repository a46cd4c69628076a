"""Opens versions in the background: several at a time, and before there is an event loop."""

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from service.inference.cuda import serving_device
from service.inference.device import DeviceLost, available_cpus, end_process
from service.inference.loading import Kind, Opened, open_version
from service.inference.manifest import GOLDEN, MODEL
from service.inference.variants import Selection

# Versions that are opened at a time, on as many cores; each takes memory that it gives back when it is open.
_AT_ONCE = 4


class Opener:
    """Opens versions on daemon threads, which do not delay the end of the process.

    Args:
        kinds: by the name of the task.
        device: as `Session` takes it.
        threads: CPU threads, which all models share; 0 for as many as there are CPUs.
        max_batch: the most items in a batch, unless a manifest states less.
        gpu_memory_mb: as `Session` takes it.
        selection: which variants answer.

    Attributes:
        threads: as above, never 0.
        selection: as above.
    """

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        *,
        device: str,
        threads: int,
        max_batch: int,
        gpu_memory_mb: float = 0,
        selection: Selection | None = None,
    ) -> None:
        self.threads = threads or available_cpus()
        self.selection = selection or Selection()
        self._open = partial(
            open_version,
            kinds=kinds,
            device=device,
            threads=self.threads,
            max_batch=max_batch,
            gpu_memory_mb=gpu_memory_mb,
        )
        # On a CPU each is checked and timed on one core. Timings on a GPU would disturb each other.
        self._slots = threading.Semaphore(min(self.threads, _AT_ONCE) if serving_device(device) == "cpu" else 1)
        self._begun: dict[Path, Future[Opened]] = {}

    def begin(self, folders: Iterable[Path]) -> None:
        """Starts to open versions for which `open` is going to be called, the largest first."""
        for folder in sorted(set(folders) - self._begun.keys(), key=_size, reverse=True):
            self._begun[folder] = self._start(folder)

    def open(self, folder: Path) -> "Future[Opened]":
        """Opens a version, unless that has begun already.

        Args:
            folder: `<name>/<version>`.

        Returns:
            What `open_version` returns or raises.
        """
        return self._begun.pop(folder, None) or self._start(folder)

    def forget(self) -> None:
        """Drops what has been opened and not been asked for."""
        self._begun.clear()

    def _start(self, folder: Path) -> "Future[Opened]":
        future: Future[Opened] = Future()

        def run() -> None:
            future.set_running_or_notify_cancel()  # from here on, a caller that gives up cannot cancel it
            name = folder.parent.name
            with self._slots:
                try:
                    opened = self._open(folder, name, wanted=self.selection.of(name))
                except Exception as error:
                    future.set_exception(error)
                except DeviceLost as lost:
                    end_process(lost)
                else:
                    future.set_result(opened)

        threading.Thread(target=run, name="load", daemon=True).start()
        return future


def _size(folder: Path) -> int:
    """Bytes of the graph and of its golden inputs, which together tell best how long opening takes."""
    try:
        return sum((folder / name).stat().st_size for name in (MODEL, GOLDEN))
    except OSError:
        return 0
