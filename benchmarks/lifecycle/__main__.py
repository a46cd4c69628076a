"""Changes versions of the committed models under traffic, and checks every answer.

32 clients send requests of all kinds to the real server while versions are published and promoted (50 swaps), refused
(20), rolled back (10), while a canary is promoted by its steps, another one fails and is withdrawn, and a shadow fails
on every input. No request may be lost, cut or answered with another status than 200, but for those that meet the
failing canary; and every version that answers must have been permitted at some moment of the request.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.lifecycle.ledger import Ledger
from benchmarks.lifecycle.operator import Failed, Operator
from benchmarks.lifecycle.scenario import Happened, endure, most_failures
from benchmarks.lifecycle.traffic import CLIENTS, Met, Traffic, kinds_of
from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import service
from benchmarks.torture.publishing import copy_models
from service.policy.file import edit_policy
from service.policy.policy import Policy

_LEFT_OUT = "autoencoder"  # no request here asks for it
# Seconds of traffic without changes, before and after a warm-up.
_WARM_UP_SECONDS, _QUIET_SECONDS = 3.0, 20.0
_MOST_ROLLBACK_SECONDS = 1.0
# From the middle third to the last one: a single look varies by as much, with what the allocator keeps.
_MOST_GROWTH = 0.1
_WORKERS = (1, 2)


@dataclass(frozen=True, slots=True)
class _Run:
    """What came of a server with some processes.

    Attributes:
        met: by the clients.
        happened: to the versions.
        quiet: span of time without changes.
        followed: see `Operator`, as `agreed`.
        wrong: what is not as it has to be.
    """

    met: Met
    happened: Happened
    quiet: tuple[float, float]
    followed: list[float]
    agreed: list[float]
    wrong: list[str]


def main() -> int:
    """Runs what the command line asks for; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lifecycle", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--workers", type=int, nargs="+", default=_WORKERS, metavar="N", help="processes of the server")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of changes")
    add_json_option(parser)
    arguments = parser.parse_args()
    console = Recorder()
    figures: dict[str, Any] = {}
    verdicts: list[str] = []
    failures: list[str] = []
    table = Table(title=f"{CLIENTS} clients on all routes while versions change")
    table.add_column("")
    columns: list[dict[str, str]] = []
    for workers in arguments.workers:
        run = asyncio.run(_run(arguments.models, workers, arguments.scale))
        processes = f"{workers} process{'es' if workers > 1 else ''}"
        table.add_column(processes, justify="right")
        columns.append(_cells(run))
        happened = run.happened
        figures[str(workers)] = {
            "followed": run.followed, "agreed": run.agreed, "rollbacks": happened.rollback_seconds,
            "resources": happened.resources, "canary": happened.canary, "shadow": happened.shadow,
        }  # fmt: skip
        for text in [*run.wrong, *run.met.told]:
            print(text, file=sys.stderr)
        verdicts += [f"{processes}: {text}" for text in happened.verdicts]
        failures += [f"{processes}: WRONG: {text}" for text in run.wrong]
    for row in columns[0]:
        table.add_row(row, *(column[row] for column in columns))
    console.print(table)
    for text in [*verdicts, *failures]:
        console.print(text)
    console.write(arguments.json, "benchmarks.lifecycle", figures)
    return 1 if failures else 0


async def _run(models: Path, workers: int, scale: float) -> _Run:
    with tempfile.TemporaryDirectory() as folder:
        copied = copy_models(models, Path(folder) / "models")
        shutil.rmtree(copied / _LEFT_OUT)
        # The default of one model is an alias, which moves when a version is promoted.
        edit_policy(copied / "topics" / "serving.toml", lambda _: Policy(default="stable", aliases={"stable": "1"}))
        with service(copied, {"workers": str(workers)}) as running:
            ledger, kinds = Ledger(), kinds_of(copied)
            for name in {kind.model for kind in kinds}:
                ledger.only(name, "1")
            operator, traffic = Operator(running, copied, workers, ledger), Traffic(running.port, kinds, ledger)
            clients = asyncio.create_task(traffic.run())
            await asyncio.sleep(_WARM_UP_SECONDS)
            quiet = time.perf_counter()
            await asyncio.sleep(_QUIET_SECONDS)
            wrong: list[str] = []
            happened = Happened(began=time.perf_counter())
            try:
                happened = await endure(operator, traffic, kinds, scale)
            except Failed as error:
                wrong.append(str(error))
                happened.ended = time.perf_counter()
            traffic.end()
            await clients
    wrong += _faults(traffic.met, happened)
    return _Run(traffic.met, happened, (quiet, quiet + _QUIET_SECONDS), operator.followed, operator.agreed, wrong)


def _faults(met: Met, happened: Happened) -> list[str]:
    """What is not as it has to be."""
    faults = [f"{count} requests: {what}" for what, count in met.wrong.items()]
    calls, failures = happened.canary
    if failures > most_failures(calls):
        faults.append(f"{failures} of {calls} calls failed, more than the share of the canary")
    if sum(met.excused.values()) != failures:
        faults.append("calls have failed after the failing canary was withdrawn")
    memory = [resident for resident, *_ in happened.resources]
    if third := len(memory) // 3:
        middle, last = statistics.median(memory[-2 * third : -third]), statistics.median(memory[-third:])
        if last > (1 + _MOST_GROWTH) * middle:
            faults.append(f"memory grew by more than {_MOST_GROWTH:.0%}: from {middle:.0f} MB to {last:.0f} MB")
    if max(happened.rollback_seconds, default=0.0) >= _MOST_ROLLBACK_SECONDS:
        faults.append(f"a rollback took {max(happened.rollback_seconds):.2f} s")
    return faults


def _cells(run: _Run) -> dict[str, str]:
    met, happened = run.met, run.happened
    counts = happened.counts
    swaps = counts.pop("published", 0), counts.pop("promoted", 0)
    rollbacks = counts.pop("rollbacks", 0)
    spans = run.quiet, (happened.began, happened.ended)
    quiet, changing = (_milliseconds(met.percentiles(*span)) for span in spans)
    image_quiet, image_changing = (_milliseconds(met.percentiles(*span, "predict")) for span in spans)
    calls, failures = happened.canary
    compared = happened.shadow
    looks = happened.resources or [(0.0, 0, 0)]
    return {
        "requests": str(len(met.seconds)),
        "lost, cut, of another status or version": str(met.wrong.total()),
        "swaps: published + promoted": f"{swaps[0]} + {swaps[1]}",
        f"refused: {', '.join(counts)}": " + ".join(map(str, counts.values())),
        "rollbacks": str(rollbacks),
        "a rollback until the first answer, median / longest": _seconds(happened.rollback_seconds),
        "a change until all processes follow, median / longest": _seconds(run.followed),
        "… and until none is said to disagree, median / longest": _seconds(run.agreed),
        "p50 / p99 / longest without changes, ms": quiet,
        "p50 / p99 / longest during changes, ms": changing,
        "… of single images to /v1/predict without changes, ms": image_quiet,
        "… of single images to /v1/predict during changes, ms": image_changing,
        "calls of the model with the failing canary, until it was withdrawn everywhere": str(calls),
        "… of which failed": f"{failures} (at most {most_failures(calls):.0f})",
        "inputs on which the shadow failed / was compared": f"{compared[0]} / {compared[1]}",
        "memory after every 10 swaps and refusals, MB": " ".join(f"{resident:.0f}" for resident, *_ in looks),
        "open files, threads after the first 10 and after all": " / ".join(
            f"{files}, {threads}" for _, files, threads in (looks[0], looks[-1])
        ),
    }


def _milliseconds(values: list[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in values)


def _seconds(values: list[float]) -> str:
    ordered = sorted(values) or [0.0]
    return f"{ordered[len(ordered) // 2]:.2f} s / {ordered[-1]:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
