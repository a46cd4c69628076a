"""Measures a published version on any labelled data, and compares the figures with those of its card.

The items take the way of the service's: its decoding, its pipeline, the exported graph in ONNX Runtime.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_json
from rich.console import Console

from quartet.offline.scoring.engine import Engine, Job
from quartet.offline.scoring.score import rows_of
from quartet.offline.scoring.sources import UnusableJob, chunks
from quartet.offline.tables import format_table
from service.errors import QuartetError
from service.inference.cards import ManifestBase
from service.inference.device import DeviceUnavailable
from service.inference.repository import NothingToServe
from service.settings import InvalidSettings, Settings, read_settings
from service.tasks.registry import BUILT_IN
from training.data.dataset import DataError
from training.engine.progress import track
from training.export.figures import Interval, wilson
from training.export.labelled import Figure, Findings, Labelled
from training.registry import read_manifest, recipe_of

# P-values below this are called unusual; exchangeable items have one in a share of at most this.
_LEVEL = 0.05
_CLASSES_SHOWN, _WORST_SHOWN, _WORST_WRITTEN = 10, 10, 1000
# Names of figures as people say them.
_WORDS = {
    "macro_f1": "macro F1", "ece_after": "calibration error", "map": "mAP", "map_50": "mAP at 0.5", "r2": "R²",
    "rmse": "RMSE", "mae": "MAE", "mse": "squared error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unusual:
    """The share of the items whose `typicality` is below `level`, its 95 % interval, and the card's share."""

    level: float
    share: float
    interval: Interval
    card: float | None


def measure(folder: Path, options: Any, console: Console) -> None:
    """Measures the version in `folder`, prints what was found, and writes it to `options.output`.

    Raises:
        DataError: the data cannot be used; names the items.
        ValueError: the version cannot be measured on other data, or cannot run.
    """
    output: Path | None = options.output
    if output and (output.is_dir() or not output.parent.is_dir()):
        raise ValueError(f"--output {output}: is not a file in an existing folder")
    manifest = read_manifest(folder)
    labelled = recipe_of(manifest).labelled(manifest, options)
    _warn_of_training_data(labelled, console)
    p_values = _answer(f"{manifest.name}/{folder.name}", labelled, options)
    labelled.inspection.print(console)
    findings, unusual = labelled.findings(), _unusual(manifest, p_values)
    for line in _described(f"{manifest.name}/{folder.name}", labelled, findings, unusual):
        console.print(line, highlight=False, soft_wrap=True)
    if output:
        document = _document(f"{manifest.name}/{folder.name}", options.data, labelled, findings, unusual)
        output.write_bytes(to_json(document, indent=1, inf_nan_mode="null") + b"\n")
        console.print(f"written to {output}", highlight=False, soft_wrap=True)


def _warn_of_training_data(labelled: Labelled, console: Console) -> None:
    card = labelled.manifest.data
    if card and "train" in labelled.splits and labelled.total == card.train + card.validation + card.test:
        alone = "--split test measures on the test split alone" if "test" in labelled.splits else "see its card"
        console.print(
            f"{labelled.name} has exactly as many {labelled.kind} as the data of the model's card. If they are the "
            f"same, the figures are too good: {alone}.",
            style="yellow",
            highlight=False,
        )


def _answer(version: str, labelled: Labelled, options: Any) -> list[float]:
    """Gives each item's result to `labelled`; returns the p-values, if the answers have them."""
    p_values: list[float] = []
    with _refusals():
        settings = read_settings(models=options.models).model_copy(update={"variant": "reference"})
        rows = _results(Job(version, options=labelled.options, column=labelled.found.column), labelled, settings)
        for row in track(rows, f"Measuring {version}", total=labelled.total):
            if isinstance(error := row.get("error"), str):
                labelled.problems.add(labelled.found.where(row["row"]), error.removeprefix("Invalid request: "))
                continue
            labelled.take(row["row"], row)
            labelled.answered.append(row["row"])
            if row.get("typicality") is not None:
                p_values.append(row["typicality"])
    labelled.problems.settle(options.data, options.bad, labelled.inspection)
    if not labelled.answered:
        raise DataError(f"{options.data}: none of the {labelled.kind} can be answered.")
    return p_values


@contextmanager
def _refusals() -> Iterator[None]:
    """Raises what the service's code refuses to do as ValueError."""
    try:
        yield
    except (UnusableJob, NothingToServe, DeviceUnavailable, InvalidSettings, QuartetError) as error:
        raise ValueError(str(error)) from error


def _results(job: Job, labelled: Labelled, settings: Settings) -> Iterator[Mapping[str, Any]]:
    """The rows of all items, as `Engine.score` returns them."""
    with asyncio.Runner() as runner:
        engine = runner.run(Engine.open(job, settings, BUILT_IN))
        try:
            columns = engine.choose_columns(labelled.found.columns)
            parts = rows_of(engine, chunks(labelled.items(0, columns), engine.chunk), labelled.base)
            try:
                while rows := runner.run(_next(parts)):
                    yield from rows
            finally:
                runner.run(parts.aclose())
        finally:
            runner.run(engine.close())


async def _next(parts: AsyncGenerator[Sequence[Mapping[str, Any]], None]) -> Sequence[Mapping[str, Any]] | None:
    return await anext(parts, None)


def _unusual(manifest: ManifestBase, p_values: Sequence[float]) -> Unusual | None:
    card = getattr(manifest, "familiarity", None)
    if card is None or not p_values:
        return None
    level = max(_LEVEL, card.level)  # a card of few items has no smaller p-values
    below = sum(value < level for value in p_values)
    return Unusual(level, below / len(p_values), wilson(below, len(p_values)), card.test_below.get(f"{level:g}"))


def _described(version: str, labelled: Labelled, findings: Findings, unusual: Unusual | None) -> Iterator[str]:
    parts = [f"{name} {count:,}" for name, count in labelled.splits.items()]
    # Without splits of its own, all data is called train.
    parts = [] if labelled.splits.keys() == {"train"} else parts
    if left_out := labelled.total - len(labelled.answered):
        parts.append(f"{left_out:,} of them left out")
    more = f" ({', '.join(parts)})" if parts else ""
    yield f"{version} on {labelled.total:,} {labelled.kind} of {labelled.name}{more}"
    yield from findings.notes
    yield ""
    yield from format_table([_cells(figure) for figure in findings.figures])
    data = labelled.manifest.data
    of_card = f"the card's figures are of {data.test:,} test items" if data else "the version was never evaluated"
    yield f"With 95 % intervals; {of_card}."
    if labelled.manifest.training:
        known = f"The version does not record which {labelled.kind} it was trained on"
        yield f"{known}: if some of these were among them, the figures are too good."
    if unusual:
        card = "" if unusual.card is None else f"; of the card's test items {unusual.card:.1%}"
        yield (
            f"Unusual: {unusual.share:.1%} of the {labelled.kind} (" + _interval(unusual.interval, ".1%")
            + f") have a p-value `typicality` below {unusual.level:g}{card}. Up to {unusual.level:.0%} is usual."
        )  # fmt: skip
    for title, rows, most in (
        ("Classes, the worst first", findings.classes, _CLASSES_SHOWN),
        (f"Worst {labelled.kind}", findings.worst, _WORST_SHOWN),
    ):
        if rows:
            yield ""
            yield title + (f" ({most} of {len(rows):,})" if len(rows) > most else "") + ":"
            yield from format_table([{name: _cell(value) for name, value in row.items()} for row in rows[:most]])


def _cells(figure: Figure) -> dict[str, str]:
    card, interval = figure.card, figure.card_interval
    return {
        "figure": _WORDS.get(figure.name, figure.name),
        "here": f"{figure.value:.4g} ({_interval(figure.interval)})",
        "card": "" if card is None else f"{card:.4g}" + (f" ({_interval(interval)})" if interval else ""),
        "here less card": "" if not figure.difference else f"{_interval(figure.difference, '+.4g')}: {figure.verdict}",
    }


def _interval(interval: Interval, form: str = ".4g") -> str:
    return " to ".join(f"{bound:{form}}" for bound in interval)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def _document(
    version: str, source: str, labelled: Labelled, findings: Findings, unusual: Unusual | None
) -> dict[str, Any]:
    """What `--output` writes."""
    return {
        "model": version,
        "data": source,
        "splits": dict(labelled.splits),
        "items": len(labelled.answered),
        "left_out": labelled.inspection.dropped,
        "figures": {
            figure.name: {
                "value": figure.value,
                "interval": figure.interval,
                "card": figure.card,
                "card_interval": figure.card_interval,
                "difference_interval": figure.difference,
                "verdict": figure.verdict or None,
            }
            for figure in findings.figures
        },
        "unusual": unusual
        and {"level": unusual.level, "share": unusual.share, "interval": unusual.interval, "card": unusual.card},
        "classes": [dict(row) for row in findings.classes],
        "worst": [dict(row) for row in findings.worst[:_WORST_WRITTEN]],
        "notes": list(findings.notes),
    }
