"""quartet predict --server: a server's answers for a few files."""

import argparse
import asyncio
import base64
import csv
import io
import json
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quartet import inputs
from quartet.calls import MOST_IMAGES, MOST_RECORDS, Calls, form_body, json_body
from quartet.console import FAILED, MISUSED, fail
from quartet.errors import InvalidItemError, InvalidRequestError, ProblemError, QuartetError, UnknownModelError
from quartet.lists import Carrier
from quartet.offline.files import Group, Kind, groups_of
from quartet.offline.flat import is_failure
from quartet.offline.pictures import save
from quartet.offline.printing import Printer
from quartet.offline.scoring.columns import choose_columns
from quartet.offline.scoring.sources import BadItem, Item, UnusableJob
from quartet.remote.server import connect, explain

_CONCURRENCY = 4
# The operation of each task that answers items.
_OPERATIONS = {
    "classification": "predict",
    "detection": "detect",
    "text": "classify-text",
    "tabular": "predict-tabular",
    "autoencoder": "reconstruct",
    "encoder": "encode",
    "decoder": "decode",
}
# The list of items in the body of a request; operations on images have none.
_KEYS = {"classify-text": "texts", "predict-tabular": "rows", "decode": "latents"}
_DRAWN = ("detect", "reconstruct")


def run(options: argparse.Namespace) -> int:
    """Prints the answers, or the names of the pictures that it has written.

    Args:
        options: `server`, `model`, `files`, `operation`, `column`, `option`, `format` and `render`.

    Returns:
        0; 1 if an item could not be answered, or the server refuses or cannot be reached; 2 for an unknown model or
        option.
    """
    try:
        return asyncio.run(_predict(options))
    except BrokenPipeError:
        raise
    except (UnusableJob, UnknownModelError) as error:
        return fail(MISUSED, explain(error))
    except InvalidRequestError as error:
        return fail(MISUSED if any(each.parameter for each in error.errors) else FAILED, explain(error))
    except (QuartetError, OSError) as error:
        return fail(FAILED, explain(error))


async def _predict(options: argparse.Namespace) -> int:
    async with connect(options.server, retry_for=0) as connection:
        model = await Calls(connection, 1).get("models", *options.model.split("/", 1))
    failures, printer = 0, Printer(options.format)
    async with connect(options.server) as connection:
        query = _Query.of(Calls(connection, _CONCURRENCY), model, options)
        groups = groups_of(options.files, query.kind, query.operation, str)
        try:
            async with aclosing(_rows(query, groups, options.render)) as rows:
                async for row in rows:
                    failures += is_failure(row)
                    printer.add(row)
        finally:
            printer.end()
    return FAILED if failures else 0


@dataclass(frozen=True, slots=True)
class _Query:
    """What is asked about each item.

    Attributes:
        calls: to the server.
        operation: its name.
        options: of the operation, with the model.
        takes: the columns of an input; None for images.
        usual: the column of the texts in the training data, if it is known.
        column: that the user named.
    """

    calls: Calls
    operation: str
    options: Mapping[str, Any]
    takes: tuple[str, ...] | None
    usual: tuple[str, ...]
    column: str | None

    @classmethod
    def of(cls, calls: Calls, model: Mapping[str, Any], options: argparse.Namespace) -> "_Query":
        """The query for a model, as `GET /v1/models/NAME` describes it.

        Raises:
            UnusableJob: the model answers no items.
        """
        operation: str = options.operation or _OPERATIONS.get(model["task"], "")
        if operation not in _OPERATIONS.values():
            known = ", ".join(_OPERATIONS.values())
            what = f"there is no operation {operation!r}" if operation else f"name the --operation of {options.model}"
            raise UnusableJob(f"{what}: this command knows {known}.")
        manifest = model["manifest"]
        takes: dict[str, tuple[str, ...]] = {
            "classify-text": ("text",),
            "predict-tabular": tuple(column["name"] for column in manifest.get("columns", ())),
            "decode": ("latents",),
        }
        usual = (manifest["text_column"],) if manifest.get("text_column") else ()
        query = {**dict(options.option), "model": options.model}
        return cls(calls, operation, query, takes.get(operation), usual, options.column)

    @property
    def kind(self) -> Kind:
        return "image" if self.takes is None else "text" if self.takes == ("text",) else "row"


async def _rows(query: _Query, groups: Iterable[Group], render: Path | None) -> AsyncGenerator[dict[str, Any], None]:
    """Yields a row for each item, with the name of its file; with `render` it names the picture."""
    if render:
        await asyncio.to_thread(render.mkdir, parents=True, exist_ok=True)
    for group in groups:
        try:
            items, columns = _items(query, group)
        except (UnusableJob, ValueError) as error:
            yield group.failure(str(error))
            continue
        answer = _draw if render and query.operation in _DRAWN else _answer
        async with aclosing(answer(query, group, items, columns)) as rows:
            async for row in rows:
                row = group.row(row)
                if render and not is_failure(row):
                    if "png" not in row:
                        raise UnusableJob(f"{query.operation} answers no pictures: leave --render out.")
                    row = save(render, row, base64.b64decode(row["png"]))
                yield row


def _items(query: _Query, group: Group) -> tuple[Iterable[Item], tuple[str, ...]]:
    """The items of a group, and the columns that they are made from.

    Raises:
        UnusableJob: the file lacks a column.
        ValueError: the file cannot be used.
    """
    if group.problem:
        raise ValueError(group.problem)
    if group.source:
        columns = choose_columns(
            query.takes, query.column, query.usual, group.source.columns, group.source.sample, query.operation
        )
        return group.source.items(0, columns), columns
    key = _KEYS[query.operation]
    try:
        document = json.loads(group.document or b"")
        values = document[key] if key in document else [document["text"]]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f'The document must be {{"{key}": […]}}.') from None
    return (Item(row, value) for row, value in enumerate(values)), ()


async def _answer(
    query: _Query, group: Group, items: Iterable[Item], columns: tuple[str, ...]
) -> AsyncGenerator[dict[str, Any], None]:
    """Yields a row for each item."""
    names: deque[str | None] = deque()
    takes = query.takes

    def prepare(item: Item) -> inputs.Prepared:
        names.append(None)
        if isinstance(item.record, BadItem):
            raise InvalidItemError(item.record.detail)
        if takes is None:
            value = item.record[columns[0]]
            names[-1] = _path_of(value)
            return _image(value, group)
        value = item.record
        if columns:
            value = value[columns[0]] if len(takes) == 1 else dict(zip(takes, map(value.get, columns), strict=True))
        return inputs.Prepared(value, len(str(value)))

    async def ask(chunk: Sequence[inputs.Prepared]) -> list[Any]:
        values = [item.value for item in chunk]
        if takes is None:
            body = form_body(chunk)
        elif group.cells and query.operation == "predict-tabular":
            body = _csv_body(takes, values)
        else:
            body = json_body({_KEYS[query.operation]: values})
        document, _ = await query.calls.post(query.operation, query.options, body)
        results: list[Any] = document["results"]
        return results

    most = MOST_IMAGES if takes is None else MOST_RECORDS
    carrier = Carrier[Any](prepare, ask, most=most, concurrency=_CONCURRENCY, errors="return", progress=False)
    async with aclosing(carrier.stream(items, None)) as answers:
        row = 0
        async for answer in answers:
            name = {"name": names.popleft()} if takes is None else {}
            result = {"error": _error(answer)} if isinstance(answer, QuartetError) else answer
            yield {"row": row, **result, **name}
            row += 1


async def _draw(
    query: _Query, group: Group, items: Iterable[Item], columns: tuple[str, ...]
) -> AsyncGenerator[dict[str, Any], None]:
    """Yields a row with the picture that the server draws for each item."""
    for item in items:
        try:
            if isinstance(item.record, BadItem):
                raise InvalidItemError(item.record.detail)
            image = _image(item.record[columns[0]], group).value
            png = (await query.calls.draw(query.operation, image, query.options)).png
            yield {"row": item.row, "png": base64.b64encode(png)}
        except (InvalidItemError, ProblemError) as error:
            if isinstance(error, ProblemError) and error.index is None:
                raise
            yield {"row": item.row, "error": _error(error)}


def _image(value: Any, group: Group) -> inputs.Prepared:
    """An image of a table: its bytes, its path relative to the table, or a mapping with either."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and group.source:
        value = group.source.base / value
    return inputs.image(value)


def _path_of(value: Any) -> str | None:
    path = value.get("path") if isinstance(value, Mapping) else value
    return path if isinstance(path, str) else None


def _csv_body(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Rows as CSV, whose cells the server reads as it reads those of a file."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return {"content": text.getvalue().encode(errors="replace"), "headers": {"content-type": "text/csv"}}


def _error(error: QuartetError) -> str:
    title = error.title if isinstance(error, ProblemError) else "Invalid request"
    return f"{title}: {error.detail}"
