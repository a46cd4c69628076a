"""Workloads on a route of the service, compared with the bare session of its model in interleaved rounds."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, measure


@dataclass(frozen=True)
class Workload:
    """A workload on a route: `bodies` in turn, each with `items` items, over `concurrency` connections."""

    description: str
    path: str
    media_type: str
    bodies: list[bytes]
    items: int
    concurrency: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def measure(self, port: int, seconds: float) -> Load:
        """What a client of the server at `port` reaches; raises LoadFailed."""
        return measure(port, self.path, self.bodies, self.concurrency, seconds, self.media_type, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Route:
    """A model, the throughput of its bare session by batch size (items per second), and the workloads."""

    model: str
    bare: Mapping[int, Callable[[float], float]]
    workloads: list[Workload]


def compare(route: Route, port: int, rounds: int, seconds: float, console: Console) -> dict[str, Any]:
    """Measures the service at `port` and the bare session in turn, prints a table and returns its figures."""
    bare: dict[int, list[float]] = {batch: [] for batch in route.bare}
    served: list[list[tuple[float, float]]] = [[] for _ in route.workloads]
    for _ in range(rounds):
        for batch, rate in route.bare.items():
            bare[batch].append(rate(seconds / 3))
        for workload, values in zip(route.workloads, served, strict=True):
            load = workload.measure(port, seconds)
            values.append((load.rate * workload.items, load.median_ms))
    best = max(bare, key=lambda batch: statistics.median(bare[batch]))
    table = Table(title=f"{route.model}: bare session {statistics.median(bare[best]):.0f} items/s (batch {best})")
    for column in ("request", "concurrency", "requests/s", "items/s", "vs bare", "median ms"):
        table.add_column(column, justify="left" if column == "request" else "right")
    rows = []
    for workload, values in zip(route.workloads, served, strict=True):
        row: dict[str, Any] = {
            "request": workload.description,
            "concurrency": workload.concurrency,
            "rate": statistics.median(rate for rate, _ in values),
            "of_bare": statistics.median(rate / top for (rate, _), top in zip(values, bare[best], strict=True)),
            "median_ms": statistics.median(latency for _, latency in values),
        }
        rows.append(row)
        table.add_row(
            workload.description,
            str(workload.concurrency),
            f"{row['rate'] / workload.items:.0f}",
            f"{row['rate']:.0f}",
            f"{row['of_bare']:.3g}",
            f"{row['median_ms']:.2f}",
        )
    console.print(table)
    return {"bare": {str(b): statistics.median(v) for b, v in bare.items()}, "best_batch": best, "rows": rows}
