"""Texts, tabular rows and generated images over HTTP, compared with the bare sessions of their models.

Rounds are interleaved, as in `benchmarks.serving`.
"""

import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from tokenizers import Tokenizer

from benchmarks import options
from benchmarks.bare import bare_rate
from benchmarks.comparison import Route, Workload, compare
from benchmarks.results import Recorder
from benchmarks.servers import service
from service.inference.manifest import GOLDEN
from service.inference.session import Session
from service.inference.stacking import run_batch, run_ragged
from service.tasks.registry import read_manifest
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.text.manifest import TOKENIZER
from service.tasks.text.reading import PAD, UNKNOWN

BATCHES = (1, 8, 32, 64)
IMAGES = 2000  # per generation request
_UNKNOWN_WORD = "xqzxqz"

Ids = npt.NDArray[np.int64]


def main() -> None:
    """Runs the comparisons and prints them; `--json` also writes them to a file."""
    arguments = options.parse("benchmarks.routes", __doc__, rounds=4)
    console = Recorder()
    routes = [
        _topics(options.newest(arguments.models, "topics")),
        _tabular(options.newest(arguments.models, "tabular")),
        _generate(options.newest(arguments.models, "decoder")),
    ]
    figures: dict[str, Any] = {}
    with service(arguments.models, {"variant": "reference"}) as running:
        for route in routes:
            figures[route.model] = compare(route, running.port, arguments.rounds, arguments.seconds, console)
    figures["lengths"] = _lengths(options.newest(arguments.models, "topics"), console)
    console.write(arguments.json, "benchmarks.routes", figures)


def _topics(folder: Path) -> Route:
    """Articles, tokenised by the service; the bare session gets their ids, batched by similar length."""
    session = Session(folder / "model.onnx", "cpu")
    texts = _articles(folder)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    words = [
        " ".join(_UNKNOWN_WORD if word == UNKNOWN else str(tokenizer.id_to_token(word)) for word in ids)
        for ids in texts
    ]
    bodies = [text.encode() for text in words]
    many = [json.dumps({"texts": [words[index % len(words)] for index in range(32)]}).encode()]
    path = "/v1/classify-text"
    return Route(
        "topics",
        {batch: partial(_bare_texts, session, texts, batch) for batch in BATCHES},
        [
            Workload("one text", path, "text/plain", bodies, 1, 1),
            Workload("one text", path, "text/plain", bodies, 1, 32),
            Workload("32 texts", path, "application/json", many, 32, 2),
        ],
    )


def _articles(folder: Path) -> list[Ids]:
    """The token ids of the texts in the golden file, without padding."""
    return [row[row != PAD] for row in np.load(folder / GOLDEN)["ids"]]


def _bare_texts(session: Session, texts: list[Ids], batch: int, seconds: float) -> float:
    """Texts per second of `session.run` alone."""
    in_order = sorted((texts[index % len(texts)] for index in range(max(batch, len(texts)))), key=len)
    feeds = [{session.inputs[0]: _stacked(in_order[start : start + batch])} for start in range(0, len(in_order), batch)]
    for feed in feeds:
        session.run(feed)
    times = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        for feed in feeds:
            session.run(feed)
        times.append(time.perf_counter() - started)
    return len(in_order) / statistics.median(times)


def _stacked(texts: list[Ids]) -> Ids:
    longest = max(map(len, texts))
    return np.stack([np.pad(ids, (0, longest - len(ids)), constant_values=PAD) for ids in texts])


def _tabular(folder: Path) -> Route:
    """Tabular rows as JSON."""
    manifest = read_manifest(folder)
    if not isinstance(manifest, TabularManifest):
        raise SystemExit(f"error: {folder} is for {manifest.task}")
    session = Session(folder / "model.onnx", "cpu")
    rows = np.load(folder / GOLDEN)[session.inputs[0]]
    names = [column.name for column in manifest.columns]
    # A missing value is NaN in the graph and null in JSON.
    records = [
        {name: None if value != value else value for name, value in zip(names, row, strict=True)}
        for row in rows.tolist()
    ]
    alone = [json.dumps({"rows": [record]}).encode() for record in records]
    many = [json.dumps({"rows": [records[index % len(records)] for index in range(32)]}).encode()]
    path = "/v1/predict-tabular"
    return Route(
        "tabular",
        {batch: partial(bare_rate, session, rows, batch) for batch in BATCHES},
        [
            Workload("one row", path, "application/json", alone, 1, 1),
            Workload("one row", path, "application/json", alone, 1, 32),
            Workload("32 rows", path, "application/json", many, 32, 2),
        ],
    )


def _generate(folder: Path) -> Route:
    """Images generated from a seed, in each format."""
    session = Session(folder / "model.onnx", "cpu")
    latents = np.load(folder / GOLDEN)[session.inputs[0]]
    return Route(
        "decoder",
        {batch: partial(bare_rate, session, latents, batch) for batch in BATCHES},
        [
            Workload(
                f"{IMAGES} images as {kind}",
                "/v1/generate",
                "application/json",
                [json.dumps({"count": IMAGES, "seed": 1, "format": kind}).encode()],
                IMAGES,
                1,
            )
            for kind in ("grid", "npz", "zip", "json")
        ],
    )


def _lengths(folder: Path, console: Console) -> dict[str, float]:
    """How much a long text slows down short ones in its batch: grouped by length, and padded to the longest."""
    session = Session(folder / "model.onnx", "cpu", 1)
    by_length = sorted(_articles(folder), key=len)
    short, long = by_length[0], np.resize(by_length[-1], read_manifest(folder).longest)
    mixed = [short] * 31 + [long]
    alike = [np.pad(ids, (0, len(long) - len(ids)), constant_values=PAD) for ids in mixed]
    inputs = tuple(session.inputs)
    ways = {
        "short": partial(run_batch, session.run, inputs, [short] * 31),
        "grouped": partial(run_ragged, session.run, inputs, mixed),
        "padded": partial(run_batch, session.run, inputs, alike),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(20):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - started) * 1000)
    figures = {name: statistics.median(values) for name, values in times.items()}
    console.print(
        f"31 texts of {len(short)} words {figures['short']:.1f} ms; together with one of {len(long)} "
        f"{figures['grouped']:.1f} ms, padded to its length {figures['padded']:.1f} ms (one core)"
    )
    return figures


if __name__ == "__main__":
    main()
