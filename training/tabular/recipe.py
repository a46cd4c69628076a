"""Tables: a multilayer perceptron on the columns of a table, to predict a class or a number."""

from collections.abc import Mapping, Sequence
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
from training.export import history
from training.export.calibration import fit_temperature
from training.export.cards import data_card, training_card
from training.export.graph import export, write_golden
from training.export.ood import OodData
from training.options import FitOptions, override
from training.phases import Work
from training.recipe import Draft, Recipe
from training.report.plots import Curve, write_curves
from training.report.record import update_record
from training.run import Run
from training.tabular import evaluation
from training.tabular.data import TabularData, TabularSplit, load_table
from training.tabular.evaluation import FOLDS, NetworkMethod
from training.tabular.network import Rows, TabularGraph, TabularNetwork, build, target_scale
from training.tabular.options import DEFAULTS, TabularOptions
from training.tabular.report import draw_rows, write_report

TabularRun = Run[TabularOptions, TabularData]

MAX_BATCH = 256
# Usual names of the column to predict.
_TARGETS = ("target", "label", "class", "y", "outcome", "species", "price", "churn", "survived", "정답", "타깃", "라벨")


class TabularRecipe(Recipe[TabularOptions, TabularData]):
    """A multilayer perceptron on the columns of a table."""

    name = "tabular"
    items = "rows"
    cross_validates = True
    manifests = (TabularManifest,)

    def recognise(self, source: Source) -> Recognised | None:
        if source.example_of:
            return Recognised("tabular", f"it is the example of {source.example_of}")
        if (table := source.table) is None:
            return None
        names = {name.lower(): name for name in table.columns}
        target = source.target or next((names[name] for name in _TARGETS if name in names), table.columns[-1])
        reason = f"a table of {len(table.columns)} columns"
        return Recognised("tabular", reason, {"target": target}, sure=source.target is not None)

    def load(self, options: TabularOptions) -> TabularData:
        return load_table(options)

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
        return build(run.options.network, data, data.train, run.settings.seed)

    def work(self, run: TabularRun) -> Sequence[Work]:
        return [Work(name="cross-validation", fits=FOLDS), Work(name="evaluation and export", seconds=5)]

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
        methods: dict[str, Any] = {"this network": this, **evaluation.baselines(data.kind, data.layout)}
        compared = evaluation.cross_validate(methods, rows, data.kind, seed)
        if not run.is_main:
            return []
        temperature = 1.0
        if data.classes:
            # On what the folds held out: if none of a few validation rows is misclassified, the best temperature makes
            # every answer certain.
            held_out = np.concatenate([fold for _, fold in evaluation.folds_of(rows, data.kind, seed)])
            temperature = fit_temperature(np.concatenate(this.outputs), rows.targets[held_out])
        for method, row in compared.items():
            run.console.print(f"{method}: {row.mean:.4f} ± {row.std:.4f} over five folds")
        assert isinstance(network, TabularNetwork)  # noqa: S101 - see `build`
        graph = TabularGraph(network, temperature, target_scale(data.train, data.kind)).eval()
        write = partial(_write_version, run=run, graph=graph, state=state, compared=compared)
        ood_data = partial(evaluation.ood_data_from_rows, data)
        return [Draft(name=run.name, write=write, network=network, ood_data=ood_data)]

    def reload(self, manifest: TabularManifest, folder: Path, options: Any) -> TabularData:
        again = TabularOptions(
            data=options.data,
            bad=options.bad,
            encoding=options.encoding,
            target=manifest.target,
            kind=manifest.kind,
            columns=tuple(column.name for column in manifest.columns),
            fit=FitOptions(seed=int(manifest.training.settings["seed"])),
        )
        return load_table(again)

    def ood_data(self, manifest: Any, folder: Path, data: TabularData, foreign: Mapping[str, str]) -> OodData:
        if foreign:
            raise ValueError("--foreign: of tables only made-up rows are measured; leave it out")
        return evaluation.ood_data_from_rows(data)


def _write_version(
    target: Path, run: TabularRun, graph: TabularGraph, state: FitState, compared: dict[str, CrossValidated]
) -> TabularManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty."""
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
    card = GoldenCard(rows=16, atol=1e-4 if scale is None else 1e-4 * max(abs(scale[0]), scale[1]))
    inputs, outputs, difference = export(graph, rows, target / MODEL, max_batch=MAX_BATCH, card=card, **names)
    write_golden(graph, rows[: card.rows], target / GOLDEN, **names)
    measured = evaluation.evaluate(target / MODEL, data, compared, graph.temperature)
    metrics = measured["metrics"]
    run.console.print(f"test: {', '.join(f'{k} {v:.4f}' for k, v in metrics if isinstance(v, float))}")
    if missed := missed_classes(metrics.per_class):
        run.console.print(missed)
    predict = partial(evaluation.predict_with, target / MODEL, kind=data.kind)
    importance = evaluation.permutation_importance(predict, data.test, data.kind, run.settings.seed)
    write_report(target, data, predict(data.test.rows).astype(np.float64), importance)
    label = "cross-entropy" if data.classes else "squared error (of the standardised target)"
    write_curves(target, state, Curve("loss", label))
    update_record(target, onnx_difference=f"{difference.value:.1g}")
    stated = run.stated(run.options.network)
    # The folds of the comparison are of training and validation rows.
    of_folds = (history.COMPARISON, history.TEMPERATURE) if data.classes else (history.COMPARISON,)
    uses = (
        *history.halves_used(data.division, selection=(history.EPOCH,)),
        *(Use(split="train", purpose=purpose, items=len(data.train)) for purpose in of_folds),
        *(Use(split="validation", purpose=purpose, items=len(data.validation)) for purpose in of_folds),
        Use(split="test", purpose=history.FIGURES, items=len(data.test)),
    )
    return TabularManifest(
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
        history=run.history(stated, state, *uses),
        golden=card,
        files={},
    )
