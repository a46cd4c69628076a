"""What it costs to capture a random share: the same server without captures, with them, and without again, in turns.

python -m benchmarks.capture [--share 0.1] [--seconds 2] [--rounds 9] [--json FILE]
"""

import re
import shutil
import statistics
import tempfile
import urllib.request
from argparse import ArgumentParser
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.load import measure
from benchmarks.options import newest
from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import service
from benchmarks.serving import as_jpeg
from benchmarks.tiny import make_tiny
from benchmarks.turns import in_turns
from service.inference.manifest import GOLDEN

_POLICY = "[capture]\nmax_mb = 200\n[capture.random]\nshare = {share}\nhourly = 1000000\ndaily = 10000000\n"


def main() -> None:
    """Prints the rate with captures, and of the control, relative to the rate without, and how many items were kept."""
    parser = ArgumentParser(prog="python -m benchmarks.capture", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=9)
    add_json_option(parser)
    options = parser.parse_args()
    recorder, figures = Recorder(), {}
    table = Table(
        "network", "clients", "images/s without captures", "with captures", "control", "kept", "dropped",
        title=f"{options.share:.0%} of the images captured",
    )  # fmt: skip
    folder = newest(options.models, "classifier")
    images = [as_jpeg(pixels) for pixels in np.load(folder / GOLDEN)["images"]]
    with tempfile.TemporaryDirectory() as scratch:
        trivial = Path(scratch, "trivial")
        make_tiny(folder, trivial)
        committed = Path(scratch, "committed")
        shutil.copytree(folder, committed / "classifier" / folder.name)
        for name, models in (("the committed CNN", committed), ("a trivial network", trivial)):
            capturing = Path(scratch, f"{models.name} with captures")
            shutil.copytree(models, capturing)
            (capturing / "classifier" / "serving.toml").write_text(_POLICY.format(share=options.share))
            for clients, found in _compare(models, capturing, images, options.seconds, options.rounds).items():
                figures[f"{name}, {clients} clients"] = found
                shares = (f"{found[which]:.1%} of that" for which in ("capturing", "control"))
                kept = (f"{found['kept'] / found['images']:.1%}", f"{found['dropped']:,.0f}")
                table.add_row(name, str(clients), f"{found['rate']:,.0f}", *shares, *kept)
    recorder.print(table)
    recorder.write(options.json, "benchmarks.capture", figures)


def _compare(
    models: Path, capturing: Path, images: list[bytes], seconds: float, rounds: int
) -> dict[int, dict[str, float]]:
    """By the number of clients: the rate without captures, those of the others in parts of it, and what was kept."""
    compared = {}
    with ExitStack() as running:
        folder = str(capturing.with_name(f"{models.name} captures"))
        servers = {
            "without": running.enter_context(service(models)).port,
            "capturing": running.enter_context(service(capturing, {"captures": folder})).port,
            "control": running.enter_context(service(models)).port,
        }
        before = _counts(servers["capturing"])
        for clients in (8, 64):
            # A request that fails ends the benchmark.
            load = partial(measure, path="/v1/predict", bodies=images, concurrency=clients, seconds=seconds)
            loads = in_turns(servers, rounds, load)
            rates = {which: [each.rate for each in found] for which, found in loads.items()}
            ratios = {
                which: statistics.median(one / plain for one, plain in zip(rates[which], rates["without"], strict=True))
                for which in ("capturing", "control")
            }
            now = _counts(servers["capturing"])
            answered, kept, dropped = (one - other for one, other in zip(now, before, strict=True))
            counted = {"images": answered, "kept": kept, "dropped": dropped}
            compared[clients] = {"rate": statistics.median(rates["without"]), **ratios, **counted}
            before = now
    return compared


def _counts(port: int) -> tuple[float, float, float]:
    """Answered, kept and dropped images."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        text = response.read().decode()

    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    requests = total(r'quartet_requests_total(?={[^}]*route="/v1/predict")')
    return requests, total("quartet_captured_items_total"), total("quartet_captured_dropped_total")


if __name__ == "__main__":
    main()
