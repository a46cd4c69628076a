"""Opens versions in the background: several at a time at the start, and before there is an event loop."""

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from service.inference.cuda import serving_device
from service.inference.device import DeviceLost, end_process
from service.inference.footprint import Footprints
from service.inference.loading import Loader, Opened
from service.inference.manifest import GOLDEN, MODEL
from service.inference.variants import Selection

# Versions opened concurrently at the start, each on one core. Opening takes memory that is freed afterwards.
_CONCURRENT = 4


class Opener:
    """Opens versions on daemon threads, which do not delay the end of the process.

    Args:
        loader: opens each version.
        selection: which of its graphs answers.
    """

    def __init__(self, loader: Loader, selection: Selection | None = None) -> None:
        self.threads = loader.threads
        self.selection = selection or Selection()
        self._open = loader.open
        device = serving_device(loader.device)
        # On a CPU each version is checked and timed on one core. Timings on a GPU would disturb each other.
        self._most = min(self.threads, _CONCURRENT) if device == "cpu" else 1
        self._footprints = Footprints(device)
        self._begun: dict[Path, Future[Opened]] = {}
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Path, Future[Opened]]] = deque()
        self._running = 0

    def fits(self, folder: Path) -> bool:
        """Whether there is memory to open the version in a folder beside those that are open."""
        return self._footprints.fits(folder)

    def begin(self, folders: Iterable[Path]) -> None:
        """Starts to open versions for which `open` will be called, the largest first."""
        for folder in sorted(set(folders) - self._begun.keys(), key=_size, reverse=True):
            self._begun[folder] = self._start(folder)

    def open(self, folder: Path) -> "Future[Opened]":
        """Opens the version in a folder, unless that has begun; gives what `Loader.open` returns or raises."""
        return self._begun.pop(folder, None) or self._start(folder)

    def forget(self) -> None:
        """Ends a round: drops versions for which `open` was not called.

        After the first round, versions are opened one at a time, since requests need the other cores.
        """
        self._begun.clear()
        self._most = 1

    def _start(self, folder: Path) -> "Future[Opened]":
        future: Future[Opened] = Future()
        future.set_running_or_notify_cancel()  # the caller cannot cancel it
        with self._lock:
            self._waiting.append((folder, future))
            if self._running >= self._most:
                return future
            self._running += 1
        # Starting a thread waits for the GIL twice, so the event loop does not start one for each version.
        threading.Thread(target=self._work, name="load", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._running > self._most:
                    self._running -= 1
                    return
                waiting = self._waiting.popleft()
            self._run(*waiting)
            del waiting  # a thread must not keep a version alive while it opens the next one

    def _run(self, folder: Path, future: "Future[Opened]") -> None:
        try:
            with self._footprints.measured(folder):
                opened = self._open(folder, self.selection.of(folder.parent.name))
        except Exception as error:
            future.set_exception(error)
            # The error's traceback refers to this frame. With the future in it, a rejected version's session would
            # stay in memory until the garbage collector runs.
            del future
        except DeviceLost as lost:
            end_process(lost)
        else:
            future.set_result(opened)


def _size(folder: Path) -> int:
    """Bytes of the graph and its golden file, a proxy for the time that opening takes."""
    try:
        return sum((folder / name).stat().st_size for name in (MODEL, GOLDEN))
    except OSError:
        return 0
