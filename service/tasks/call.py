"""One call of an operation: the model it was given, what was sent, and the ways through the model."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from service.errors import InvalidRequest
from service.inference.cards import ManifestBase
from service.inference.leases import Version
from service.inference.pipeline import Make
from service.inference.scope import CallScope
from service.tasks.images import UInt8Array
from service.tasks.threads import Prepare, Threads

ManifestT = TypeVar("ManifestT", bound=ManifestBase)
OptionsT = TypeVar("OptionsT")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Upload:
    """An image file as it was sent, and its name if one was given."""

    name: str | None
    data: bytes


@dataclass(slots=True)
class Call(Generic[ManifestT, OptionsT]):
    """A call of an operation, whose options and inputs have been read.

    Attributes:
        version: of the model that answers; `scope` holds a lease on it.
        options: of the query.
        inputs: `Upload`s, or the inputs that a `Format` parsed.
        scope: owner, deadline, cancellation.
        threads: for slow work.
        max_pixels: that an image may declare.
        prefers_picture: whether the client accepts a picture rather than results.
        alias: of the version, by which the call came.
    """

    version: Version
    options: OptionsT
    inputs: Sequence[Any]
    scope: CallScope
    threads: Threads
    max_pixels: int
    prefers_picture: bool = False
    alias: str | None = None

    @property
    def manifest(self) -> ManifestT:
        """The manifest of the version, which is of the operation's task."""
        return cast(ManifestT, self.version.manifest)

    @property
    def signature(self) -> dict[str, str]:
        """What answers: model, version, alias, device and variant."""
        return self.version.signature(self.alias)

    @property
    def companion(self) -> Any:
        """The value of the task's `read_companion`."""
        return self.version.companion

    def wants_picture(self, render: bool) -> bool:
        """Whether the answer is a picture: because of the option `render`, or because the client prefers one.

        Raises:
            InvalidRequest: it is, and there are several images.
        """
        if not render and not self.prefers_picture:
            return False
        if len(self.inputs) > 1:
            raise InvalidRequest(
                f"A picture shows one image; the request holds {len(self.inputs)}: send one at a time.",
                parameter="render" if render else None,
            )
        return True

    async def infer(self, items: Sequence[Any]) -> list[Any]:
        """The model's results for prepared items, in order; each is a tuple with a row of every output."""
        return await self.scope.infer(self.version, items)

    async def infer_images(self, prepare: Prepare) -> tuple[list[Any], list[Any]]:
        """The model's results for the images that were sent, in order, and the notes of `prepare` for each.

        Raises:
            QuartetError: an image cannot be decoded or run; `index` tells which.
        """
        notes: list[Any] = []
        uploads: Sequence[Upload] = self.inputs
        learn = self.version.batcher.admission.prepared

        async def make(start: int, end: int) -> list[UInt8Array]:
            data = [upload.data for upload in uploads[start:end]]
            items, more = await self.threads.prepare(data, prepare, self.max_pixels, self.scope, learn, start)
            notes.extend(more)
            return items

        return await self.scope.infer_made(self.version, len(uploads), make), notes

    def seconds_for(self, items: int) -> float:
        """An estimate of the model's time for some items, from the time that it took for others."""
        return items * self.version.batcher.flow.seconds_per_item

    def stream(self, count: int, make: Make) -> AsyncGenerator[list[Any], None]:
        """The model's results for `count` items, one batch at a time; `make` makes the items."""
        return self.scope.stream(self.version, count, make)

    async def in_background(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Runs on a thread what would block the event loop for milliseconds."""
        self.scope.check()
        return await self.threads.run(work, *arguments)
