"""This project beside other model servers, a hand-written app and the bare session, on the same graphs.

In each round every candidate is started alone, answers some images, which are compared with the bare session's answers,
is warmed up, loaded and stopped. Ratios are of the same round, so that noise on the machine affects both sides alike.
The first run creates the peers' virtual environments in `.peers`.
"""

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import options
from benchmarks.load import Load
from benchmarks.peers.candidates import PEERS, Candidate, Graph, Running, bare, by_hand, quartet
from benchmarks.peers.environments import versions
from benchmarks.results import ROOT, Recorder
from benchmarks.serving import INT8, golden_jpegs
from benchmarks.tiny import make_tiny
from service.inference.manifest import MODEL
from service.tasks.registry import read_manifest

OURS = "quartet"
OTHERS: Mapping[str, Candidate] = {**PEERS, "by hand": by_hand, "bare session": bare}
GRAPHS = ("cnn", "cnn-int8", "tiny")
CONCURRENCIES = (1, 8, 64)
# A batch may round differently than a single image, most of all after quantisation.
TOLERANCE = {"reference": 1e-4, INT8: 2e-2}
_WARM_UP = 1.0  # seconds, for each number of clients

# What a candidate reached in each round, by the number of clients.
Rounds = dict[int, list[Load]]


def main() -> None:
    """Runs the comparison and prints it; `--json` also writes it to a file."""
    parser = options.parser("benchmarks.peers", __doc__, rounds=5)
    parser.add_argument("--against", nargs="*", choices=OTHERS, default=list(OTHERS), help="default: all of them")
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=GRAPHS)
    parser.add_argument("--concurrency", nargs="+", type=int, default=CONCURRENCIES, metavar="CLIENTS")
    parser.add_argument(
        "--also", action="append", type=Path, default=[], metavar="CHECKOUT", help="another checkout of this project"
    )
    arguments = parser.parse_args()
    candidates = {OURS: quartet()}
    candidates |= {f"{OURS} in {path.resolve().name}": quartet(path) for path in arguments.also}
    candidates |= {name: OTHERS[name] for name in arguments.against}
    console = Recorder()
    images = [*golden_jpegs(options.newest(arguments.models, "classifier")), (ROOT / "examples/cat.jpg").read_bytes()]
    figures: dict[str, Any] = {}
    with _graphs(arguments.models) as graphs:
        for name in arguments.graphs:
            reached = compare(candidates, graphs[name], images, arguments)
            figures[name] = figures_of(reached)
            console.print(_table(graphs[name].title, figures[name]))
    peers = [package for name in arguments.against if name in PEERS for package in PEERS[name].packages]
    if peers:
        console.print(f"In the peers' environments: {versions(['onnxruntime', *peers])}")
    console.write(arguments.json, "benchmarks.peers", figures)


@contextmanager
def _graphs(models: Path) -> Iterator[dict[str, Graph]]:
    folder = options.newest(models, "classifier")
    int8 = next(variant.file for variant in read_manifest(folder).variants if variant.name == INT8)
    with tempfile.TemporaryDirectory() as scratch:
        yield {
            "cnn": Graph("the committed CNN, float32", models, folder / MODEL),
            "cnn-int8": Graph("the committed CNN, int8", models, folder / int8, INT8),
            "tiny": Graph("a trivial network", Path(scratch), make_tiny(folder, Path(scratch)) / MODEL),
        }


def compare(
    candidates: Mapping[str, Candidate], graph: Graph, images: Sequence[bytes], arguments: Any
) -> dict[str, Rounds]:
    """Measures all candidates with a graph in interleaved rounds, every second one in reverse order.

    Args:
        candidates: by name.
        graph: that all serve.
        images: JPEGs to check and to send.
        arguments: the numbers of clients as `concurrency`, `rounds`, and the `seconds` of each measurement.

    Raises:
        ValueError: a candidate's answers differ from those of the bare session.
    """
    reached: dict[str, Rounds] = {name: {count: [] for count in arguments.concurrency} for name in candidates}
    with bare(graph, images) as session:
        expected = [session.classify(image) for image in images]
    for turn in range(arguments.rounds):
        for name in list(candidates)[:: -1 if turn % 2 else 1]:
            with candidates[name](graph, images) as running:
                check(name, running, images, expected, TOLERANCE[graph.variant])
                for count in arguments.concurrency:
                    running.load(count, _WARM_UP)
                    reached[name][count].append(running.load(count, arguments.seconds))
    return reached


def check(
    name: str, running: Running, images: Sequence[bytes], expected: Sequence[Mapping[str, float]], tolerance: float
) -> None:
    """Compares a candidate's answers with those expected.

    Raises:
        ValueError: a probability differs by more than the tolerance, or the most likely label is missing.
    """
    for number, (image, truth) in enumerate(zip(images, expected, strict=True)):
        answer = running.classify(image)
        apart = max((abs(each - truth.get(label, 0)) for label, each in answer.items()), default=0)
        below = max(truth.values()) - max(answer.values(), default=0)
        if max(apart, below) > tolerance:
            raise ValueError(f"{name} answers image {number} with {answer}, but expected is {dict(truth)}")


def figures_of(reached: Mapping[str, Rounds]) -> list[dict[str, Any]]:
    """A row for each number of clients and candidate: medians over the rounds, and ratios to this project's rate."""
    rows = []
    for count, ours in reached[OURS].items():
        for name, rounds in reached.items():
            loads = rounds[count]
            ratios = [theirs.rate / our.rate for theirs, our in zip(loads, ours, strict=True)]
            rows.append(
                {
                    "concurrency": count,
                    "server": name,
                    "rate": statistics.median(load.rate for load in loads),
                    "ratio": statistics.median(ratios),
                    "ratio_in_rounds": ratios,
                    "median_ms": statistics.median(load.median_ms for load in loads),
                    "p99_ms": statistics.median(load.p99_ms for load in loads),
                }
            )
    return rows


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title)
    for column in ("clients", "server", "images/s", f"of {OURS}", "median ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for row in rows:
        ratios = row["ratio_in_rounds"]
        table.add_row(
            str(row["concurrency"]),
            row["server"],
            f"{row['rate']:.0f}",
            f"{row['ratio']:.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            f"{row['median_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
