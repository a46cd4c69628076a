"""The same scoring on Ray Data: as many models as a cluster has GPUs or groups of cores, on storage that all share.

Each actor opens the model once and writes whole parts of the output, so that what is lost with a node is scored anew,
and the parts make the same output as those of a single machine.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.data

from quartet.offline.flat import is_failure
from quartet.offline.scoring.engine import Engine, Job
from quartet.offline.scoring.outputs import Format
from quartet.offline.scoring.parts import Parts
from quartet.offline.scoring.score import PART_ROWS, Plan, Summary, describe, make_plan, rows_of
from quartet.offline.scoring.sources import chunks
from service.settings import Settings
from service.tasks.registry import BUILT_IN

# Default number of cores of an actor.
_CORES = 2


class _Scorer:
    """An actor that holds a model and scores ranges of rows."""

    def __init__(self, job: Job, source: str, output: str, settings: Mapping[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._parts = Parts(Path(output))
        self._engine, self._plan = self._loop.run_until_complete(
            _open(job, Path(source), self._parts, Path(output), Settings(**settings))
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Scores the rows from `first` up to `end`."""
        return self._loop.run_until_complete(self._score(int(row["first"]), int(row["end"])))

    async def _score(self, first: int, end: int) -> dict[str, Any]:
        plan, format_ = self._plan, self._plan.format
        wanted = itertools.islice(plan.source.items(first, plan.columns, plan.carried), end - first)
        encoded, rows, errors = [], 0, 0
        async with aclosing(rows_of(self._engine, chunks(wanted, self._engine.chunk), plan.source.base)) as answers:
            async for answered in answers:
                encoded.append(format_.encode(answered))
                rows += len(answered)
                errors += sum(map(is_failure, answered))
        if rows:
            self._parts.add(format_, first, first + rows, encoded)
        return {"rows": rows, "errors": errors}


async def _open(job: Job, source: Path, parts: Parts, output: Path, settings: Settings) -> tuple[Engine, Plan]:
    engine = await Engine.open(job, settings, BUILT_IN)
    return engine, make_plan(engine, job, source, output, parts.listing)


def score_on_ray(
    job: Job,
    source: Path,
    output: Path,
    settings: Settings,
    *,
    address: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Summary:
    """Scores as `quartet.offline.scoring.score.score` does, on a Ray cluster.

    Args:
        job: what to do with each item.
        source: a folder or file on storage that all nodes share, as are the models and the output.
        output: the file to write.
        settings: of the service; with `device="cuda"` an actor has a GPU, otherwise `threads` cores, or two.
        address: of the cluster; None for this machine.
        progress: called with the number of finished rows and the total.

    Raises:
        UnusableInput, UnusableJob, NothingToServe, UnknownModel, DeviceUnavailable: as for `score`.
    """
    source, output = source.absolute(), output.absolute()
    settings = settings.model_copy(update={"models": settings.models.absolute()})
    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    resources = ray.cluster_resources()
    if settings.device.startswith("cuda"):
        share: dict[str, float] = {"num_gpus": 1}
        actors = int(resources.get("GPU", 0))
    else:
        cores = min(settings.threads or _CORES, int(resources["CPU"]))
        settings = settings.model_copy(update={"threads": cores})
        share = {"num_cpus": cores}
        actors = int(resources["CPU"]) // cores
    with Parts(output) as parts:
        before = parts.job
        if before and before["model"].partition("/")[0] == job.model:
            job = replace(job, model=before["model"])
        total, version, format_ = asyncio.run(_prepare(job, source, output, settings, parts))
        job = replace(job, model=version)
        ranges = parts.missing(format_, total, PART_ROWS)
        resumed = total - sum(end - first for first, end in ranges)
        progress(resumed, total)
        started, done, errors = time.monotonic(), resumed, 0
        if ranges:
            # One block per range, created here: the actors take all cores, so a task that creates them would never run.
            items = [{"first": first, "end": end} for first, end in ranges]
            scored = ray.data.from_items(items, override_num_blocks=len(items)).map(
                _Scorer,
                fn_constructor_args=(job, str(source), str(output), settings.model_dump()),
                compute=ray.data.ActorPoolStrategy(size=max(1, min(actors, len(ranges)))),
                **share,
            )
            for row in scored.iter_rows():
                done += row["rows"]
                errors += row["errors"]
                progress(done, total)
        seconds = time.monotonic() - started
        return Summary(parts.finish(format_), errors, resumed, seconds)


async def _prepare(job: Job, source: Path, output: Path, settings: Settings, parts: Parts) -> tuple[int, str, Format]:
    """Records the job; returns the number of rows, the version that answers, and the output format."""
    engine, plan = await _open(job, source, parts, output, settings)
    try:
        parts.begin(describe(job, engine, plan, source, settings))
        return plan.source.total, engine.version, plan.format
    finally:
        await engine.close()
