"""One call of an operation: the model it was given, what was sent, and the ways through the model."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from service.errors import InvalidRequest
from service.inference.cards import ManifestBase
from service.inference.pipeline import Make, infer, infer_all
from service.inference.repository import Version
from service.inference.scope import CallScope
from service.tasks.images import UInt8Array
from service.tasks.threads import Prepare, Threads

ManifestT = TypeVar("ManifestT", bound=ManifestBase)
OptionsT = TypeVar("OptionsT")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Upload:
    """An image file as it was sent.

    Attributes:
        name: of the file, where one was given.
        data: its bytes.
    """

    name: str | None
    data: bytes


@dataclass(slots=True)
class Call(Generic[ManifestT, OptionsT]):
    """A call of an operation, whose options and inputs have been read.

    Attributes:
        version: of the model that answers; whoever makes the call holds a lease on it.
        options: what was chosen.
        inputs: `Upload`s, or what the document's `Format` gives.
        scope: owner, deadline, cancellation.
        threads: for what takes long.
        max_pixels: that an image may declare.
        prefers_picture: whether the client would rather have a picture than results.
        items: how many items it is about, for the log; None for as many as there are inputs.
    """

    version: Version
    options: OptionsT
    inputs: Sequence[Any]
    scope: CallScope
    threads: Threads
    max_pixels: int
    prefers_picture: bool = False
    items: int | None = None

    @property
    def manifest(self) -> ManifestT:
        """The manifest of the version, which is of the operation's task."""
        return cast(ManifestT, self.version.manifest)

    @property
    def companion(self) -> Any:
        """What the task's `read_companion` gave."""
        return self.version.companion

    @property
    def signature(self) -> dict[str, str]:
        """What every answer says of who made it."""
        return self.version.signature

    @property
    def max_batch(self) -> int:
        """The most items that run together."""
        return self.version.max_batch

    def wants_picture(self, render: bool) -> bool:
        """Whether the answer shall be a picture: the option `render` says so, or the client would rather have one.

        Raises:
            InvalidRequest: it shall, and there are several images.
        """
        if not render and not self.prefers_picture:
            return False
        if len(self.inputs) > 1:
            raise InvalidRequest(
                f"A picture shows one image; the request holds {len(self.inputs)}: send one at a time."
            )
        return True

    async def infer(self, items: Sequence[Any]) -> list[Any]:
        """The model's results for items that are ready, in order; each is a tuple with a row of every output."""
        return await self.scope.infer(self.version, items)

    async def infer_images(self, prepare: Prepare) -> tuple[list[Any], list[Any]]:
        """The model's results for the images that were sent, in order, and what `prepare` said to read each with.

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

        return await infer_all(self.version, len(uploads), make, self.scope), notes

    def seconds_for(self, items: int) -> float:
        """How long the model works for so many items, by what it took for others."""
        return items * self.version.batcher.flow.seconds_per_item

    def stream(self, count: int, make: Make) -> AsyncGenerator[list[Any], None]:
        """The model's results for `count` items, a batch's worth at a time; `make` makes the items."""
        return infer(self.version, count, make, self.scope)

    async def in_background(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Runs what takes milliseconds where it does not hold up the event loop."""
        self.scope.check()
        return await self.threads.run(work, *arguments)
