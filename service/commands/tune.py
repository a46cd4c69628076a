"""python -m service tune: measures every graph on this machine, and keeps the best settings in a file."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from service.inference.cards import AUTO, REFERENCE
from service.inference.cuda import cuda_problem, serving_device
from service.inference.device import DeviceLost, DeviceUnavailable, available_cpus, cuda_index
from service.inference.loading import read_version
from service.inference.manifest import InvalidModel, check_files
from service.inference.trials import Bench, Trial, answers_sooner_inline, choose, sweep
from service.inference.tuning import TunedGraph, machine_key, read_tuning, write_tuning
from service.inference.variants import Graph, graphs
from service.inference.versions import versions_in
from service.settings import InvalidSettings, Settings, read_settings
from service.tasks.registry import Registry

_ROW = "{:<{width}}  {:<12}  {:>5}  {:>7}  {:<10}  {:>7}  {:>9}  {:>8}  {:>8}  {}"


class _Target(NamedTuple):
    """A graph that is to be measured."""

    folder: Path
    graph: Graph

    @property
    def model(self) -> str:
        """Its model and version."""
        return f"{self.folder.parent.name}/{self.folder.name}"


def run(registry: Registry, options: argparse.Namespace) -> int:
    """Prints a table of what was tried, and writes the file.

    Args:
        registry: the tasks of the models.
        options: `names`, those to measure (empty: all); `seconds`, for which each setting is measured;
            `p99_ms`, the latency that is accepted.

    Returns:
        0 if every graph was measured; 1 if one could not be, or the file cannot be written; 2 for an unusable setting.
    """
    try:
        settings = read_settings()
    except InvalidSettings as error:
        return _fail(2, str(error))
    device = serving_device(settings.device)
    if settings.device not in ("auto", device) and (problem := cuda_problem(cuda_index(settings.device))):
        return _fail(1, f"{settings.device} cannot serve: {problem}")
    # As in the server: the threads that run batches ask for the interpreter after each.
    sys.setswitchinterval(0.0005)
    failures: list[str] = []
    targets = list(_targets(registry, settings, device, options.names, failures))
    machine = machine_key(device)
    print(f"machine  {machine}\ndevice   {device}; at most {options.p99_ms:g} ms for 99 of 100 items\n")
    width = max((len(target.model) for target in targets), default=5)
    head = ("model", "graph", "batch", "at once", "on", "clients", "items/s", "ms p50", "ms p99", "")
    print(_ROW.format(*head, width=width).rstrip())
    tuned: dict[str, TunedGraph] = {}
    with tqdm(targets, unit=" graphs", disable=not sys.stderr.isatty(), leave=False) as bar:
        for target in bar:
            bar.set_description(f"{target.model} {target.graph.name}")
            try:
                tuned[target.graph.sha256] = _tune(target, settings, device, options, width)
            except (InvalidModel, DeviceUnavailable, DeviceLost) as error:
                failures.append(f"{target.model} {target.graph.name}: {error}")
                if isinstance(error, DeviceLost):
                    break
    if tuned:
        tuning = read_tuning(settings.tuning_file).with_graphs(machine, tuned)
        try:
            write_tuning(settings.tuning_file, tuning)
        except OSError as error:
            failures.append(
                f"{settings.tuning_file} cannot be written ({error.strerror}): QUARTET_TUNING names another file"
            )
        else:
            print(f"\n{len(tuned)} graphs written to {settings.tuning_file}", end="")
            threads = tuning.threads(machine)
            print(f"; {threads} batches at a time" if device == "cpu" and threads else "")
    for failure in failures:
        _fail(1, failure)
    return 1 if failures else 0


def _targets(
    registry: Registry, settings: Settings, device: str, names: list[str], failures: list[str]
) -> Iterator[_Target]:
    """Every graph of the version of each model that would be served, as far as its files are good."""
    if not settings.models.is_dir():
        failures.append(f"the models folder {settings.models} does not exist: set QUARTET_MODELS to one")
        return
    for name in names or sorted(path.name for path in settings.models.iterdir() if path.is_dir()):
        problem = f"there is no model {name} in {settings.models}"
        for version in versions_in(settings.models / name) if (settings.models / name).is_dir() else ():
            folder = settings.models / name / version
            try:
                manifest, _ = read_version(folder, name, registry.kinds)
            except InvalidModel as error:
                problem = f"{name}/{version}: {error}"
                continue
            for graph in reversed(graphs(manifest, AUTO, "cpu" if device == "cpu" else "cuda")[0]):
                try:
                    if graph.name != REFERENCE:  # the files of the reference have been checked with the manifest
                        check_files(folder, graph.manifest, graph.files)
                except InvalidModel as error:
                    failures.append(f"{name}/{version} {graph.name}: {error}")
                else:
                    yield _Target(folder, graph)
            problem = ""
            break
        if problem:
            failures.append(problem)


def _tune(target: _Target, settings: Settings, device: str, options: argparse.Namespace, width: int) -> TunedGraph:
    """Prints what was tried of a graph.

    Raises:
        InvalidModel: it is no good on this device.
        DeviceUnavailable: the device cannot serve.
    """
    threads = settings.threads or available_cpus()
    bench = Bench(target.folder, target.graph, device, threads, settings.max_batch, settings.gpu_memory_mb)
    trials = list(sweep(bench, options.seconds, options.p99_ms / 1000))
    chosen = choose(trials, options.p99_ms / 1000)
    inline = answers_sooner_inline(trials)
    for trial in trials:
        note = "chosen for lone items" if trial.clients == 1 and trial.inline == inline else ""
        if trial is chosen:
            note = "chosen" if trial.p99 * 1000 <= options.p99_ms else "chosen, although it takes longer than asked for"
        print(_ROW.format(target.model, target.graph.name, *_columns(trial, device), note, width=width).rstrip())
    sys.stdout.flush()
    performance = bench.performance(chosen, min(options.seconds, 0.2), inline=inline)
    same = [trial for trial in trials if trial.max_batch == chosen.max_batch and trial.clients > 1]
    return TunedGraph(
        model=target.model,
        variant=target.graph.name,
        max_batch=performance.max_batch,
        seconds=performance.seconds,
        alone=performance.alone,
        inline=performance.inline,
        items_per_second={trial.threads: round(trial.rate, 1) for trial in same},
        p99_ms=round(chosen.p99 * 1000, 3),
    )


def _columns(trial: Trial, device: str) -> tuple[Any, ...]:
    where = "event loop" if trial.inline else "threads" if device == "cpu" else device
    return (
        trial.max_batch,
        1 if trial.inline else trial.threads,
        where,
        trial.clients,
        f"{trial.rate:,.0f}",
        f"{trial.median * 1000:.2f}",
        f"{trial.p99 * 1000:.2f}",
    )


def _fail(code: int, message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
