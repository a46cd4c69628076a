"""A loaded version of a model, and the leases that keep it open."""

from collections.abc import Callable

from service.errors import WrongTask
from service.inference.batcher import Batcher
from service.inference.loading import Opened
from service.inference.versions import Stamp
from service.policy.policy import Canary


class Version:
    """A loaded version; `Opened` describes the attributes that come from there.

    Attributes:
        name: of the model.
        version: its number.
        label: `NAME/VERSION`.
        aliases: that point to it.
        stamp: of its files when they were read; see `service.inference.versions.stamp_of`.
        batcher: runs its items.
        leases: number of leases that have not been released.
        retired: whether another version has replaced it.
        withdrawn: the canary that it was, which this process has ended, though the policy may still have it.
    """

    def __init__(self, name: str, version: str, opened: Opened, batcher: Batcher, stamp: Stamp = ()) -> None:
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
        self.aliases: tuple[str, ...] = ()
        self.stamp = stamp
        self._signatures: dict[str | None, tuple[dict[str, str], bytes]] = {}
        self.batcher = batcher
        self.leases = 0
        self.retired = False
        self.withdrawn: Canary | None = None

    @property
    def device(self) -> str:
        """`cpu`, `cuda` or `cuda:N`."""
        return self.session.device

    @property
    def max_batch(self) -> int:
        """The most items in a batch."""
        return self.batcher.max_batch

    def name_by(self, aliases: tuple[str, ...]) -> None:
        """Sets the aliases, of which metrics carry the first."""
        self.aliases = aliases
        self.batcher.label = (self.name, self.version, aliases[0] if aliases else "", self.variant)

    def signature(self, alias: str | None = None) -> dict[str, str]:
        """The model, version, alias (if there is one), device and variant, as every answer states them."""
        return self._sign(alias)[0]

    def header(self, alias: str | None) -> bytes:
        """The same as the value of a response header."""
        return self._sign(alias)[1]

    def _sign(self, alias: str | None) -> tuple[dict[str, str], bytes]:
        signed = self._signatures.get(alias)
        if signed is None:
            named = {} if alias is None else {"alias": alias}
            signature = {
                "model": self.name, "version": self.version, **named, "device": self.device, "variant": self.variant
            }  # fmt: skip
            parameters = "".join(f"; {key}={value}" for key, value in {**named, "variant": self.variant}.items())
            signed = self._signatures[alias] = (signature, f"{self.label}{parameters}".encode())
        return signed

    def check_task(self, task: str) -> None:
        """Raises `WrongTask` unless the model is for this task."""
        if self.manifest.task != task:
            raise WrongTask(
                f"The model {self.name!r} is for the task {self.manifest.task!r}, not {task!r}: GET /v1/models lists "
                "the task of each."
            )


class Lease:
    """Keeps a version open: `close` is called when the last lease of a retired version is released.

    Attributes:
        version: that is leased.
        alias: through which the call came; see `service.inference.routing.Route`, also for the others.
        watched: whether the outputs of the call are kept.
        shadow: the version that gets a copy of the call.
    """

    __slots__ = ("_close", "alias", "shadow", "version", "watched")

    def __init__(
        self,
        version: Version,
        close: Callable[[Version], None],
        alias: str | None = None,
        watched: bool = False,
        shadow: Version | None = None,
    ) -> None:
        self.version = version
        self.alias = alias
        self.watched = watched
        self.shadow = shadow
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
