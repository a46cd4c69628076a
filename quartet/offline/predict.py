"""quartet predict: a model's answers for a few files, by the code that serves, without a server."""

import argparse
import asyncio
import base64
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from quartet.console import FAILED, MISUSED, fail
from quartet.offline.files import Group, Kind, groups_of
from quartet.offline.flat import is_failure
from quartet.offline.pictures import save
from quartet.offline.printing import Printer
from quartet.offline.scoring.engine import Engine, Job
from quartet.offline.scoring.score import rows_of
from quartet.offline.scoring.sources import UnusableJob, chunks
from service.errors import QuartetError
from service.inference.device import DeviceUnavailable
from service.inference.manifest import MANIFEST
from service.inference.repository import NothingToServe
from service.settings import Settings
from service.tasks.registry import Registry

_PNG, _JSON = "image/png", "application/json"


def run(registry: Registry, settings: Settings, options: argparse.Namespace) -> int:
    """Prints the answers, or the names of the pictures it has written.

    Args:
        registry: the tasks of the models.
        settings: of the service.
        options: `model`, `files`, `operation`, `column`, `option`, `format` and `render`.

    Returns:
        0; 1 if an item could not be answered or the model cannot be used; 2 for an unknown model or option.
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
    except BrokenPipeError:
        raise
    except UnusableJob as error:
        return fail(MISUSED, str(error))
    except (NothingToServe, DeviceUnavailable, QuartetError, OSError) as error:
        return fail(FAILED, str(error))


async def _predict(job: Job, settings: Settings, registry: Registry, options: argparse.Namespace) -> int:
    engine = await Engine.open(job, settings, registry)
    failures, printer = 0, Printer(options.format)
    try:
        groups = groups_of(options.files, _kind(engine), engine.operation.name, engine.cell)
        rows = _draw_all(engine, groups, options.render) if options.render else _answer_all(engine, groups)
        async with aclosing(rows):
            async for row in rows:
                failures += is_failure(row)
                printer.add(row)
    finally:
        await engine.close()
        printer.end()
    return FAILED if failures else 0


def _kind(engine: Engine) -> Kind:
    return "image" if engine.takes is None else "text" if engine.takes == ("text",) else "row"


def _columns(engine: Engine, group: Group) -> tuple[tuple[str, ...], str | None]:
    """The columns that a group is read from, or why it cannot be read."""
    if group.problem:
        return (), group.problem
    if group.source is None:
        return (), None
    try:
        return engine.choose_columns(group.source.columns, group.source.sample), None
    except UnusableJob as error:
        return (), str(error)


async def _answer_all(engine: Engine, groups: Iterable[Group]) -> AsyncGenerator[dict[str, Any], None]:
    """Yields a row for each item, with the name of its file."""
    for group in groups:
        columns, problem = _columns(engine, group)
        if problem:
            yield group.failure(problem)
        elif group.source:
            items = chunks(group.source.items(0, columns), engine.chunk)
            async with aclosing(rows_of(engine, items, group.source.base)) as answers:
                async for rows in answers:
                    for row in rows:
                        yield group.row(row)
        else:
            try:
                for row in await engine.answer(group.document or b"", _JSON):
                    yield group.row(row)
            except QuartetError as error:
                yield group.failure(f"{error.title()}: {error.detail}")


async def _draw_all(engine: Engine, groups: Iterable[Group], folder: Path) -> AsyncGenerator[dict[str, Any], None]:
    """Writes a picture for each item, and yields rows that name them."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    if _PNG not in engine.operation.media_types:
        # The results themselves may hold pictures.
        async with aclosing(_answer_all(engine, groups)) as rows:
            async for row in rows:
                if not is_failure(row):
                    if "png" not in row:
                        raise UnusableJob(f"{engine.operation.name} answers no pictures: leave --render out.")
                    row = save(folder, row, base64.b64decode(row["png"]))
                yield row
        return
    for group in groups:
        columns, problem = _columns(engine, group)
        if problem or group.source is None:
            yield group.failure(problem or "Pictures are drawn of images.")
            continue
        for item in group.source.items(0, columns):
            row = group.row({"row": item.row})
            try:
                yield save(folder, row, await engine.draw(item, group.source.base))
            except QuartetError as error:
                yield row | {"error": f"{error.title()}: {error.detail}"}
