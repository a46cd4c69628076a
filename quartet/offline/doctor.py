"""quartet doctor: what this machine is, what can serve on it and how fast, and what to install or set."""

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import onnxruntime as ort

from quartet import __version__
from quartet.console import FAILED, MISUSED, did_you_mean, fail
from quartet.offline.examination import Finding, examine
from quartet.offline.machine import Cpu, Driver, read_cpu, read_driver, read_memory_mb
from service.inference.cards import AUTO, REFERENCE
from service.inference.cuda import cuda_problem
from service.inference.device import DeviceLost, available_cpus, cpu_quota, cuda_index, cuda_name
from service.inference.variants import Selection
from service.inference.versions import versions_in
from service.settings import Settings
from service.tasks.registry import Registry

_LIBRARIES = ("onnxruntime-gpu", "onnxruntime", "numpy", "fastapi", "starlette", "uvicorn", "pydantic", "tokenizers")


def run(registry: Registry, settings: Settings, options: argparse.Namespace) -> int:
    """Prints the report.

    Args:
        registry: the tasks whose models are examined.
        settings: of the service.
        options: `names`, those to examine (empty: all), and `seconds`, for which each is measured.

    Returns:
        0 if the requested device can serve; 1 if it cannot, or if a model, or a variant requested by name, cannot serve
        on it; 2 for an unknown model.
    """
    there = sorted(path.name for path in settings.models.glob("*") if path.is_dir() and versions_in(path))
    if missing := sorted({*options.names} - {*there}):
        return fail(
            MISUSED, f"{settings.models} holds no model {missing[0]}{did_you_mean(missing[0], there, 'it holds')}"
        )
    cpu, driver = read_cpu(), read_driver()
    index = cuda_index(settings.device)
    problem = cuda_problem(index)
    for line in describe_machine(cpu, driver, problem):
        print(line, flush=True)
    cuda = cuda_name(index)
    asked = "cpu" if settings.device == "cpu" or (settings.device == "auto" and problem) else cuda
    # The requested device comes last.
    devices = sorted(["cpu"] if problem else ["cpu", cuda], key=lambda device: device == asked)
    print(f"\nQUARTET_DEVICE={settings.device}: {asked}; models in {settings.models.resolve()}\n", flush=True)
    findings: list[Finding] = []
    failures = [f"{asked} cannot serve: {problem}"] if asked not in devices else []
    if settings.models.is_dir():
        try:
            _examine(registry, settings, devices, options, findings)
        except DeviceLost as error:
            failures.append(str(error))
    failures += find_failures(findings, asked, Selection.parse(settings.variant))
    if not findings:
        failures.append(f"there is no model in {settings.models}: set QUARTET_MODELS to a folder that holds some")
    if advice := advise(cpu, driver, problem, settings, findings):
        print("\nadvice")
        print("\n".join(f"- {each}" for each in advice))
    sys.stdout.flush()
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if not failures:
        print(f"\n{len({each.model for each in findings})} models can serve on {asked}.")
    return FAILED if failures else 0


def describe_machine(cpu: Cpu, driver: Driver | None, problem: str | None) -> Iterator[str]:
    """Yields lines that describe this machine.

    Args:
        cpu: its processor.
        driver: of its GPUs; None if there is none.
        problem: why CUDA cannot serve; None if it can.
    """
    quota = cpu_quota()
    total, limit = read_memory_mb()
    yield f"processor  {cpu.name}: {', '.join(cpu.features) or 'none of the features that help'}"
    yield (
        f"cores      {cpu.cores}, {available_cpus()} of them for this process"
        f" ({'no quota' if quota is None else f'a quota of {quota:g}'})"
    )
    yield f"memory     {total:,} MB" + (f", {limit:,} of them for this container" if limit else "")
    for gpu in driver.gpus if driver else ():
        capability = f"compute capability {gpu.capability}"
        yield f"GPU {gpu.index}      {gpu.name}, {gpu.memory_mb:,} MB, {capability}, bus {gpu.bus}"
    if driver:
        yield f"driver     {driver.version or 'of an unknown version'}, supports CUDA {driver.cuda}"
    yield f"CUDA       {problem or 'can serve'}"
    versions = ", ".join(f"{name} {version}" for name, version in _installed().items())
    yield f"libraries  {versions}; built for CUDA {ort.cuda_version or 'none'}"
    yield f"software   Quartet {__version__}, Python {platform.python_version()}, {platform.platform()}"


def _installed() -> dict[str, str]:
    """The versions of the libraries."""
    versions = {}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def find_failures(findings: Sequence[Finding], asked: str, selection: Selection) -> list[str]:
    """What the settings request and cannot serve: models on the device, and variants by name.

    Args:
        findings: of all graphs.
        asked: the requested device.
        selection: the requested variants.
    """
    failures = []
    for finding in findings:
        if finding.device == asked and finding.graph in (REFERENCE, selection.of(finding.model)) and finding.problem:
            label = f"{finding.model}/{finding.version}"
            failures.append(f"{label} ({finding.graph}) cannot serve on {asked}: {finding.problem}")
    for model in {finding.model for finding in findings}:
        wanted = selection.of(model)
        graphs = {each.graph for each in findings if each.model == model and each.device == asked}
        if wanted not in (AUTO, REFERENCE, *graphs):
            failures.append(f"{model} has no variant {wanted} for {asked}, which QUARTET_VARIANT asks for")
    return failures


def advise(
    cpu: Cpu, driver: Driver | None, problem: str | None, settings: Settings, findings: Sequence[Finding]
) -> list[str]:
    """Suggests what to install or set.

    Args:
        cpu: the processor.
        driver: of the GPUs; None if there is none.
        problem: why CUDA cannot serve; None if it can.
        settings: of the service.
        findings: of all graphs.
    """
    advice = []
    if {"onnxruntime-gpu", "onnxruntime"} <= _installed().keys():
        advice.append(
            "onnxruntime and onnxruntime-gpu are both installed, and each has overwritten files of the other: "
            "uninstall both, and install Quartet again."
        )
    if driver and driver.gpus and problem:
        advice.append(
            "There is a GPU, but it cannot serve: in the clone, `make install-gpu` installs the CUDA libraries; as a "
            "container, use the image quartet:gpu."
        )
    if driver and not problem and settings.device == "auto":
        advice.append("With QUARTET_DEVICE=cuda the service refuses to start without its GPU; auto would use the CPU.")
    if driver and not problem and settings.device == "cpu":
        advice.append("There is a GPU that could serve: QUARTET_DEVICE=cuda.")
    if settings.threads > available_cpus():
        advice.append(
            f"QUARTET_THREADS={settings.threads} is more than the {available_cpus()} CPUs that this process may use: "
            "leave it out."
        )
    quota = cpu_quota()
    if quota is not None and quota % 1:
        advice.append(
            f"The container's quota of {quota:g} CPUs is no whole number, so threads are stopped in the middle of a "
            f"batch: give it {-(-quota // 1):g}."
        )
    if not cpu.fast_int8 and any(each.graph != REFERENCE and each.device == "cpu" for each in findings):
        advice.append(
            "The processor has no instruction for products of 8-bit integers (VNNI): int8 variants are slower than "
            "elsewhere, and some are refused."
        )
    return advice


def _examine(
    registry: Registry, settings: Settings, devices: list[str], options: argparse.Namespace, findings: list[Finding]
) -> None:
    """Prints a line for each finding as it comes, and adds it to the list."""
    names = [path.name for path in settings.models.iterdir() if not options.names or path.name in options.names]
    width = max(map(len, names), default=0)
    row = f"{{:<{width}}}  {{:>7}}  {{:<12}}  {{:<7}}  {{:<4}}  {{:>10}}  {{:>8}}  {{:>8}}  {{:>8}}  {{}}"
    head = ("model", "version", "graph", "device", "good", "difference", "accepted", "ms alone", "items/s", "")
    print(row.format(*head).rstrip())
    for each in examine(
        settings.models,
        registry.kinds,
        devices,
        threads=settings.threads,
        max_batch=settings.max_batch,
        gpu_memory_mb=settings.gpu_memory_mb,
        seconds=options.seconds,
        names=options.names,
    ):
        findings.append(each)
        difference, accepted = "", ""
        if each.difference:
            difference, accepted = f"{each.difference.value:.1e}", f"{each.difference.accepted:g}"
        good, alone, rate, note = "NO", "", "", each.problem
        if each.good:
            good, alone, rate = "yes", f"{each.alone * 1000:.2f}", f"{each.rate:,.0f}"
            note = f"in batches of {each.batch}"
        line = row.format(
            each.model, each.version, each.graph, each.device, good, difference, accepted, alone, rate, note
        )
        print(line.rstrip(), flush=True)
