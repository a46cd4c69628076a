"""What the studies have in common: their options, and rows that are kept while a study runs."""

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from service.inference.device import available_cpus
from training.engine.atomic import replacing
from training.engine.threads import set_threads

Row = dict[str, Any]
ROWS = "study.json"
REPORT = "README.md"


def study_parser(module: str, description: str | None, seeds: int | None = None) -> argparse.ArgumentParser:
    """The parser of a study.

    Args:
        module: that is run.
        description: of the study.
        seeds: the default number of trainings of each row; None for a study that trains nothing.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--data", required=True, help="a hub id, a URL, a folder or an archive")
    parser.add_argument("--limit", type=int, help="use at most this many items of each split (default: all)")
    trains = "" if seeds is None else ", and of the first training"
    parser.add_argument("--seed", type=int, default=0, help=f"of the splits{trains} (default: 0)")
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds, help="trainings of each row (default: %(default)s)")
    folder = Path("runs") / module.replace(".", "-")
    parser.add_argument("--folder", type=Path, default=folder, help="for the report (default: %(default)s)")
    return parser


def measure_rows(
    folder: Path,
    origin: Mapping[str, Any],
    measures: Mapping[str, Callable[[], Row]],
    console: Console,
    *,
    side_by_side: bool = False,
) -> dict[str, Row]:
    """The rows of a study by name; those that `folder` already has, with the same origin, are not measured again.

    Args:
        folder: keeps the rows as JSON after each measurement.
        origin: what determines the outcome (data, network, settings), in plain JSON types.
        measures: what measures each row, by its name.
        console: shows each row.
        side_by_side: whether each CPU measures a row with one thread, which is faster than all threads in one small
            training; `measures` must then be picklable.
    """
    path, origin = folder / ROWS, json.loads(json.dumps(origin))
    kept = json.loads(path.read_text()) if path.is_file() else {}
    rows: dict[str, Row] = kept["rows"] if kept.get("origin") == origin else {}
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, row: Row) -> None:
        rows[name] = row
        with replacing(path) as partial:
            partial.write_text(json.dumps({"origin": origin, "rows": rows}, indent=1) + "\n")
        console.print(f"{name}: {row}", highlight=False)

    missing = {name: measure for name, measure in measures.items() if name not in rows}
    workers = min(available_cpus(), len(missing)) if side_by_side else 1
    if workers > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=set_threads, initargs=(1,)) as pool:
            names = {pool.submit(measure): name for name, measure in missing.items()}
            for done in as_completed(names):
                keep(names[done], done.result())
    else:
        for name, measure in missing.items():
            keep(name, measure())
    return {name: rows[name] for name in measures}


def write_study(folder: Path, *parts: str) -> None:
    """Writes the parts, separated by empty lines, as the report of a study."""
    (folder / REPORT).write_text("\n\n".join(parts) + "\n")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    first, *rest = ("| " + " | ".join(map(str, cells)) + " |" for cells in (header, *rows))
    return "\n".join([first, "|" + "---|" * len(header), *rest])


def mean_and_deviation(values: Sequence[float]) -> str:
    """`mean ± standard deviation`, to four decimals."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.4f} ± {deviation:.4f}"
