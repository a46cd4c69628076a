"""A loaded version of a model, and the leases that keep it open."""

from collections.abc import Callable

from service.errors import WrongTask
from service.inference.batcher import Batcher
from service.inference.loading import Opened


class Version:
    """A loaded version; `Opened` describes the attributes that come from there.

    Attributes:
        name: of the model.
        version: its number.
        label: `NAME/VERSION`.
        signature: the model, version, device and variant, as every answer states them.
        batcher: runs its items.
        leases: number of leases that have not been released.
        retired: whether another version has replaced it.
    """

    def __init__(self, name: str, version: str, opened: Opened, batcher: Batcher) -> None:
        self.name = name
        self.version = version
        self.label = f"{name}/{version}"
        self.folder = opened.folder
        self.manifest = opened.manifest
        self.companion = opened.companion
        self.variant = opened.variant
        self.others = opened.others
        self.fallback = opened.fallback
        self.session = opened.session
        self.signature = {"model": name, "version": version, "device": self.device, "variant": self.variant}
        self.batcher = batcher
        self.leases = 0
        self.retired = False

    @property
    def device(self) -> str:
        """`cpu`, `cuda` or `cuda:N`."""
        return self.session.device

    @property
    def max_batch(self) -> int:
        """The most items in a batch."""
        return self.batcher.max_batch

    def check_task(self, task: str) -> None:
        """Raises `WrongTask` unless the model is for this task."""
        if self.manifest.task != task:
            raise WrongTask(
                f"The model {self.name!r} is for the task {self.manifest.task!r}, not {task!r}: GET /v1/models lists "
                "the task of each."
            )


class Lease:
    """Keeps a version open: `close` is called when the last lease of a retired version is released."""

    __slots__ = ("_close", "version")

    def __init__(self, version: Version, close: Callable[[Version], None]) -> None:
        self.version = version
        self._close: Callable[[Version], None] | None = close
        version.leases += 1

    def release(self) -> None:
        """Ends the lease; idempotent."""
        if self._close is not None:
            close, self._close = self._close, None
            self.version.leases -= 1
            if self.version.retired and not self.version.leases:
                close(self.version)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
