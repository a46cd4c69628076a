"""What Ray Serve's proxy costs: one-thread replicas behind it, the same number of workers on one port, and one process.

python -m benchmarks.on_ray [--replicas 2] [--rounds 2] [--seconds 3]    (needs the extra `ray`)
"""

import os
import socket
import statistics
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import ray
from ray import serve
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, measure
from benchmarks.options import newest
from benchmarks.servers import service
from benchmarks.serving import as_jpeg
from benchmarks.tiny import make_tiny
from deploy.ray.serving import DEPLOYMENT

_CONCURRENCY = 64


def main() -> None:
    """Prints a table for the committed CNN and for a network that costs next to nothing."""
    parser = ArgumentParser(prog="python -m benchmarks.on_ray", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3, help="duration of each measurement")
    options = parser.parse_args()
    folder = newest(options.models, "classifier")
    with np.load(folder / "golden.npz") as golden:
        images = [as_jpeg(pixels) for pixels in golden["images"]]
    table = Table(title=f"{_CONCURRENCY} requests at a time")
    for column in ("network", "server", "requests/s", "against one process", "median ms"):
        table.add_column(column, justify="left" if column in ("network", "server") else "right")
    with tempfile.TemporaryDirectory() as scratch, _ray(options.replicas) as port:
        alone, tiny = Path(scratch) / "alone", Path(scratch) / "tiny"
        alone.mkdir()
        (alone / "classifier").symlink_to((options.models / "classifier").resolve())
        make_tiny(folder, tiny)
        for name, models in (("the committed CNN", alone), ("a trivial network", tiny)):
            one: list[Load] = []
            several: list[Load] = []
            replicas: list[Load] = []
            settings = {"models": str(models), "device": "cpu", "threads": 1, "log_level": "warning"}
            quiet = {"log_level": "warning"}
            with (
                service(models, quiet) as first,
                service(models, {**quiet, "workers": str(options.replicas)}) as second,
            ):
                serve.run(
                    DEPLOYMENT.options(autoscaling_config=None, num_replicas=options.replicas).bind(settings),
                    name="quartet",
                )
                for _ in range(options.rounds):
                    for found, each in ((one, first.port), (several, second.port), (replicas, port)):
                        found.append(measure(each, "/v1/predict", images, _CONCURRENCY, options.seconds))
            for server, loads in (
                ("one process", one),
                (f"{options.replicas} workers on one port", several),
                (f"{options.replicas} replicas behind Ray's proxy", replicas),
            ):
                ratio = statistics.median(load.rate / base.rate for load, base in zip(loads, one, strict=True))
                table.add_row(
                    name, server, f"{statistics.median(load.rate for load in loads):.0f}", f"{ratio:.2f}",
                    f"{statistics.median(load.median_ms for load in loads):.1f}",
                )  # fmt: skip
            serve.delete("quartet")
    Console().print(table)


@contextmanager
def _ray(replicas: int) -> Iterator[int]:
    """A local Ray with Serve; gives its port."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    path = {"env_vars": {"PYTHONPATH": str(Path.cwd())}}
    ray.init(num_cpus=replicas + 2, include_dashboard=False, log_to_driver=False, runtime_env=path)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
