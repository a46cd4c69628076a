"""Scores an input of any size into a file, and resumes after an interruption."""

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

from quartet.offline.flat import is_failure
from quartet.offline.scoring.columns import choose_carried
from quartet.offline.scoring.engine import Engine, Job
from quartet.offline.scoring.outputs import Format, Layout, format_of
from quartet.offline.scoring.parts import Parts
from quartet.offline.scoring.sources import Item, MissingColumn, Source, UnusableInput, chunks, open_source
from service.settings import Settings
from service.tasks.registry import BUILT_IN, Registry

# A part is written after this many rows or seconds, which bounds the work that an interruption loses.
PART_ROWS = 16_384
_PART_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a run.

    Attributes:
        rows: in the output.
        errors: how many of this run's rows could not be scored.
        resumed: how many rows an earlier run had scored.
        seconds: duration of scoring in this run, without loading the model.
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
    say: Callable[[str], None] = lambda _note: None,
) -> Summary:
    """Scores all items of a source into a file, in the order of the source.

    Finished rows are kept in `<output>.parts` until all are there. After an interruption the same call goes on behind
    the last of them, with the same version of the model.

    Args:
        job: what to do with each item.
        source: a folder of images or of texts, or a .parquet, .csv, .tsv or .jsonl file.
        output: a .parquet, .csv, .tsv or .jsonl file, which must not exist.
        settings: of the service.
        registry: the tasks of the models.
        progress: called with the number of finished rows and the total.
        say: called with what was guessed about the input.

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
            plan = make_plan(engine, job, source, output, parts.listing)
            parts.begin(describe(job, engine, plan, source, settings))
            for note in plan.notes:
                say(note)
            opened, format_ = plan.source, plan.format
            resumed = parts.done(format_)
            progress(resumed, opened.total)
            started = time.monotonic()
            errors = 0
            writer = _Writer(parts, format_, resumed)
            items = chunks(opened.items(resumed, plan.columns, plan.carried), engine.chunk)
            try:
                async with aclosing(rows_of(engine, items, opened.base)) as answers:
                    async for rows in answers:
                        errors += sum(map(is_failure, rows))
                        await writer.add(rows)
                        progress(writer.end, opened.total)
            finally:
                # Keep what is finished, also after an interruption.
                writer.flush()
            seconds = time.monotonic() - started
            await asyncio.to_thread(parts.finish, format_)
            return Summary(writer.end, errors, resumed, seconds)
        finally:
            await engine.close()


async def rows_of(
    engine: Engine, items: Iterator[list[Item]], base: Path
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yields the rows of all items in order, in chunks, with enough calls in flight to keep the device busy.

    Args:
        engine: the model.
        items: in chunks of at most `engine.chunk`.
        base: the folder that image paths are relative to.
    """
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
                    pending.append(loop.create_task(engine.score(chunk, base)))
            if pending:
                yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*pending, return_exceptions=True)


class _Writer:
    """Buffers rows and writes them as parts.

    Args:
        parts: of the output.
        format_: of the parts.
        start: index of the first row.

    Attributes:
        end: index after the last row that was added.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """How an input becomes an output.

    Attributes:
        columns: that the model reads.
        carried: columns of the output, by those of the input.
        notes: what was guessed about the input.
    """

    source: Source
    columns: tuple[str, ...]
    carried: Mapping[str, str]
    format: Format
    notes: tuple[str, ...] = ()


def make_plan(engine: Engine, job: Job, source: Path, output: Path, listing: Path) -> Plan:
    """Opens the source and chooses columns and format.

    Raises:
        UnusableInput: the source or the output cannot be used, or a column is missing.
        UnusableJob: the model cannot do what it is asked to.
    """
    opened = open_source(source, listing, engine.cell, texts=engine.takes == ("text",))
    try:
        columns = engine.choose_columns(opened.columns, opened.sample)
    except MissingColumn as error:
        raise UnusableInput(f"{source}: {str(error).removeprefix('The input ')}") from None
    facts = {**engine.signature, "operation": engine.operation.name}
    format_ = format_of(output, engine.operation, facts, Layout(engine.labels, dict(job.options)))
    carried = choose_carried(job.keep, opened.columns, opened.plain, columns, format_.names)
    format_ = format_.carrying({there: opened.types.get(name) for name, there in carried.items()})
    guessed = len(columns) == 1 and not job.column and columns[0] not in ("image", "path", *(engine.takes or ()))
    what = "images are" if engine.takes is None else "texts are"
    note = (f"{what} read from the column {columns[0]!r} (--column names another one)",) if guessed else ()
    return Plan(opened, columns, carried, format_, note)


def describe(job: Job, engine: Engine, plan: Plan, source: Path, settings: Settings) -> Mapping[str, Any]:
    """What must be equal for two parts to belong to the same output."""
    stat = source.stat()
    manifest = settings.models / engine.version / "manifest.json"
    described = {
        "model": engine.version,
        "manifest": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "operation": engine.operation.name,
        "options": [list(option) for option in job.options],
        "columns": plan.columns,
        "carried": plan.carried,
        "source": str(source.resolve()),
        # The files of a folder are listed when the first run starts.
        "size": stat.st_size if source.is_file() else None,
        "modified": stat.st_mtime_ns if source.is_file() else None,
    }
    result: Mapping[str, Any] = json.loads(json.dumps(described))
    return result
