"""Whether drift is noticed, and nothing else: test data of the committed models, as it is and disturbed.

python -m benchmarks.drift --data ../data [--models models] [--json FILE]

`--data` holds the folders mnist, bccd, cifar10 and reuters-r52. The window of a version is filled with undisturbed test
items, then disturbed ones follow until it is reported as drifted. Items are drawn with replacement where there are
fewer than a window takes.
"""

import functools
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from tokenizers import Tokenizer

from benchmarks.options import newest
from benchmarks.results import Recorder, add_json_option
from service.drift.distance import ITEMS
from service.drift.observer import Watch
from service.drift.report import report
from service.inference.manifest import MODEL
from service.tasks.registry import BUILT_IN
from service.tasks.text.manifest import TOKENIZER
from training.export.histograms import Observed, with_histograms
from training.registry import read_manifest, recipe_of
from training.text.learner import TextEvaluator

Array = npt.NDArray[Any]
WINDOWS = 20
# Test items of one kind that run through the network.
_MOST = 2000
_STEP = 50
# Disturbed items after which the search ends.
_PATIENCE = 4000
_FOLDERS = {
    "autoencoder": "mnist", "encoder": "mnist", "classifier": "cifar10", "detector": "bccd", "topics": "reuters-r52",
    "tabular": "breast-cancer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stream:
    """Items with the answers of the model.

    Attributes:
        items: as the graph takes them.
        rows: of its outputs.
        right: share of right answers; None if it is not measured.
    """

    items: Sequence[Any]
    rows: Sequence[Any]
    right: float | None = None

    def draw(self, random: np.random.Generator, count: int) -> tuple[list[Any], list[Any]]:
        """Some of them at random, each once if there are enough."""
        chosen = random.choice(len(self.items), count, replace=count > len(self.items))
        return [self.items[index] for index in chosen], [self.rows[index] for index in chosen]


@dataclass(frozen=True, slots=True)
class Case:
    """A model with a stream that is like its validation split, and others that are not.

    Attributes:
        apart: the manifest with histograms of items that are not in `usual`, if the model's own are.
    """

    manifest: Any
    usual: Stream
    disturbed: Mapping[str, Callable[[], Stream]]
    apart: Any = None


def main() -> None:
    """Prints false alarms in undisturbed windows, and after how many disturbed items drift is reported."""
    parser = ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../data"))
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--only", nargs="*", choices=_FOLDERS, default=list(_FOLDERS), help="models (default: all)")
    add_json_option(parser)
    options = parser.parse_args()
    recorder = Recorder()
    quiet = Table("model", "windows", "false alarms", "closest to its threshold", title="Undisturbed test data")
    noticed = Table("model", "disturbance", "items until the alarm", "statistics, farthest first", title="Drift")
    estimated = Table("data", "estimated accuracy", "true accuracy", "reliable", title="Accuracy without labels")
    figures: dict[str, Any] = {}
    for name in options.only:
        case = case_of(name, newest(options.models, name), options.data)
        alarms, nearest = false_alarms(case)
        quiet.add_row(name, str(WINDOWS), str(alarms), f"{nearest[0]} {nearest[1]:.2f}")
        figures[name] = {"false_alarms": alarms, "nearest": nearest, "drift": {}}
        _estimate(estimated, figures[name], f"{name}: test split", case.manifest, case.usual)
        for what, make in case.disturbed.items():
            stream = make()
            items, found = items_until_alarm(case, stream)
            distances = ", ".join(f"{statistic} {distance:.2f}" for statistic, distance in found[:3])
            noticed.add_row(name, what, f"{items:,}" if items else f"none in {_PATIENCE:,}", distances)
            figures[name]["drift"][what] = {"items": items, "distances": dict(found)}
            _estimate(estimated, figures[name]["drift"][what], f"{name}: {what}", case.manifest, stream)
    for table in (quiet, noticed, estimated):
        recorder.print(table)
    recorder.write(options.json, "benchmarks.drift", figures)


def false_alarms(case: Case) -> tuple[int, tuple[str, float]]:
    """How many undisturbed windows are reported, and the statistic closest to its threshold, as a share of it."""
    alarms, nearest = 0, ("", 0.0)
    for seed in range(WINDOWS):
        watch = watch_of(case.apart or case.manifest)
        watch.add(*case.usual.draw(np.random.default_rng(seed), ITEMS))
        state = state_of(watch)
        alarms += bool(state["drifted"])
        for feature in state["features"]:
            share = feature["distance"] / feature["threshold"]
            nearest = (feature["name"], share) if share > nearest[1] else nearest
    return alarms, nearest


def items_until_alarm(case: Case, stream: Stream) -> tuple[int | None, list[tuple[str, float]]]:
    """The number of disturbed items after which a full window is reported, and the statistics, farthest first."""
    watch, random = watch_of(case.manifest), np.random.default_rng(100)
    for _ in range(ITEMS // _STEP):
        watch.add(*case.usual.draw(random, _STEP))
    before = state_of(watch)["drifted"]
    alarm = None
    for items in range(_STEP, _PATIENCE + 1, _STEP):
        watch.add(*stream.draw(random, _STEP))
        if set(state_of(watch)["drifted"]) - set(before):
            alarm = items
            break
    whole = watch_of(case.manifest)
    whole.add(*stream.draw(random, ITEMS))
    features = sorted(state_of(whole)["features"], key=lambda each: -each["distance"] / each["threshold"])
    return alarm, [(each["name"], each["distance"]) for each in features if each["drifted"]]


def watch_of(manifest: Any) -> Watch:
    """An empty window of a version."""
    statistics = BUILT_IN.tasks[manifest.task].statistics
    if statistics is None or not manifest.histograms:
        raise ValueError(f"{manifest.name}: has no histograms: quartet drift {manifest.name} --data …")
    return Watch(manifest, statistics)


def state_of(watch: Watch) -> dict[str, Any]:
    """What the service reports of a window."""
    return report(watch.manifest, watch.bins, watch.window.counts())


def case_of(name: str, folder: Path, data: Path) -> Case:
    """The test data of a model, as it is and disturbed."""
    manifest: Any = read_manifest(folder)
    source = _FOLDERS[name] if name == "tabular" else str(data / _FOLDERS[name])
    more = {"bad": "refuse", "limit": None, "encoding": None}
    texts = {"text_column": None, "label_column": None, "validation": 0.1}
    found: Any = recipe_of(manifest).reload(manifest, folder, SimpleNamespace(data=source, **more, **texts))
    observed = recipe_of(manifest).observed(manifest, folder, found)
    make = functools.partial(_stream, folder / MODEL, observed)
    if name == "topics":
        return _articles(manifest, folder, found, make)
    if name == "tabular":
        return _rows(manifest, found, make)
    chosen = np.sort(np.random.default_rng(0).permutation(len(found.test))[:_MOST])
    images = found.test.images[chosen]
    labels = found.test.labels[chosen] if name == "classifier" else None
    disturbed = {what: functools.partial(make, change(images), labels) for what, change in _PICTURES[name].items()}
    return Case(manifest, make(images, labels), disturbed)


def _stream(graph: Path, observed: Observed, items: Any, labels: Array | None = None) -> Stream:
    outputs = observed.run(graph, items)
    right = None if labels is None else float((outputs[0].argmax(1) == labels).mean())
    return Stream(items, list(zip(*outputs, strict=True)), right)


def brighter(images: Array, factor: float) -> Array:
    """Images with every value multiplied."""
    return np.clip(images * np.float32(factor), 0, 255).astype(np.uint8)


def blurred(images: Array) -> Array:
    """Images in which each pixel is the mean of 3 x 3."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float32)
    height, width = images.shape[1:3]
    shifted = (padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3))
    return (np.asarray(sum(shifted)) / 9).astype(np.uint8)


def rotated(images: Array) -> Array:
    """Images, turned by a quarter."""
    return np.ascontiguousarray(np.rot90(images, axes=(1, 2)))


def inverted(images: Array) -> Array:
    """Images with black for white."""
    return 255 - images


_DIGITS: dict[str, Callable[[Array], Array]] = {"rotated by 90°": rotated, "inverted": inverted}
_PICTURES: dict[str, dict[str, Callable[[Array], Array]]] = {
    "autoencoder": _DIGITS,
    "encoder": _DIGITS,
    "classifier": {"blurred": blurred, "darker by half": functools.partial(brighter, factor=0.5), "inverted": inverted},
    "detector": {
        "darker by a fifth": functools.partial(brighter, factor=0.8),
        "brighter by a tenth": functools.partial(brighter, factor=1.1),
    },
}


def _articles(manifest: Any, folder: Path, data: Any, make: Callable[..., Stream]) -> Case:
    """Articles of the split by date: train and validation are from before April 7, 1987, test is from after that.

    So no test article is undisturbed: one half of validation is the stream, which is compared with the other half.
    """
    texts = TextEvaluator(data, Tokenizer.from_file(str(folder / TOKENIZER)))
    selection, calibration = data.division
    halves = [[texts.validation[index] for index in half] for half in (selection, calibration)]
    run = recipe_of(manifest).observed(manifest, folder, data).run
    apart = with_histograms(folder, manifest, Observed(halves[1], run))
    usual = make(halves[0], data.validation.labels[selection])
    last = range(len(texts.test) - ITEMS, len(texts.test))
    disturbed = {
        "all later months": functools.partial(make, texts.test, data.test.labels),
        "the last 1,000 articles": functools.partial(make, [texts.test[i] for i in last], data.test.labels[last]),
    }
    return Case(manifest, usual, disturbed, apart)


def _rows(manifest: Any, data: Any, make: Callable[..., Stream]) -> Case:
    rows, targets = data.test.rows, data.test.targets
    column = next(index for index, card in enumerate(manifest.columns) if card.name == "mean radius")

    def in_millimetres() -> Stream:
        changed = rows.copy()
        changed[:, column] *= 10
        return make(changed, targets)

    return Case(manifest, make(rows, targets), {"mean radius in other units (x 10)": in_millimetres})


def _estimate(table: Table, figures: dict[str, Any], what: str, manifest: Any, stream: Stream) -> None:
    """Adds the estimated accuracy of a stream, if its answers have a confidence and it has labels."""
    if stream.right is None:
        return
    watch = watch_of(manifest)
    for start in range(0, len(stream.items), _STEP):
        watch.add(stream.items[start : start + _STEP], stream.rows[start : start + _STEP])
    accuracy = state_of(watch)["accuracy"]
    if accuracy is not None:
        low, high = accuracy["low"], accuracy["high"]
        shown = f"{accuracy['estimate']:.3f} ({low:.3f} to {high:.3f})"
        table.add_row(what, shown, f"{stream.right:.3f}", "yes" if accuracy["reliable"] else "no")
        figures["accuracy"] = {**accuracy, "true": stream.right}


if __name__ == "__main__":
    main()
