"""Calls of the service's operations: what they send, and what is made of the answers."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from quartet import inputs
from quartet.answers import GeneratedImage, Generation, Picture, SavedGeneration, ServedBy
from quartet.errors import ProblemError, QuartetError
from quartet.http import Connection
from quartet.inputs import Prepare, Prepared
from quartet.lists import Carrier, Errors, progress_bar
from quartet.results import Results, Stream

# Items of a request: enough to fill the server's batches, few enough for others to have their turn in between.
MOST_IMAGES = 32
MOST_RECORDS = 500
_FORMATS = {".png": "grid", ".zip": "zip", ".npz": "npz"}

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """How a call is carried out.

    Attributes:
        errors: what becomes of an item that fails; see `Carrier`.
        progress: whether a bar is shown.
        stream: whether answers are yielded as they arrive.
        timeout: seconds in which each request must be answered, retries included.
    """

    errors: Errors = "raise"
    progress: bool | None = None
    stream: bool = False
    timeout: float | None = None


class Calls:
    """What the methods of a client have in common.

    Args:
        connection: to the server.
        concurrency: the most requests at a time for a list.
    """

    def __init__(self, connection: Connection, concurrency: int) -> None:
        self.connection = connection
        self._concurrency = concurrency

    async def get(self, *path: str, timeout: float | None = None) -> Any:
        """The document at a path below `/v1`."""

        async def receive(response: httpx.Response) -> Any:
            return json.loads(await response.aread())

        parts = "/".join(["v1", *(quote(part, safe="") for part in path)])
        return await self.connection.exchange("GET", parts, receive, timeout=timeout)

    async def post(
        self, operation: str, options: Options, body: Mapping[str, Any], timeout: float | None = None
    ) -> tuple[Any, ServedBy]:
        """The document that an operation answers, and who answered."""

        async def receive(response: httpx.Response) -> tuple[Any, ServedBy]:
            document = json.loads(await response.aread())
            return document, ServedBy.read(document, response.headers)

        return await self.connection.exchange(
            "POST", f"v1/{operation}", receive, params=options, timeout=timeout, **body
        )

    async def draw(self, operation: str, image: Any, options: Options, timeout: float | None = None) -> Picture:
        """The picture that an operation makes of an image."""

        async def receive(response: httpx.Response) -> Picture:
            return Picture(png=await response.aread())

        return await self.connection.exchange(
            "POST", f"v1/{operation}", receive, params={**options, "render": True}, timeout=timeout,
            **form_body([await asyncio.to_thread(inputs.image, image)]),
        )  # fmt: skip

    async def generate(self, options: Options, timeout: float | None = None) -> Generation:
        """Generates images into memory."""
        wanted = {**options, "format": "json"}
        try:
            answer = await self.post("generate", wanted, {}, timeout)
        except ProblemError as refusal:
            answer = await self.post("generate", *_as_before(wanted, refusal), timeout)
        return Generation.read(*answer)

    async def stream_images(self, options: Options) -> AsyncGenerator[GeneratedImage, None]:
        """Yields generated images as they arrive. If the answer is cut off, the same seed gives the rest of them."""
        seed = secrets.randbelow(2**63) if options["seed"] is None else options["seed"]
        done = 0

        async def receive(response: httpx.Response) -> AsyncGenerator[GeneratedImage, None]:
            nonlocal done
            number = 0
            async with aclosing(_images_of(response)) as images:
                async for document in images:
                    number += 1
                    if number > done:
                        done = number
                        yield GeneratedImage.read(document)

        wanted = {**options, "seed": seed, "format": "json"}
        try:
            async with aclosing(self.connection.stream("POST", "v1/generate", receive, params=wanted)) as images:
                async for image in images:
                    yield image
        except ProblemError as refusal:
            params, body = _as_before(wanted, refusal)
            async with aclosing(
                self.connection.stream("POST", "v1/generate", receive, params=params, **body)
            ) as images:
                async for image in images:
                    yield image

    async def save(self, path: Path, options: Options, progress: bool | None, timeout: float | None) -> SavedGeneration:
        """Generates into a file. It appears only once it is complete.

        Raises:
            ValueError: the suffix of its name is no format.
        """
        suffix = path.suffix.lower()
        if suffix not in _FORMATS:
            raise ValueError(f"{path}: the name must end with one of {', '.join(_FORMATS)}, which choose the format")
        part = path.with_name(f"{path.name}.part")

        async def receive(response: httpx.Response) -> SavedGeneration:
            size = 0
            with (
                contextlib.closing(progress_bar(progress, None, "B", unit_scale=True)) as bar,
                part.open("wb") as file,
            ):
                async for data in response.aiter_bytes():
                    file.write(data)
                    size += len(data)
                    bar.update(len(data))
            part.replace(path)
            return SavedGeneration(path=path, size=size, seed=int(response.headers["x-seed"]))

        wanted = {**options, "format": _FORMATS[suffix]}
        try:
            return await self.connection.exchange("POST", "v1/generate", receive, params=wanted, timeout=timeout)
        except ProblemError as refusal:
            params, body = _as_before(wanted, refusal)
            return await self.connection.exchange(
                "POST", "v1/generate", receive, params=params, timeout=timeout, **body
            )
        finally:
            part.unlink(missing_ok=True)

    async def images(self, operation: str, read: Callable[..., Any], images: Any, options: Options, way: Way) -> Any:
        """Applies an operation to images.

        Args:
            operation: its name.
            read: makes an answer of a result, who answered, the file's name and the image's source.
            images: one or several.
            options: of the operation.
            way: how it is carried out.
        """
        one = inputs.is_one_image(images)

        async def ask(chunk: Sequence[Prepared]) -> list[Any]:
            document, served_by = await self.post(operation, options, form_body(chunk), way.timeout)
            common = {"threshold": document["threshold"]} if "threshold" in document else {}
            return [
                read(
                    {**common, **result},
                    served_by,
                    name=item.name,
                    # Many that are in memory may not be kept there.
                    source=item.source or (item.value if one else None),
                )
                for item, result in zip(chunk, document["results"], strict=True)
            ]

        return await self.each(images, one, inputs.image, ask, MOST_IMAGES, way)

    async def documents(
        self,
        operation: str,
        key: str,
        read: Callable[..., Any],
        items: Any,
        one: bool,
        prepare: Prepare,
        options: Options,
        way: Way,
        most: int = MOST_RECORDS,
    ) -> Any:
        """Applies an operation to the items of a JSON document.

        Args:
            operation: its name.
            key: of the list of items in the document.
            read: makes an answer of a result and who answered.
            items: one or several.
            one: whether it is one.
            prepare: makes an item ready.
            options: of the operation.
            way: how it is carried out.
            most: how many items a request may hold.
        """

        async def ask(chunk: Sequence[Prepared]) -> list[Any]:
            body = json_body({key: [item.value for item in chunk]})
            document, served_by = await self.post(operation, options, body, way.timeout)
            common = {"target": document["target"]} if "target" in document else {}
            return [read({**common, **result}, served_by) for result in document["results"]]

        return await self.each(items, one, prepare, ask, most, way)

    async def each(
        self,
        items: Any,
        one: bool,
        prepare: Prepare,
        ask: Callable[[Sequence[Prepared]], Awaitable[Sequence[Any]]],
        most: int,
        way: Way,
    ) -> Any:
        """The answer for one item; `Results` or a `Stream` for several."""
        carrier: Carrier[Any]
        if not one:
            carrier = Carrier(
                prepare, ask, most=most, concurrency=self._concurrency, errors=way.errors, progress=way.progress
            )
            total = len(items) if hasattr(items, "__len__") else None
            if way.stream:
                return Stream(carrier.stream(inputs.items_of(items), total))
            return Results(await carrier.carry(inputs.items_of(items), total), inputs.index_of(items))
        if way.stream:
            raise TypeError("stream=True is for several items: give a list or another collection")
        carrier = Carrier(prepare, ask, most=1, concurrency=1, errors="raise", progress=False)
        try:
            (answer,) = await carrier.carry([items], 1)
        except QuartetError as error:
            error.index = None  # there is only one
            raise
        return answer


def _as_before(options: Options, refusal: ProblemError) -> tuple[Options, Mapping[str, Any]]:
    """Query and body of a request that a server of 0.1 has refused, as it takes them. To be removed in 0.3.

    Raises:
        ProblemError: the refusal, if it is of another server.
    """
    if not refusal.type.startswith("urn:quartet:"):
        raise refusal
    label = None if options["label"] is None else str(options["label"])
    return {"model": options["model"]}, json_body({**options, "model": None, "label": label})


async def _images_of(response: httpx.Response) -> AsyncGenerator[Any, None]:
    """Yields the entries of `images`, the last field of a JSON document, as they arrive.

    Raises:
        httpx.RemoteProtocolError: the document ends too early.
    """
    decoder, text, inside = json.JSONDecoder(), "", False
    async for piece in response.aiter_text():
        text += piece
        if not inside:
            _, found, rest = text.partition('"images":[')
            if not found:
                continue
            inside, text = True, rest
        while text:
            try:
                document, end = decoder.raw_decode(text, 1 if text[0] == "," else 0)
            except json.JSONDecodeError:
                break
            yield document
            text = text[end:]
    if not text.startswith("]"):
        raise httpx.RemoteProtocolError("the document is incomplete")


def json_body(document: Options) -> dict[str, Any]:
    """A JSON document as the body of a request; entries that are None are left out."""
    given = {name: value for name, value in document.items() if value is not None}
    return {"content": json.dumps(given).encode(), "headers": {"content-type": "application/json"}}


def form_body(items: Sequence[Prepared]) -> dict[str, Any]:
    """Images as the body of a request: one as it is, several as a form."""
    if len(items) == 1:
        return {"content": items[0].value, "headers": {"content-type": "application/octet-stream"}}
    return {"files": [("files", (f"{number}", item.value)) for number, item in enumerate(items)]}
