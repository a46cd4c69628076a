"""What a proxy costs: one-thread replicas behind Ray Serve's and behind HAProxy, workers on one port, and one process.

python -m benchmarks.on_ray [--replicas 2] [--rounds 2] [--seconds 3]

It needs the extra `ray`; HAProxy is compared where it is installed.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ray
from ray import serve
from rich.table import Table

from benchmarks.load import Load, measure
from benchmarks.networks import networks
from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import free_port, service
from deploy.ray.serving import DEPLOYMENT

_CONCURRENCY = 64


def main() -> None:
    """Prints a table for the committed CNN and for a network that costs next to nothing."""
    parser = ArgumentParser(prog="python -m benchmarks.on_ray", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3, help="duration of each measurement")
    add_json_option(parser)
    options = parser.parse_args()
    table = Table(title=f"{_CONCURRENCY} requests at a time")
    for column in ("network", "server", "requests/s", "against one process", "median ms"):
        table.add_column(column, justify="left" if column in ("network", "server") else "right")
    with tempfile.TemporaryDirectory() as scratch, _ray(options.replicas) as port:
        folders, images = networks(options.models, Path(scratch))
        for name, models in folders.items():
            settings = {"models": str(models), "device": "cpu", "threads": 1, "log_level": "warning"}
            deployment = DEPLOYMENT.options(autoscaling_config=None, num_replicas=options.replicas).bind(settings)
            with ExitStack() as stack:
                servers = {
                    "one process": stack.enter_context(service(models)).port,
                    f"{options.replicas} workers on one port": stack.enter_context(
                        service(models, {"workers": str(options.replicas)})
                    ).port,
                    f"{options.replicas} replicas behind Ray's proxy": port,
                }
                if shutil.which("haproxy"):
                    backends = [
                        stack.enter_context(service(models, {"threads": "1"})).port for _ in range(options.replicas)
                    ]
                    balanced = stack.enter_context(_haproxy(backends, Path(scratch)))
                    servers[f"{options.replicas} processes behind HAProxy"] = balanced
                serve.run(deployment, name="quartet")
                loads: dict[str, list[Load]] = {server: [] for server in servers}
                for _ in range(options.rounds):
                    for server, each in servers.items():
                        loads[server].append(measure(each, "/v1/predict", images, _CONCURRENCY, options.seconds))
            for server, found in loads.items():
                ratio = statistics.median(
                    load.rate / base.rate for load, base in zip(found, loads["one process"], strict=True)
                )
                table.add_row(
                    name, server, f"{statistics.median(load.rate for load in found):.0f}", f"{ratio:.2f}",
                    f"{statistics.median(load.median_ms for load in found):.1f}",
                )  # fmt: skip
            serve.delete("quartet")
    console = Recorder()
    console.print(table)
    console.write(options.json, "benchmarks.on_ray")


@contextmanager
def _haproxy(backends: list[int], scratch: Path) -> Iterator[int]:
    """A plain load balancer of one thread before some ports; gives its own."""
    port = free_port()
    servers = "\n".join(f"  server s{each} 127.0.0.1:{each}" for each in backends)
    file = scratch / "haproxy.cfg"
    file.write_text(
        "global\n  nbthread 1\n"
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"frontend clients\n  bind 127.0.0.1:{port}\n  default_backend processes\n"
        f"backend processes\n  balance leastconn\n  http-reuse always\n{servers}\n"
    )
    process = subprocess.Popen(["haproxy", "-db", "-f", str(file)])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def _ray(replicas: int) -> Iterator[int]:
    """A local Ray with Serve; gives its port."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    port = free_port()
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
