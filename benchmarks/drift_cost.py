"""What watching for drift costs: the processor time of a request with histograms and without them, in turns.

python -m benchmarks.drift_cost [--seconds 2] [--rounds 9] [--json FILE]
"""

import shutil
import statistics
import tempfile
from argparse import ArgumentParser
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.options import newest
from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import service
from benchmarks.serving import as_jpeg
from benchmarks.tiny import make_tiny
from benchmarks.turns import in_turns, processor_microseconds
from service.inference.manifest import GOLDEN, MANIFEST
from service.tasks.registry import read_manifest

_CLIENTS = 8


def main() -> None:
    """Prints microseconds of the server's processor time for a request."""
    parser = ArgumentParser(prog="python -m benchmarks.drift_cost", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=9)
    add_json_option(parser)
    options = parser.parse_args()
    folder = newest(options.models, "classifier")
    images = [as_jpeg(pixels) for pixels in np.load(folder / GOLDEN)["images"]]
    recorder, figures = Recorder(), {}
    for network in ("classifier", "a trivial network"):
        table = Table("histograms", "µs of a request", "more than without", title=f"{network}, {_CLIENTS} clients")
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
            servers = {}
            for which in ("without", "with", "without again"):
                models = Path(scratch, which)
                if network == "classifier":
                    copy = models / "classifier" / "1"
                    shutil.copytree(folder, copy)
                else:
                    copy = make_tiny(folder, models)
                if which != "with":
                    plain = read_manifest(copy).model_copy(update={"histograms": ()})
                    (copy / MANIFEST).write_text(plain.model_dump_json())
                servers[which] = running.enter_context(service(models))
            measured = partial(processor_microseconds, images=images, clients=_CLIENTS, seconds=options.seconds)
            times = in_turns(servers, options.rounds, measured)
        for which, found in times.items():
            more = statistics.median(one / other - 1 for one, other in zip(found, times["without"], strict=True))
            figures[f"{network}, {which}"] = {"microseconds": statistics.median(found), "more": more}
            table.add_row(which, f"{statistics.median(found):.0f}", f"{more:+.1%}")
        recorder.print(table)
    recorder.write(options.json, "benchmarks.drift_cost", figures)


if __name__ == "__main__":
    main()
