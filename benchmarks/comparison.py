"""Ways to ask a route of the service, compared with the bare session of its model; rounds interleave."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load import measure


@dataclass(frozen=True, slots=True)
class Line:
    """A way to ask a route: `bodies` in turn, each of so many items, over so many connections."""

    words: str
    path: str
    media_type: str
    bodies: list[bytes]
    items: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Route:
    """A model, items a second of its bare session by batch size, and the ways it is asked."""

    model: str
    bare: Mapping[int, Callable[[float], float]]
    lines: list[Line]


def compare(route: Route, port: int, rounds: int, seconds: float, console: Console) -> dict[str, Any]:
    """Measures the service at `port` and the bare session in turns, prints a table, returns its figures."""
    bare: dict[int, list[float]] = {batch: [] for batch in route.bare}
    served: list[list[tuple[float, float]]] = [[] for _ in route.lines]
    for _ in range(rounds):
        for batch, rate in route.bare.items():
            bare[batch].append(rate(seconds / 3))
        for line, values in zip(route.lines, served, strict=True):
            load = measure(port, line.path, line.bodies, line.concurrency, seconds, line.media_type)
            values.append((load.rate * line.items, load.median_ms))
    best = max(bare, key=lambda batch: statistics.median(bare[batch]))
    table = Table(title=f"{route.model}: bare session {statistics.median(bare[best]):.0f} items/s (batch {best})")
    for column in ("request", "at a time", "items/s", "of bare", "median ms"):
        table.add_column(column, justify="left" if column == "request" else "right")
    rows = []
    for line, values in zip(route.lines, served, strict=True):
        row = {
            "request": line.words,
            "concurrency": line.concurrency,
            "rate": statistics.median(rate for rate, _ in values),
            "of_bare": statistics.median(rate / top for (rate, _), top in zip(values, bare[best], strict=True)),
            "median_ms": statistics.median(latency for _, latency in values),
        }
        rows.append(row)
        table.add_row(
            line.words, str(line.concurrency), f"{row['rate']:.0f}", f"{row['of_bare']:.2f}", f"{row['median_ms']:.2f}"
        )
    console.print(table)
    return {"bare": {str(b): statistics.median(v) for b, v in bare.items()}, "best_batch": best, "rows": rows}
