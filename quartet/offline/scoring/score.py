"""Scores an input of any size into a file, and goes on where it was interrupted."""

import asyncio
import contextlib
import hashlib
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quartet.offline.scoring.engine import Engine, Job
from quartet.offline.scoring.outputs import Format, format_of
from quartet.offline.scoring.parts import Parts
from quartet.offline.scoring.sources import Item, Source, chunks, open_source
from service.settings import Settings
from service.tasks.registry import BUILT_IN, Registry

# A part is written when it holds so many rows, or when the last one was written so long ago: no more work is lost.
PART_ROWS = 16_384
_PART_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of it.

    Attributes:
        rows: in the output.
        errors: of these, how many could not be scored, in this run.
        resumed: of these, how many an earlier run had scored.
        seconds: that this run scored for, without loading the model.
    """

    rows: int
    errors: int
    resumed: int
    seconds: float


async def score(
    job: Job,
    source: Path,
    output: Path,
    settings: Settings,
    *,
    registry: Registry = BUILT_IN,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Summary:
    """Scores everything in a source into a file, in its order.

    What has been scored is kept in `<output>.parts` until all is there. If the work is cut short, however, the same
    call goes on after the last row that was written there, with the same version of the model.

    Args:
        job: what is done with each item.
        source: a folder of images, or a .parquet, .csv or .jsonl file.
        output: a .parquet or .jsonl file, which must not exist.
        settings: of the service.
        registry: the tasks of the models.
        progress: told how many rows are done, and of how many.

    Raises:
        UnusableInput: the source or the output cannot be used.
        UnusableJob: the model cannot do what it is asked to.
        NothingToServe, UnknownModel, DeviceUnavailable: it cannot be loaded.
    """
    with Parts(output) as parts:
        before = parts.job
        if before and before["model"].partition("/")[0] == job.model:
            job = replace(job, model=before["model"])
        engine = await Engine.open(job, settings, registry)
        try:
            opened = open_source(source, parts.listing, engine.cell)
            columns = engine.choose_columns(opened.columns)
            format_ = format_of(output, engine.operation, {**engine.signature, "operation": engine.operation.name})
            parts.begin(describe(job, engine, source, settings))
            resumed = parts.done(format_)
            progress(resumed, opened.total)
            started = time.monotonic()
            errors = 0
            writer = _Writer(parts, format_, resumed)
            items = chunks(opened.items(resumed, columns), engine.chunk)
            try:
                async with aclosing(rows_of(engine, items, opened)) as answers:
                    async for rows in answers:
                        errors += sum("error" in row for row in rows)
                        await writer.add(rows)
                        progress(writer.end, opened.total)
            finally:
                # What is there is kept, also where the work is cut short.
                writer.flush()
            seconds = time.monotonic() - started
            await asyncio.to_thread(parts.finish, format_)
            return Summary(writer.end, errors, resumed, seconds)
        finally:
            await engine.close()


async def rows_of(
    engine: Engine, items: Iterator[list[Item]], source: Source
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """The rows of all items, in order, some at a time; as many calls are in flight as keep the device busy."""
    pending: deque[asyncio.Task[list[dict[str, Any]]]] = deque()
    loop = asyncio.get_running_loop()
    more = True
    try:
        while more or pending:
            while more and len(pending) < engine.in_flight:
                chunk = await loop.run_in_executor(None, next, items, None)
                if chunk is None:
                    more = False
                else:
                    pending.append(loop.create_task(engine.score(chunk, source.base)))
            if pending:
                yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*pending, return_exceptions=True)


class _Writer:
    """Gathers rows and writes them as parts.

    Args:
        parts: of the output.
        format_: theirs.
        start: the row that comes first.

    Attributes:
        end: the row after the last one that was added.
    """

    def __init__(self, parts: Parts, format_: Format, start: int) -> None:
        self._parts = parts
        self._format = format_
        self._start = self.end = start
        self._encoded: list[Any] = []
        self._since = time.monotonic()

    async def add(self, rows: list[dict[str, Any]]) -> None:
        self._encoded.append(await asyncio.to_thread(self._format.encode, rows))
        self.end += len(rows)
        if self.end - self._start >= PART_ROWS or time.monotonic() - self._since > _PART_SECONDS:
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        encoded, self._encoded = self._encoded, []
        if encoded:
            start, self._start = self._start, self.end
            self._parts.add(self._format, start, self.end, encoded)
            self._since = time.monotonic()


def describe(job: Job, engine: Engine, source: Path, settings: Settings) -> Mapping[str, Any]:
    """What must be the same for one part of an output to fit another."""
    stat = source.stat()
    manifest = settings.models / engine.version / "manifest.json"
    described = {
        "model": engine.version,
        "manifest": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "operation": engine.operation.name,
        "options": [list(option) for option in job.options],
        "column": job.column,
        "source": str(source.resolve()),
        # A folder's files were listed when the work began.
        "size": stat.st_size if source.is_file() else None,
        "modified": stat.st_mtime_ns if source.is_file() else None,
    }
    result: Mapping[str, Any] = json.loads(json.dumps(described))
    return result
