"""Calls of the service's operations: what they send, and what is made of the answers."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from quartet import inputs
from quartet.answers import Picture, SavedGeneration, ServedBy
from quartet.errors import QuartetError
from quartet.http import Connection
from quartet.inputs import Prepare, Prepared
from quartet.lists import Carrier, Errors, progress_bar
from quartet.results import Results

# Items of a request: enough to fill the server's batches, few enough for others to have their turn in between.
_IMAGES = 32
_MOST = 500
_FORMATS = {".png": "grid", ".zip": "zip", ".npz": "npz"}

Options = Mapping[str, Any]


class Calls:
    """What the methods of a client have in common.

    Args:
        connection: to the server.
        concurrency: how many requests of a list are under way at a time.
    """

    def __init__(self, connection: Connection, concurrency: int) -> None:
        self.connection = connection
        self._concurrency = concurrency

    async def get(self, *path: str) -> Any:
        """The document at a path below `/v1`."""

        async def receive(response: httpx.Response) -> Any:
            return json.loads(await response.aread())

        return await self.connection.exchange(
            "GET", "/".join(["v1", *(quote(part, safe="") for part in path)]), receive
        )

    async def post(self, operation: str, options: Options, body: Mapping[str, Any]) -> tuple[Any, ServedBy]:
        """The document that an operation answers, and who answered."""

        async def receive(response: httpx.Response) -> tuple[Any, ServedBy]:
            document = json.loads(await response.aread())
            return document, ServedBy.read(document, response.headers)

        return await self.connection.exchange("POST", f"v1/{operation}", receive, params=options, **body)

    async def draw(self, operation: str, image: Any, options: Options) -> Picture:
        """The picture that an operation makes of an image."""

        async def receive(response: httpx.Response) -> Picture:
            return Picture(png=await response.aread())

        body = _form([await asyncio.to_thread(inputs.image, image)])
        return await self.connection.exchange(
            "POST", f"v1/{operation}", receive, params={**options, "render": True}, **body
        )

    async def save(self, path: Path, wanted: Options, options: Options, progress: bool | None) -> SavedGeneration:
        """Generates into a file, which is there whole or not at all.

        Raises:
            ValueError: its name does not say what is to be written.
        """
        suffix = path.suffix.lower()
        if suffix not in _FORMATS:
            raise ValueError(f"{path}: must end with one of {', '.join(_FORMATS)}, which says what is written")
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

        body = json_body({**wanted, "format": _FORMATS[suffix]})
        try:
            return await self.connection.exchange("POST", "v1/generate", receive, params=options, **body)
        finally:
            part.unlink(missing_ok=True)

    async def images(
        self,
        operation: str,
        read: Callable[..., Any],
        images: Any,
        options: Options,
        errors: Errors,
        progress: bool | None,
    ) -> Any:
        """Does what an operation does for each image.

        Args:
            operation: its name.
            read: makes an answer of a result, who answered, the file's name and the image's source.
            images: one or several.
            options: of the operation.
            errors: what becomes of an item that fails.
            progress: whether a bar is shown.
        """
        one = inputs.is_one_image(images)

        async def ask(chunk: Sequence[Prepared]) -> list[Any]:
            document, served_by = await self.post(operation, options, _form(chunk))
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

        return await self.each(images, one, inputs.image, ask, _IMAGES, errors, progress)

    async def documents(
        self,
        operation: str,
        key: str,
        read: Callable[..., Any],
        items: Any,
        one: bool,
        prepare: Prepare,
        options: Options,
        errors: Errors,
        progress: bool | None,
        most: int = _MOST,
    ) -> Any:
        """Does what an operation does for each item of a JSON document.

        Args:
            operation: its name.
            key: of the list of items in the document.
            read: makes an answer of a result and who answered.
            items: one or several.
            one: whether it is one.
            prepare: makes an item ready.
            options: of the operation.
            errors: what becomes of an item that fails.
            progress: whether a bar is shown.
            most: how many items a request may hold.
        """

        async def ask(chunk: Sequence[Prepared]) -> list[Any]:
            body = json_body({key: [item.value for item in chunk]})
            document, served_by = await self.post(operation, options, body)
            common = {"target": document["target"]} if "target" in document else {}
            return [read({**common, **result}, served_by) for result in document["results"]]

        return await self.each(items, one, prepare, ask, most, errors, progress)

    async def each(
        self,
        items: Any,
        one: bool,
        prepare: Prepare,
        ask: Callable[[Sequence[Prepared]], Awaitable[Sequence[Any]]],
        most: int,
        errors: Errors,
        progress: bool | None,
    ) -> Any:
        """The answer for one item, or `Results` for several."""
        if not one:
            carrier: Carrier[Any] = Carrier(
                prepare, ask, most=most, concurrency=self._concurrency, errors=errors, progress=progress
            )
            total = len(items) if hasattr(items, "__len__") else None
            return Results(await carrier.carry(inputs.items_of(items), total), inputs.index_of(items))
        carrier = Carrier(prepare, ask, most=1, concurrency=1, errors="raise", progress=False)
        try:
            (answer,) = await carrier.carry([items], 1)
        except QuartetError as error:
            error.index = None  # there is but one
            raise
        return answer


def json_body(document: Options) -> dict[str, Any]:
    """A JSON document as the body of a request; entries that are None are left out."""
    given = {name: value for name, value in document.items() if value is not None}
    return {"content": json.dumps(given).encode(), "headers": {"content-type": "application/json"}}


def _form(chunk: Iterable[Prepared]) -> dict[str, Any]:
    """Images as the body of a request: one as it is, several as a form."""
    data = [item.value for item in chunk]
    if len(data) == 1:
        return {"content": data[0], "headers": {"content-type": "application/octet-stream"}}
    return {"files": [("files", (f"{number}", each)) for number, each in enumerate(data)]}
