"""What a load needs: cores, replicas, network and money, from what was measured of a model on a machine.

python -m benchmarks.simulation --save costs.json
python -m benchmarks.capacity costs.json --rate 2000 --p95-ms 50 --kilobytes 100 --dollars 0.20
"""

import json
import math
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.openloop import poisson
from benchmarks.simulation import Costs, simulate

# Seconds of arrivals that are simulated for each load, and the loads.
_SECONDS = 60.0
_LOADS = tuple(number / 20 for number in range(1, 20))
# Bytes of an answer with its head.
_ANSWER_BYTES = 600


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load needs.

    Attributes:
        load: the share of a replica's capacity that leaves the latency where it is wanted.
        rate: requests per second that a replica answers at that load.
        replicas: as many as answer everything, and one more, for the one that is lost or updated.
        cores: of all of them.
        megabits_in: per second, of all requests.
        megabits_out: per second, of all answers.
        dollars: for a million answers.
    """

    load: float
    rate: float
    replicas: int
    cores: int
    megabits_in: float
    megabits_out: float
    dollars: float


def capacity(costs: Costs) -> float:
    """Requests per second that keep all cores busy with the largest batches: cores / (batch / items + beside)."""
    largest = float(np.median(costs.one_core[costs.max_batch])) / costs.max_batch
    return costs.cores / (largest + costs.loop)


def plan(costs: Costs, rate: float, p95_ms: float, kilobytes: float, dollars_an_hour: float) -> Plan:
    """What a load needs.

    Args:
        costs: of the model on a replica.
        rate: requests per second, with an item each.
        p95_ms: milliseconds within which 95 of 100 are to be answered, and none refused.
        kilobytes: of a request.
        dollars_an_hour: that a replica costs.

    Raises:
        ValueError: a replica does not answer so fast, however few requests it gets.
    """
    most = capacity(costs)
    load = 0.0
    for candidate in _LOADS:
        random = np.random.default_rng(0)
        outcome = simulate(costs, poisson(candidate * most, _SECONDS, random), random)
        if outcome.refused or outcome.p95_ms > p95_ms:
            break
        load = candidate
    if not load:
        raise ValueError(f"a replica does not answer 95 of 100 requests within {p95_ms:g} ms, however few there are")
    each = load * most
    replicas = math.ceil(rate / each) + 1
    return Plan(
        load,
        each,
        replicas,
        replicas * costs.cores,
        rate * kilobytes * 8 / 1000,
        rate * _ANSWER_BYTES * 8 / 1e6,
        replicas * dollars_an_hour / (rate * 3600) * 1e6,
    )


def load(path: Path) -> Costs:
    """Reads what was measured."""
    saved = json.loads(path.read_text())
    for name in ("all_cores", "one_core"):
        saved[name] = {int(size): seconds for size, seconds in saved[name].items()}
    return Costs(**saved)


def main() -> None:
    """Prints what a load needs."""
    parser = ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("costs", type=Path, help="what `python -m benchmarks.simulation --save` wrote")
    parser.add_argument("--rate", type=float, default=1000, help="requests per second")
    parser.add_argument("--p95-ms", type=float, default=100, help="milliseconds within which 95 of 100 are answered")
    parser.add_argument("--kilobytes", type=float, default=100, help="of a request")
    parser.add_argument("--dollars", type=float, default=0.1, help="an hour of a replica")
    options = parser.parse_args()
    costs = load(options.costs)
    made = plan(costs, options.rate, options.p95_ms, options.kilobytes, options.dollars)
    print(
        f"A replica of {costs.cores} cores answers {capacity(costs):.0f} requests a second at the most, and "
        f"{made.rate:.0f} ({made.load:.0%}) with 95 of 100 within {options.p95_ms:g} ms.\n"
        f"{options.rate:g} a second need {made.replicas} replicas ({made.cores} cores; one replica to spare), "
        f"{made.megabits_in:.0f} Mbit/s in and {made.megabits_out:.0f} out, and cost {made.dollars:.2f} dollars for a "
        "million answers."
    )


if __name__ == "__main__":
    main()
