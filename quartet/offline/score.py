"""quartet score: a model's answers for a folder of images or a file of any size, into a file."""

import argparse
import asyncio
import csv
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from quartet.console import FAILED, MISUSED, fail
from quartet.extras import needs
from quartet.offline.scoring.engine import Job
from quartet.offline.scoring.score import Summary, score
from quartet.offline.scoring.sources import UnusableInput, UnusableJob
from service.errors import QuartetError
from service.inference.device import DeviceUnavailable
from service.inference.repository import NothingToServe
from service.settings import Settings
from service.tasks.registry import Registry

# Longest cell of a CSV file, in characters.
_LONGEST_CELL = 1 << 26
# Interval of the progress line, at a terminal and in a log.
_WATCHED_SECONDS, _LOGGED_SECONDS = 0.5, 30.0


def run(registry: Registry, settings: Settings, options: argparse.Namespace) -> int:
    """Scores, or resumes an interrupted run.

    Args:
        registry: the tasks of the models.
        settings: of the service.
        options: `model`, `input`, `output`, `operation`, `column`, `keep`, `option` and `ray`.

    Returns:
        0 when all items are scored (the output's column `error` names bad ones), 1 on failure, 2 for an unusable
        option, 130 and 143 after SIGINT and SIGTERM.
    """
    job = Job(options.model, options.operation, tuple(options.option), options.column, options.keep)
    csv.field_size_limit(_LONGEST_CELL)
    # As in the server: a thread that runs batches needs the GIL after each one.
    sys.setswitchinterval(0.0005)
    progress = _Progress()
    try:
        if options.ray:
            with needs("ray"):
                from quartet.offline.scoring.on_ray import score_on_ray

            address = None if options.ray == "local" else options.ray
            summary = score_on_ray(job, options.input, options.output, settings, address=address, progress=progress)
        else:
            summary = asyncio.run(_score(job, options.input, options.output, settings, registry, progress))
    except _Ended as ended:
        progress.close()
        return fail(128 + ended.number, "ended before all was scored: the same command resumes from here.")
    except UnusableJob as error:
        return fail(MISUSED, str(error))
    except (UnusableInput, NothingToServe, DeviceUnavailable, QuartetError, OSError) as error:
        progress.close()
        return fail(FAILED, str(error))
    progress.close()
    done = summary.rows - summary.resumed
    resumed = f", {summary.resumed} of them earlier" if summary.resumed else ""
    rows = f"{summary.rows} {'row' if summary.rows == 1 else 'rows'}"
    print(
        f"{options.output}: {rows}{resumed}; {summary.errors} could not be scored; "
        f"{done / max(summary.seconds, 1e-9):.0f} rows/s",
        file=sys.stderr,
    )
    return 0


def _say(note: str) -> None:
    print(note, file=sys.stderr)


class _Progress:
    """Shows finished rows, rate and remaining time: a bar at a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._before: int | None = None
        self._began = self._logged = 0.0

    def __call__(self, done: int, total: int) -> None:
        # Rows of an earlier run must not count towards the rate.
        if self._before is None:
            self._before, self._began = done, time.monotonic()
            self._logged = self._began
            if sys.stderr.isatty():
                seconds = _WATCHED_SECONDS
                self._bar = tqdm(
                    initial=done,
                    total=total,
                    unit=" rows",
                    mininterval=seconds,
                    maxinterval=seconds,
                    dynamic_ncols=True,
                )
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif (now := time.monotonic()) - self._logged >= _LOGGED_SECONDS:
            self._logged = now
            rate = (done - self._before) / (now - self._began)
            left = f", {(total - done) / rate:,.0f} s left" if rate else ""
            print(f"{done:,} of {total:,} rows, {rate:,.0f} rows/s{left}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Ended(Exception):
    """A signal ended the run."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def _score(
    job: Job, source: Path, output: Path, settings: Settings, registry: Registry, progress: Callable[[int, int], None]
) -> Summary:
    """Scores until it is done or a signal arrives; finished parts are kept."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(score(job, source, output, settings, registry=registry, progress=progress, say=_say))
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        raise _Ended(received[0]) from None
