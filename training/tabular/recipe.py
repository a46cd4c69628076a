"""Tables: a multilayer perceptron on the columns of a table, to predict a class or a number."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import nn

from service.inference.cards import GoldenCard, Use
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.tabular.columns import UNKNOWN
from service.tasks.tabular.manifest import CrossValidated, TabularManifest
from training.data.inspection import missed_classes
from training.data.recognise import Recognised, Source
from training.engine.fit import FitState
from training.engine.settings import FitSettings
from training.export.calibration import fit_temperature
from training.export.cards import data_card, training_card
from training.export.graph import export, write_golden
from training.export.history import COMPARISON, EPOCH, FIGURES, TEMPERATURE, halves_used
from training.export.ood_data import OodData
from training.options import override
from training.recipe import Draft, Recipe
from training.report.plots import write_curves
from training.report.record import update_record
from training.run import Run
from training.tabular.data import TabularData, TabularSplit, load_table, recognise_table
from training.tabular.evaluation import (
    FOLDS,
    INPUT,
    NetworkMethod,
    baselines,
    cross_validate,
    evaluate,
    folds_of,
    permutation_importance,
    predict_with,
)
from training.tabular.learner import Rows, target_scale
from training.tabular.network import TabularGraph, TabularNetwork, build
from training.tabular.ood import ood_data_from_rows
from training.tabular.options import DEFAULTS, TabularOptions
from training.tabular.report import curve_of, write_report
from training.tabular.samples import draw_rows

TabularRun = Run[TabularOptions, TabularData]

MAX_BATCH = 256
GOLDEN_ROWS = 16


class TabularRecipe(Recipe[TabularOptions, TabularData]):
    """A multilayer perceptron on the columns of a table."""

    name = "tabular"
    items = "rows"
    manifests = (TabularManifest,)
    repeats = FOLDS

    def recognise(self, source: Source) -> Recognised | None:
        return recognise_table(source)

    def load(self, options: TabularOptions) -> TabularData:
        return load_table(
            options.data,
            options.target,
            kind=options.kind,
            columns=options.columns,
            drop=options.drop,
            limit=options.limit,
            bad=options.bad,
            encoding=options.encoding,
            seed=override(DEFAULTS, options.fit).seed,
        )

    def draw(self, data: TabularData) -> Image:
        return draw_rows(data)

    def describe(self, data: TabularData) -> str:
        target = f"{len(data.classes)} classes" if data.classes else "a number"
        return f" of {len(data.columns)} columns; {data.target}: {target}"

    def settings(self, options: TabularOptions, data: TabularData) -> FitSettings:
        return override(DEFAULTS, options.fit)

    def build(self, run: TabularRun) -> TabularNetwork:
        data = run.data
        run.warn_of_absent(data.classes, {"validation": data.validation.targets, "test": data.test.targets})
        return build(run.options.network, data.layout, data.train, len(data.classes) or 1, run.settings.seed)

    def learner(self, run: TabularRun, network: nn.Module) -> Rows:
        data = run.data
        selection, _ = data.division
        return Rows(data.train, data.validation.take(selection), data.kind)

    def drafts(self, run: TabularRun, network: nn.Module, state: FitState) -> list[Draft]:
        data, seed = run.data, run.settings.seed
        this = NetworkMethod(run.options.network, run.settings, data, run.folder / "folds", run.accelerator)
        rows = TabularSplit(
            np.concatenate((data.train.rows, data.validation.rows)),
            np.concatenate((data.train.targets, data.validation.targets)),
        )
        run.console.print("Five-fold cross-validation of this network and of what it is compared with …")
        methods: dict[str, Any] = {"this network": this, **baselines(data.kind, data.layout)}
        compared = cross_validate(methods, rows, data.kind, seed)
        if not run.is_main:
            return []
        temperature = 1.0
        if data.classes:
            held_out = np.concatenate([fold for _, fold in folds_of(rows, data.kind, seed)])
            temperature = fit_temperature(np.concatenate(this.outputs), rows.targets[held_out])
        for method, row in compared.items():
            run.console.print(f"{method}: {row.mean:.4f} ± {row.std:.4f} over five folds")
        assert isinstance(network, TabularNetwork)  # noqa: S101 - see `build`
        graph = TabularGraph(network, temperature, target_scale(data.train, data.kind)).eval()
        write = partial(_write_version, run=run, graph=graph, state=state, compared=compared)
        return [Draft(name=run.name, write=write, network=network, ood_data=partial(ood_data_from_rows, data))]

    def reload(self, manifest: TabularManifest, folder: Path, options: Any) -> TabularData:
        return load_table(
            options.data,
            manifest.target,
            kind=manifest.kind,
            columns=[column.name for column in manifest.columns],
            bad=options.bad,
            encoding=options.encoding,
            seed=int(manifest.training.settings["seed"]),
        )

    def ood_data(self, manifest: Any, folder: Path, data: TabularData, foreign: Mapping[str, str]) -> OodData:
        if foreign:
            raise ValueError("--foreign: of tables only made-up rows are measured; leave it out")
        return ood_data_from_rows(data)


def _uses(data: TabularData) -> tuple[Use, ...]:
    """What the splits were used for, beside the training; the folds of the comparison are of train and validation."""
    of_folds = (COMPARISON, TEMPERATURE) if data.classes else (COMPARISON,)
    return (
        *halves_used(data.division, selection=(EPOCH,)),
        *(Use(split="train", purpose=purpose, items=len(data.train)) for purpose in of_folds),
        *(Use(split="validation", purpose=purpose, items=len(data.validation)) for purpose in of_folds),
        Use(split="test", purpose=FIGURES, items=len(data.test)),
    )


def _write_version(
    target: Path, run: TabularRun, graph: TabularGraph, state: FitState, compared: dict[str, CrossValidated]
) -> TabularManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty."""
    data, network, scale = run.data, graph.network, graph.scale
    stated = run.stated(run.options.network)
    names: dict[str, Any] = {"input_name": INPUT, "output_names": ("probabilities" if data.classes else "values",)}
    # Every row at least once, and some with a missing value or an unknown word.
    rows = np.resize(data.test.rows, (MAX_BATCH, len(data.columns))).copy()
    rows[::5, 0] = np.nan
    for index, column in enumerate(data.layout):
        if column.kind == "category":
            rows[1::5, index] = UNKNOWN
    card = GoldenCard(rows=GOLDEN_ROWS, atol=1e-4 if scale is None else 1e-4 * max(abs(scale[0]), scale[1]))
    inputs, outputs, difference = export(graph, rows, target / MODEL, max_batch=MAX_BATCH, card=card, **names)
    write_golden(graph, rows[: card.rows], target / GOLDEN, **names)
    predict = partial(predict_with, target / MODEL, kind=data.kind)
    predicted = predict(data.test.rows)
    measured = evaluate(target / MODEL, data, compared, graph.temperature)
    metrics = measured["metrics"]
    run.console.print(f"test: {', '.join(f'{k} {v:.4f}' for k, v in metrics if isinstance(v, float))}")
    if missed := missed_classes(metrics.per_class):
        run.console.print(missed)
    manifest = TabularManifest(
        name=run.name,
        description=f"{data.name}: {data.target} from {len(data.columns)} columns, dense network",
        kind=data.kind,
        target=data.target,
        columns=data.layout,
        ignored=data.ignored,
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=MAX_BATCH,
        **measured,
        data=data_card(data),
        training=training_card("python -m training tabular", stated, state, network),
        history=run.history(stated, state, *_uses(data)),
        golden=card,
        files={},
    )
    importance = permutation_importance(predict, data.test, data.kind, run.settings.seed)
    write_report(target, data, predicted.astype(np.float64), importance)
    write_curves(target, state, curve_of(data))
    update_record(target, onnx_difference=f"{difference.value:.1g}")
    return manifest
