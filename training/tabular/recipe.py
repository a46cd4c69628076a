"""Tables: a dense network and gradient boosting on the columns, to predict a class or a number."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import nn

from quartet.captured.items import Captured
from service.inference.cards import GoldenCard, Use
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.tabular.columns import UNKNOWN, ColumnCard
from service.tasks.tabular.manifest import CrossValidated, TabularManifest
from training.baseline import Baseline
from training.data.dataset import class_names
from training.data.inspection import missed_classes
from training.data.recognise import Recognised, Source
from training.engine.checkpoint import FitState
from training.engine.progress import Bar, progress_bar
from training.engine.settings import FitSettings
from training.export import history
from training.export.calibration import fit_temperature, logits_of
from training.export.cards import data_card, training_card
from training.export.graph import export, write_golden
from training.export.histograms import Observed, observed_items
from training.export.labelled import Labelled
from training.export.ood import OodData, some_indices
from training.options import FitOptions, override
from training.phases import Work
from training.recipe import Draft, Recipe
from training.registry import training_of
from training.report.curves import Curve, write_curves
from training.report.earlier import earlier_runs
from training.report.record import update_record
from training.run import Run
from training.tabular import evaluation
from training.tabular.added import with_captures
from training.tabular.boosting import Boosting, cost_of_mean, fit_default, fit_mean
from training.tabular.comparison import (
    DEFAULT,
    NetworkMethod,
    cross_validate,
    decide,
    hold_out,
    possible_folds,
    score,
)
from training.tabular.data import TabularData, TabularSplit, load_table
from training.tabular.labelled import labelled_rows
from training.tabular.network import Rows, TabularGraph, TabularNetwork, WithFeatures, build, target_scale
from training.tabular.options import DEFAULTS, TabularOptions
from training.tabular.report import draw_rows, write_report
from training.tabular.target import recognise_table
from training.tabular.trees import Trees

TabularRun = Run[TabularOptions, TabularData]

MAX_BATCH = 256
# Rows that the baseline is fitted on at most; it takes seconds.
_MOST_OF_BASELINE = 50_000
# Folds of the cross-validation, which is left out of larger tables: half of their validation rows are enough to choose.
_FOLDS, _MOST_CROSS_VALIDATED = 5, 5000
# A purpose of rows, as in `training.export.history`.
_SHARES = "shares of network and gradient boosting"
# How often a column is shuffled; about how long the graph takes for a row.
_SHUFFLES, _SECONDS_OF_ROW = 10, 5e-5


class TabularRecipe(Recipe[TabularOptions, TabularData]):
    """A dense network and gradient boosting on the columns of a table."""

    name = "tabular"
    items = "rows"
    cross_validates = True
    manifests = (TabularManifest,)

    # Of `baseline`.
    _default: Boosting
    _seconds_of_mean = 0.0

    def recognise(self, source: Source) -> Recognised | None:
        return recognise_table(source)

    def load(self, options: TabularOptions) -> TabularData:
        return load_table(options)

    def add(self, data: TabularData, items: Sequence[Captured]) -> TabularData:
        return with_captures(data, items)

    def draw(self, data: TabularData) -> Image:
        return draw_rows(data)

    def describe(self, data: TabularData) -> str:
        target = f"{len(data.classes)} classes" if data.classes else "a number"
        return f" of {len(data.columns)} columns; {data.target}: {target}"

    def choose(self, options: TabularOptions, data: TabularData) -> tuple[TabularOptions, Sequence[str]]:
        asked = options.cross_validate
        if asked and not possible_folds(_train_and_validation(data), data.kind, asked):
            raise ValueError(
                f"--cross-validate {asked}: two classes need rows for it, and one of them {asked}; use fewer parts"
            )
        return options, ()

    def settings(self, options: TabularOptions, data: TabularData) -> FitSettings:
        # The steps of an epoch are some sixty at least, and a few hundred at most.
        batch = min(256, max(DEFAULTS.batch_size, 2 ** round(math.log2(len(data.train) / 60))))
        return override(dataclasses.replace(DEFAULTS, batch_size=batch), options.fit)

    def build(self, run: TabularRun) -> TabularNetwork:
        data = run.data
        run.warn_of_absent(data.classes, {"validation": data.validation.targets, "test": data.test.targets})
        return build(run.options.network, data, data.train, run.settings.seed)

    def learner(self, run: TabularRun, network: nn.Module) -> Rows:
        data = run.data
        selection, _ = data.division
        return Rows(data.train, data.validation.take(selection), data.kind)

    def baseline(self, run: TabularRun, network: nn.Module) -> Baseline:
        data = run.data
        part = data.train.take(some_indices(len(data.train), _MOST_OF_BASELINE))
        started = time.perf_counter()
        model = self._default = fit_default(part, data.layout, len(data.classes))
        seconds = (time.perf_counter() - started) * len(data.train) / len(part)
        self._seconds_of_mean = cost_of_mean(model, seconds, len(data.train))

        def measure(split: TabularSplit) -> float:
            return score(split.targets, decide(model.answers(split.rows), data.kind), data.kind)

        selection, _ = data.division
        return Baseline(
            name=DEFAULT,
            figure="accuracy" if data.classes else "r2",
            validation=measure(data.validation.take(selection)),
            items=len(part),
            test=partial(measure, data.test),
        )

    def work(self, run: TabularRun) -> Sequence[Work]:
        data, folds = run.data, self._folds(run)
        # Of the training rows, in each fold; a tenth of them chooses the epoch.
        share = (1 - 1 / folds) * (1 + len(data.validation) / len(data.train)) if folds else 0.0
        boosting, shuffles = self._seconds_of_mean, _SHUFFLES * min(len(data.test), evaluation.MOST_SHUFFLED)
        return (
            Work(name="cross-validation", fits=0.9 * share * folds, seconds=(boosting + 1) * share * folds),
            Work(name="gradient boosting", seconds=boosting),
            Work(name="evaluation and export", seconds=8 + len(data.columns) * shuffles * _SECONDS_OF_ROW),
        )

    def _folds(self, run: TabularRun) -> int:
        """The folds of the cross-validation; 0 for none."""
        rows, asked = _train_and_validation(run.data), run.options.cross_validate
        if asked is None:
            asked = _FOLDS if len(rows) <= _MOST_CROSS_VALIDATED else 0
        return possible_folds(rows, run.data.kind, asked)

    def drafts(self, run: TabularRun, network: nn.Module, state: FitState) -> list[Draft]:
        assert isinstance(network, TabularNetwork)  # noqa: S101 - see `build`
        data, folds = run.data, self._folds(run)
        if folds:
            with (
                run.phase("cross-validation"),
                progress_bar(run.console, "cross-validation", folds * run.settings.epochs, 0, run.accelerator) as bar,
            ):
                folder, watch = run.folder / "folds", _Epochs(bar)
                method = NetworkMethod(run.options.network, run.settings, data, folder, run.accelerator, watch)
                held_out = cross_validate(method, _train_and_validation(data), folds)
        if not run.is_main:
            return []
        with run.phase("gradient boosting"):
            boosting = fit_mean(data.train, data.layout, len(data.classes))
            if not folds:
                held_out = hold_out(data, network, self._default, boosting)
            share, answers = held_out.choose()
            boosting = self._default if share is None else boosting.first(held_out.iterations)
            share = share or 0.0
        compared = held_out.compared(answers) if folds else {}
        for method_name, row in compared.items():
            run.console.print(f"{method_name}: {row.mean:.4f} ± {row.std:.4f} over {folds} folds", highlight=False)
        run.console.print(f"The answer is {describe_shares(share)}.", highlight=False)
        # Rows that trained the network would make the best temperature too low.
        temperature = fit_temperature(logits_of(answers.astype(np.float32)), held_out.targets) if data.classes else 1.0
        scale = target_scale(data.train, data.kind)
        trees = Trees(boosting.models, len(data.classes) or 1) if share < 1 else None
        graph = TabularGraph(network, trees, share, temperature, scale).eval()
        write = partial(_write_version, run=run, graph=graph, state=state, compared=compared)
        ood_data = partial(evaluation.ood_data_from_rows, data)
        validation = partial(evaluation.validation_score, data)
        parts: Any = {"ood_data": ood_data, "observed": partial(_observed, data), "validation": validation}
        return [Draft(name=run.name, write=write, network=network, **parts)]

    def reload(self, manifest: TabularManifest, folder: Path, options: Any) -> TabularData:
        again = TabularOptions(
            data=options.data,
            bad=options.bad,
            encoding=options.encoding,
            target=manifest.target,
            kind=manifest.kind,
            columns=tuple(column.name for column in manifest.columns),
            fit=FitOptions(seed=int(training_of(manifest).settings["seed"])),
        )
        return load_table(again)

    def labelled(self, manifest: TabularManifest, options: Any) -> Labelled:
        return labelled_rows(manifest, options)

    def ood_data(self, manifest: Any, folder: Path, data: TabularData, foreign: Mapping[str, str]) -> OodData:
        if foreign:
            raise ValueError("--foreign: of tables only made-up rows are measured; leave it out")
        return evaluation.ood_data_from_rows(data)

    def observed(self, manifest: TabularManifest, folder: Path, data: TabularData) -> Observed:
        return _observed(data)


class _Epochs:
    """Moves the bar of a cross-validation with every epoch."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def estimate(self, spent: float, left: float, validation: float) -> None:
        """That of the whole run was made before."""

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        self._bar.advance(dict)


def _observed(data: TabularData) -> Observed:
    return Observed(observed_items(data.validation).rows, evaluation.run_graph)


def curve_of(classes: Sequence[str]) -> Curve:
    """The loss of classes, or without any that of a number."""
    return Curve("loss", "cross-entropy" if classes else "squared error (of the standardised target)")


def describe_shares(share: float) -> str:
    """What the answer consists of, given the share of the network."""
    if share in (0, 1):
        return "dense network" if share else "gradient boosting"
    return f"{share:.0%} dense network and {1 - share:.0%} gradient boosting"


def with_typical(data: TabularData) -> tuple[ColumnCard, ...]:
    """The columns with the values of a real row: of the training rows the one that is closest to the medians.

    Numbers count in standard deviations; the most frequent word of a category is its median. Rows with a missing value
    or an unknown word are the last choice.
    """
    rows = data.train.rows
    distances = np.zeros(len(rows))
    for index, card in enumerate(data.layout):
        values = rows[:, index].astype(np.float64)
        if card.kind == "category":
            distances += np.where(values >= 0, values != 0, np.inf)
        else:
            distance = np.abs(values - np.nanmedian(values)) / (card.std or 1)
            distances += np.where(np.isnan(distance), np.inf, distance)
    row = rows[int(np.argmin(distances))]
    return tuple(
        card.model_copy(update={"typical": None if np.isnan(value) or value == UNKNOWN else float(value)})
        for card, value in zip(data.layout, row, strict=True)
    )


def _train_and_validation(data: TabularData) -> TabularSplit:
    return TabularSplit(
        np.concatenate((data.train.rows, data.validation.rows)),
        np.concatenate((data.train.targets, data.validation.targets)),
    )


def _write_version(
    target: Path,
    run: TabularRun,
    graph: TabularGraph,
    state: FitState,
    compared: dict[str, CrossValidated],
) -> TabularManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty.

    `compared` is empty without a cross-validation.
    """
    data, network, scale = run.data, graph.network, graph.scale
    names: dict[str, Any] = {
        "input_name": evaluation.INPUT,
        "output_names": ("probabilities" if data.classes else "values",),
    }
    # Every row at least once, and some with a missing value or an unknown word.
    rows = np.resize(data.test.rows, (MAX_BATCH, len(data.columns))).copy()
    rows[::5, 0] = np.nan
    for index, column in enumerate(data.layout):
        if column.kind == "category":
            rows[1::5, index] = UNKNOWN
    count = 16
    labels = class_names(np.resize(data.test.targets, count), data.classes) if data.classes else None
    atol = 1e-4 if scale is None else 1e-4 * max(abs(scale[0]), scale[1])
    card = GoldenCard(rows=count, atol=atol, labels=labels)
    given = {**names, "output_names": (*names["output_names"], evaluation.FEATURES), "max_batch": MAX_BATCH}
    if graph.trees is not None:
        given["translations"] = graph.trees.translations
    inputs, outputs, difference = export(WithFeatures(graph), rows, target / MODEL, card=card, **given)
    evaluation.hide_features(target / MODEL)
    write_golden(graph, rows[: card.rows], target / GOLDEN, **names)
    measured = evaluation.evaluate(target / MODEL, data, compared, graph.temperature)
    metrics = measured["metrics"]
    run.console.print(f"test: {', '.join(f'{k} {v:.4f}' for k, v in metrics if isinstance(v, float))}")
    if missed := missed_classes(metrics.per_class):
        run.console.print(missed, style="yellow")
    update_record(target, onnx_difference=f"{difference.value:.1g}")
    with run.optional("report"):
        predict = partial(evaluation.predict_with, target / MODEL, kind=data.kind)
        importance = evaluation.permutation_importance(predict, data.test, data.kind, run.settings.seed, _SHUFFLES)
        write_report(target, data, predict(data.test.rows).astype(np.float64), importance)
        earlier = earlier_runs(run.options.init_from)
        write_curves(target, state, curve_of(data.classes), before=run.lineage.before, earlier=earlier)
    stated = run.stated(run.options.network) | {"share_of_network": graph.share}
    if graph.trees is not None:
        stated |= {"boosting_models": graph.trees.models, "boosting_iterations": graph.trees.iterations}
    chosen = (_SHARES, history.TEMPERATURE) if data.classes else (_SHARES,)
    # The folds of the comparison are of training and validation rows.
    of_folds = (history.COMPARISON, *chosen) if compared else ()
    uses = (
        *history.halves_used(data.division, selection=(history.EPOCH, *(() if compared else chosen))),
        *(Use(split="train", purpose=purpose, items=len(data.train)) for purpose in of_folds),
        *(Use(split="validation", purpose=purpose, items=len(data.validation)) for purpose in of_folds),
        Use(split="test", purpose=history.FIGURES, items=len(data.test)),
    )
    return TabularManifest(
        name=run.name,
        description=f"{data.target} from {len(data.columns)} columns of {data.name}, {describe_shares(graph.share)}",
        kind=data.kind,
        target=data.target,
        columns=with_typical(data),
        ignored=data.ignored,
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs[:1],
        max_batch=MAX_BATCH,
        **measured,
        data=data_card(data),
        training=training_card("python -m training tabular", stated, state, network),
        history=run.history(stated, state, *uses),
        golden=card,
        files={},
    )
