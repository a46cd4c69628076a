"""Checks and measures the GPU of this machine: golden files, shapes, speed, memory; writes docs/reference/gpu.md.

python -m benchmarks.gpu
"""

import argparse
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.load import measure
from benchmarks.options import newest
from benchmarks.servers import service
from benchmarks.serving import as_jpeg
from quartet.offline.doctor import describe_machine
from quartet.offline.examination import Finding, examine, seconds_per_batch
from quartet.offline.machine import read_cpu, read_driver
from service.inference.cuda import cuda_problem
from service.inference.device import Device, check_device, cuda_index
from service.inference.golden import read_golden
from service.inference.manifest import MODEL
from service.inference.session import Session
from service.inference.shapes import Shapes
from service.tasks.registry import BUILT_IN, read_manifest

_CONCURRENCIES = (1, 8, 64)
_SAMPLE_SECONDS = 5.0
# Memory that the last third of the load may take beyond the second before it counts as growing.
_FLAT = 1.01


@dataclass
class Report:
    """What is written, in Markdown, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def section(self, title: str, *paragraphs: str) -> None:
        """Adds a heading and what stands below it."""
        print(f"{title} …", flush=True)
        self.lines += [f"## {title}", "", *(line for paragraph in paragraphs for line in (paragraph, ""))]

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Adds a table."""
        for row in (head, ["---"] * len(head), *rows):
            self.lines.append(f"| {' | '.join(row)} |")
        self.lines.append("")


def main() -> int:
    """Returns 0 if all is well; 1 if there is no GPU (then nothing is written), or if something is wrong with it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--device", type=check_device, default="cuda", help="cuda, or cuda:N (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="duration of each measurement")
    parser.add_argument("--minutes", type=float, default=10, help="of load, in which the GPU's memory is watched")
    parser.add_argument("--output", type=Path, default=Path("docs/reference/gpu.md"))
    options = parser.parse_args()
    device: Device = options.device
    if problem := "the device must be a GPU" if device in ("cpu", "auto") else cuda_problem(cuda_index(device)):
        print(f"error: nothing was measured, and {options.output} was not written: {problem}.", file=sys.stderr)
        return 1
    report = Report()
    check_machine(report)
    check_models(report, options.models, device, options.seconds)
    check_shapes(report, newest(options.models, "classifier"), device, options.seconds)
    check_service(report, options.models, device, options.seconds)
    check_memory(report, options.models, device, options.minutes * 60, lambda: gpu_memory_mb(cuda_index(device)))
    check_container(report)
    options.output.write_text(render(report))
    print(f"wrote {options.output}; {len(report.problems)} problems")
    return 1 if report.problems else 0


def render(report: Report) -> str:
    """The report as a document."""
    verdict = "\n".join(f"- **{problem}**" for problem in report.problems) or "Nothing is wrong."
    return "\n".join(["# On a GPU", "", "Written by `make gpu-check`.", "", verdict, "", *report.lines]).rstrip() + "\n"


def check_machine(report: Report) -> None:
    """What the machine is."""
    report.section("Machine")
    report.lines += ["```", *describe_machine(read_cpu(), read_driver(), None), "```", ""]


def check_models(report: Report, models: Path, device: str, seconds: float) -> None:
    """The golden file of every graph on the CPU and on the GPU, and how fast their sessions are."""
    report.section("Models", "Sessions without the service around them, on the inputs of the golden files.")
    findings = list(
        examine(
            models,
            BUILT_IN.kinds,
            ["cpu", device],
            threads=0,
            max_batch=64,
            gpu_memory_mb=0,
            seconds=seconds,
        )
    )
    on_cpu = {each.model: each for each in findings if each.device == "cpu" and each.good}
    head = ("model", "graph", "device", "good", "difference", "accepted", "ms alone", "items/s", "times the CPU's")
    report.table(head, (_row(each, on_cpu.get(each.model)) for each in findings))
    report.problems += [
        f"{each.model}/{each.version} ({each.graph}) cannot serve on {each.device}: {each.problem}"
        for each in findings
        if not each.good
    ]


def _row(finding: Finding, cpu: Finding | None) -> list[str]:
    difference = finding.difference
    row = [f"{finding.model}/{finding.version}", finding.graph, finding.device, "yes" if finding.good else "no"]
    row += [f"{difference.value:.1e}", f"{difference.accepted:g}"] if difference else ["–", "–"]
    if not finding.good:
        return [*row, "–", "–", "–"]
    ratio = f"{finding.rate / cpu.rate:.2f}" if cpu else "–"
    return [*row, f"{finding.alone * 1000:.2f}", f"{finding.rate:,.0f} at {finding.batch}", ratio]


def check_shapes(report: Report, folder: Path, device: str, seconds: float) -> None:
    """Batches of changing sizes against batches of one size: in fixed shapes, and in one session for any."""
    manifest = read_manifest(folder)
    inputs, _ = read_golden(folder, manifest)
    shapes = Shapes.of(manifest, manifest.max_batch)
    if shapes is None:
        return
    report.section(
        "Changing batch sizes",
        f"Milliseconds for a batch of each of the sizes {', '.join(map(str, shapes.batches))} of {folder.parent.name}, "
        "one after the other, against the same batches with each size by itself.",
    )
    rows = []
    for name, session in (
        ("a session for each size", Session(folder / MODEL, device, shapes=shapes)),
        ("one session for all", Session(folder / MODEL, device)),
    ):
        constant = sum(seconds_per_batch(session, inputs, size, seconds) for size in shapes.batches)
        alternating = _alternating(session, inputs, shapes.batches, seconds)
        rows.append([name, f"{constant * 1000:.2f}", f"{alternating * 1000:.2f}", f"{alternating / constant:.2f}"])
    report.table(("", "by itself", "alternating", "ratio"), rows)


def _alternating(session: Session, inputs: dict[str, np.ndarray], sizes: Sequence[int], seconds: float) -> float:
    """The median seconds of a batch of each size, run one after the other."""
    feeds = [{name: np.resize(array, (size, *array.shape[1:])) for name, array in inputs.items()} for size in sizes]
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        started = time.perf_counter()
        for feed in feeds:
            session.run(feed)
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def check_service(report: Report, models: Path, device: str, seconds: float) -> None:
    """What a client gets over HTTP from the GPU and from the CPU, one after the other."""
    report.section(
        "Over HTTP",
        "Single images to `/v1/predict`; the client is on the same machine, and shares its cores with the service.",
    )
    images = example_images(newest(models, "classifier"))
    loads = {}
    for where in (device, "cpu"):
        with service(models, {"device": where}) as running:
            loads[where] = {
                concurrency: measure(running.port, "/v1/predict", images, concurrency, seconds)
                for concurrency in _CONCURRENCIES
            }
    report.table(
        ("concurrency", "images/s", "CPU's", "ratio", "median ms", "p99 ms", "CPU's median", "CPU's p99"),
        (
            [
                str(concurrency), f"{gpu.rate:,.0f}", f"{cpu.rate:,.0f}", f"{gpu.rate / cpu.rate:.2f}",
                f"{gpu.median_ms:.2f}", f"{gpu.p99_ms:.2f}", f"{cpu.median_ms:.2f}", f"{cpu.p99_ms:.2f}",
            ]
            for concurrency in _CONCURRENCIES
            for gpu, cpu in [(loads[device][concurrency], loads["cpu"][concurrency])]
        ),
    )  # fmt: skip


def check_memory(report: Report, models: Path, device: str, seconds: float, memory_mb: Callable[[], float]) -> None:
    """Load of changing concurrency; the memory must not grow.

    Args:
        report: that is written.
        models: the folder.
        device: that serves.
        seconds: how long.
        memory_mb: reads the memory in use.
    """
    report.section("Memory under load")
    images = example_images(newest(models, "classifier"))
    samples: list[float] = []
    over = threading.Event()

    def sample() -> None:
        while not over.is_set():
            samples.append(memory_mb())
            over.wait(min(_SAMPLE_SECONDS, seconds / 30))

    with service(models, {"device": device}) as running:
        watcher = threading.Thread(target=sample, daemon=True)
        watcher.start()
        end = time.monotonic() + seconds
        answered = 0.0
        while (left := end - time.monotonic()) > 0:
            for concurrency in _CONCURRENCIES:
                took = min(10.0, max(1.0, left / len(_CONCURRENCIES)))
                answered += measure(running.port, "/v1/predict", images, concurrency, took).rate * took
        over.set()
        watcher.join()
    third = len(samples) // 3
    middle, last = max(samples[third : 2 * third], default=samples[0]), max(samples[2 * third :])
    report.lines += [
        f"{seconds / 60:.0f} minutes, about {answered:,.0f} images. Peak of the middle third: {middle:,.0f} MB, of the "
        f"last: {last:,.0f} MB.",
        "",
    ]
    if last > middle * _FLAT:
        report.problems.append(f"the memory in use grew from {middle:,.0f} to {last:,.0f} MB under a steady load")


def check_container(report: Report, engines: Sequence[str] = ("docker", "podman")) -> None:
    """Builds the image `gpu` and has its doctor look at the GPU, if there is an engine."""
    report.section("Container")
    engine = next(filter(shutil.which, engines), None)
    if engine is None:
        report.lines += [f"Not tried: there is none of {', '.join(engines)} here.", ""]
        return
    build = [engine, "build", "--quiet", "--target", "gpu", "--tag", "quartet:gpu", "."]
    access = ["--gpus", "all"] if engine == "docker" else ["--device", "nvidia.com/gpu=all"]
    look = [engine, "run", "--rm", *access, "quartet:gpu", "python", "-m", "service", "doctor", "--seconds", "0"]
    for command in (build, look):
        done = subprocess.run(command, capture_output=True, text=True)
        output = (done.stdout + done.stderr).strip()
        report.lines += ["```", f"$ {' '.join(command)}", output, "```", ""]
        if done.returncode:
            report.problems.append(f"`{' '.join(command)}` ended with {done.returncode}")
            return


def example_images(folder: Path) -> list[bytes]:
    """The golden images of a classifier's version, as JPEG files."""
    inputs, _ = read_golden(folder, read_manifest(folder))
    return [as_jpeg(pixels) for pixels in inputs["images"]]


def gpu_memory_mb(index: int) -> float:
    """The memory of a GPU that is in use, by whichever process."""
    driver = read_driver()
    assert driver is not None, "there is a GPU without a driver"
    query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"]  # in MiB
    command = ["nvidia-smi", f"--id={driver.gpus[index].bus}", *query]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.findall(r"[\d.]+", output)[0]) * 1.048576


if __name__ == "__main__":
    sys.exit(main())
