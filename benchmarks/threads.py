"""Training steps per second beside busy processes, by the number of threads and how they wait for each other.

Threads that spin while they wait take the CPU from the thread that they wait for. `quartet train` lets them sleep
(OMP_WAIT_POLICY=PASSIVE). Each measurement runs in its own process; rounds are interleaved.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.table import Table

from benchmarks.results import Recorder, add_json_option

_SECONDS = 4.0
_NETWORKS = ("backbone", "recurrent", "dense")
_POLICIES = {"spin": "", "sleep": "PASSIVE"}


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--busy", type=int, default=1, help="processes that compute beside the training")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser)
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "THREADS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_steps_per_second(arguments.one[0], int(arguments.one[1]))))
        return
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(arguments.busy)]
    found: dict[tuple[str, str, int], list[float]] = {}
    try:
        for _ in range(arguments.rounds):
            for network in _NETWORKS:
                for policy, value in _POLICIES.items():
                    for threads in arguments.threads:
                        command = [sys.executable, "-m", "benchmarks.threads", "--one", network, str(threads)]
                        environment = {name: text for name, text in os.environ.items() if not name.startswith("OMP_")}
                        environment |= {"OMP_WAIT_POLICY": value} if value else {}
                        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                        found.setdefault((network, policy, threads), []).append(json.loads(done.stdout))
    finally:
        for each in busy:
            each.kill()
    console = Recorder()
    table = Table("network", "waiting threads", "threads", "steps per second (median)", "of the rounds")
    for (network, policy, threads), rates in found.items():
        rounds = ", ".join(f"{rate:.3g}" for rate in rates)
        table.add_row(network, policy, str(threads), f"{statistics.median(rates):.3g}", rounds)
    console.print(table)
    console.write(arguments.json, "benchmarks.threads")


def _steps_per_second(network: str, threads: int) -> float:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    model, inputs, logits = _build(network)
    optimizer, labels = torch.optim.AdamW(model.parameters()), torch.zeros(len(inputs), dtype=torch.int64)

    def step() -> None:
        loss = F.cross_entropy(logits(model(inputs)), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    step()
    steps, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < _SECONDS:
        step()
        steps += 1
    return steps / passed


def _build(network: str) -> tuple[Any, Any, Callable[[Any], Any]]:
    """A network, a batch, and what gives the logits in its output."""
    import timm
    import torch
    from torch import nn

    if network == "backbone":
        model = timm.create_model("tf_efficientnet_lite0", num_classes=10).to(memory_format=torch.channels_last)
        return model, torch.rand(16, 3, 128, 128).to(memory_format=torch.channels_last), lambda out: out
    if network == "recurrent":
        return nn.GRU(64, 64, bidirectional=True, batch_first=True), torch.rand(64, 100, 64), lambda out: out[0].mean(1)
    layers = nn.Sequential(nn.Linear(30, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))
    return layers, torch.rand(64, 30), lambda out: out


if __name__ == "__main__":
    main()
