"""quartet predict: a model's answers for a few files, by the code that serves, without a server."""

import argparse
import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quartet.console import fail
from quartet.offline.scoring.engine import Engine, Job
from quartet.offline.scoring.score import rows_of
from quartet.offline.scoring.sources import (
    NOTHING,
    TABLE_SUFFIXES,
    Item,
    Source,
    UnusableInput,
    UnusableJob,
    chunks,
    images_below,
    open_source,
)
from quartet.offline.tables import format_table, to_cell
from service.errors import InvalidRequest, QuartetError
from service.inference.device import DeviceUnavailable
from service.inference.manifest import MANIFEST
from service.inference.repository import NothingToServe
from service.settings import Settings
from service.tasks.registry import Registry

_STDIN = Path("-")
_PNG, _JSON = "image/png", "application/json"


def run(registry: Registry, settings: Settings, options: argparse.Namespace) -> int:
    """Prints a table or JSON lines of the answers, or of the pictures it has written.

    Args:
        registry: the tasks of the models.
        settings: of the service.
        options: `model`, `files`, `operation`, `column`, `option`, `json` and `render`.

    Returns:
        0; 1 if an item could not be answered, or the model or a file cannot be used; 2 for an unusable option.
    """
    model = options.model
    version = Path(model)
    if (version / MANIFEST).is_file():
        version = version.resolve()
        settings = settings.model_copy(update={"models": version.parent.parent})
        model = f"{version.parent.name}/{version.name}"
    job = Job(model, options.operation, tuple(options.option), options.column)
    try:
        return asyncio.run(_predict(job, settings, registry, options))
    except UnusableJob as error:
        return fail(2, str(error))
    except (UnusableInput, NothingToServe, DeviceUnavailable, QuartetError, OSError) as error:
        return fail(1, str(error))


async def _predict(job: Job, settings: Settings, registry: Registry, options: argparse.Namespace) -> int:
    engine = await Engine.open(job, settings, registry)
    failures, cells = 0, []
    try:
        parts = _parts(engine, options.files)
        async for row in _draw_all(engine, parts, options.render) if options.render else _answer_all(engine, parts):
            failures += isinstance(row.get("error"), str)
            if options.json:
                print(json.dumps(row, ensure_ascii=False), flush=True)
            else:
                cells.append({name: to_cell(name, value) for name, value in row.items()})
    finally:
        await engine.close()
        for line in format_table(cells):
            print(line)
    return 1 if failures else 0


async def _answer_all(engine: Engine, parts: Iterable["_Part"]) -> AsyncIterator[dict[str, Any]]:
    """Yields a row for each item, with the name of its file."""
    for part in parts:
        if part.source is None:
            for row in await engine.answer(part.path.read_bytes(), _JSON):
                yield {"file": str(part.path), **row}
            continue
        columns = engine.choose_columns(part.source.columns, part.source.sample)
        items = chunks(part.source.items(0, columns), engine.chunk)
        async with aclosing(rows_of(engine, items, part.source.base)) as answers:
            async for rows in answers:
                for row in rows:
                    yield part.name(row)


async def _draw_all(engine: Engine, parts: Iterable["_Part"], folder: Path) -> AsyncIterator[dict[str, Any]]:
    """Writes a picture for each item, and yields rows that name them."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    if _PNG not in engine.operation.media_types:
        # The results themselves may hold pictures.
        async for row in _answer_all(engine, parts):
            if not isinstance(row.get("error"), str):
                if "png" not in row:
                    raise UnusableJob(f"{engine.operation.name} answers no pictures: leave --render out.")
                row = _save(folder, row, base64.b64decode(row["png"]))
            yield row
        return
    for part in parts:
        if part.source is None:
            raise UnusableInput(f"{part.path}: pictures are drawn of images.")
        columns = engine.choose_columns(part.source.columns, part.source.sample)
        for item in part.source.items(0, columns):
            row = part.name({"row": item.row})
            try:
                yield _save(folder, row, await engine.draw(item, part.source.base))
            except QuartetError as error:
                yield row | {"error": f"{error.title()}: {error.detail}"}


def _save(folder: Path, row: dict[str, Any], png: bytes) -> dict[str, Any]:
    """Writes a picture named after its file, without overwriting any; returns a row that names it."""
    where = {name: row[name] for name in ("file", "row") if name in row}
    stem = "-".join([Path(row["file"]).stem, *([str(row["row"])] if "row" in row else [])])
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.png"
    path.write_bytes(png)
    return where | {"picture": str(path)}


@dataclass(frozen=True, slots=True)
class _Part:
    """A group of items.

    Attributes:
        path: of the file they are in, or of a request body in JSON.
        source: yields them; None for a request body.
    """

    path: Path
    source: "Source | None"

    def name(self, row: dict[str, Any]) -> dict[str, Any]:
        """Prefixes a row with the name of its file."""
        if not isinstance(self.source, _Files):
            return {"file": str(self.path), **row}
        rest = {name: value for name, value in row.items() if name not in ("row", "name")}
        return {"file": str(self.source.paths[row["row"]]), **rest}


class _Files:
    """Files of one item each: images or texts.

    Args:
        paths: of the files.
        texts: whether they are texts; otherwise images.

    Attributes:
        total, columns, plain, types, base: as `Source` has them.
    """

    plain: Sequence[str] = ()
    types: Mapping[str, Any] = NOTHING

    def __init__(self, paths: Sequence[Path], *, texts: bool) -> None:
        self.paths = paths
        self.total = len(paths)
        self.columns: Sequence[str] | None = None
        self.base = Path()
        self._texts = texts

    def sample(self) -> list[Mapping[str, Any]]:
        return []

    def items(
        self,
        start: int,
        columns: Sequence[str],
        carried: Mapping[str, str] = NOTHING,  # noqa: ARG002 - nothing is carried over
    ) -> Iterator[Item]:
        (column,) = columns
        for row, path in enumerate(self.paths[start:], start):
            try:
                yield Item(row, {column: _read_text(path) if self._texts else str(path)})
            except OSError as error:
                yield Item(row, InvalidRequest(f"It cannot be read: {error.strerror}."))
            except UnicodeDecodeError:
                yield Item(row, InvalidRequest("It is not UTF-8."))


def _read_text(path: Path) -> str:
    return sys.stdin.read() if path == _STDIN else path.read_text("utf-8-sig")


def _parts(engine: Engine, paths: Sequence[Path]) -> Iterator[_Part]:
    """Groups files and folders; adjacent files of one item each form one group, to share batches.

    Raises:
        UnusableInput: the operation cannot read one of them.
    """
    takes = engine.takes
    texts = takes is not None
    single: list[Path] = []
    for path in paths:
        suffix = path.suffix.lower()
        if (suffix in TABLE_SUFFIXES or (texts and suffix == ".json")) and not path.is_dir():
            yield from _together(single, texts=texts)
            yield _Part(path, None if suffix == ".json" else open_source(path, path, engine.cell))
        elif takes is not None and len(takes) > 1:
            raise UnusableInput(f"{path}: {engine.operation.name} reads tables: {', '.join(TABLE_SUFFIXES)} or .json.")
        elif path.is_dir():
            found = sorted(path.rglob("*.txt")) if texts else list(images_below(path))
            if not found:
                raise UnusableInput(f"{path}: holds no {'texts (.txt)' if texts else 'images'}.")
            single += found
        else:
            single.append(path)
    yield from _together(single, texts=texts)


def _together(paths: list[Path], *, texts: bool) -> Iterator[_Part]:
    if paths:
        yield _Part(paths[0], _Files(tuple(paths), texts=texts))
        paths.clear()
