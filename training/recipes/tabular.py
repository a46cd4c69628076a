"""Numbers: a multilayer perceptron on the numeric columns of a table, to tell a class or a number.

From the data to a published version, top to bottom: load, build, fit, evaluate, export, report.
"""

import dataclasses
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from sklearn.metrics import f1_score, mean_absolute_error, root_mean_squared_error

from service.inference.cards import Calibration, GoldenCard
from service.inference.manifest import GOLDEN, MODEL
from service.inference.manifests.tabular import ColumnCard, CrossValidated, TabularManifest, TabularMetrics
from training.calibrate import expected_calibration_error, fit_temperature, softmax
from training.export import (
    data_card,
    deliver,
    export,
    training_card,
    write_golden,
)
from training.fit import FitSettings, FitState, fit
from training.options import (
    add_result_options,
    add_training_options,
    check_name,
    make_accelerator,
    origin,
    override,
    start_from,
    stated,
)
from training.tabular.data import BREAST_CANCER, Floats, TabularData, TabularSplit, load_table
from training.tabular.evaluate import cross_validate, folds_of, permutation_importance, rivals, score
from training.tabular.network import TabularGraph, TabularNetwork
from training.tabular.report import write_report
from training.tabular.task import Rows, predict

MAX_BATCH = 256
GOLDEN_ROWS = 16

DEFAULTS = FitSettings(
    epochs=60, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.05, warmup=0.1, clip=1.0, ema=0.98
)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What is trained.

    Attributes:
        hidden: units of each hidden layer.
        dropout: the share of them that is dropped in training.
    """

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.2


def build(network: NetworkSettings, train: TabularSplit, outputs: int, seed: int) -> TabularNetwork:
    """The network, its weights initialised from `seed`, its scales from the training rows."""
    torch.manual_seed(seed)
    return TabularNetwork(train.rows, outputs, network.hidden, network.dropout)


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take their default."""
    parser.add_argument(
        "--data", default=BREAST_CANCER, help="a CSV or parquet file, or a hub id (default: %(default)s)"
    )
    parser.add_argument("--data-name", help="what to call the data in the report (default: its id or file)")
    parser.add_argument("--target", help="the column that is to be told")
    parser.add_argument("--kind", choices=("classification", "regression"), help="by default by the target's values")
    net = parser.add_argument_group("network")
    net.add_argument("--hidden", type=lambda text: tuple(int(x) for x in text.split(",")), help="units a hidden layer")
    net.add_argument("--dropout", type=float)
    add_training_options(parser, "runs/tabular-DATA")
    add_result_options(parser, "tabular")


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes where that is asked for."""
    check_name(arguments.name)
    network = override(NetworkSettings(), arguments)
    settings = override(DEFAULTS, arguments)
    data = load_table(arguments.data, arguments.target, kind=arguments.kind, seed=settings.seed)
    data = dataclasses.replace(data, name=arguments.data_name or data.name)
    folder = arguments.run_dir or Path("runs") / f"tabular-{data.name.replace('/', '-')}"
    accelerator = make_accelerator(arguments)
    console.print(
        f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test rows of "
        f"{len(data.columns)} columns; {data.target}: "
        + (f"{len(data.classes)} classes" if data.classes else "a number")
        + f"; on {accelerator.device}"
    )
    outputs = len(data.classes) or 1
    scale = _scale(data.train, data)
    model = build(network, data.train, outputs, settings.seed)
    start_from(model, arguments.start_from)
    state = fit(
        model,
        Rows(_scaled(data.train, scale), _scaled(data.validation, scale), data.kind),
        settings,
        folder,
        accelerator=accelerator,
        console=console,
        resume=arguments.resume,
        origin=origin(arguments, data.fingerprint, network=network),
    )
    model = model.cpu().eval()
    own = _OwnMethod(network, settings, data, folder, accelerator)
    most = TabularSplit(
        np.concatenate((data.train.rows, data.validation.rows)),
        np.concatenate((data.train.targets, data.validation.targets)),
    )
    compared = cross_validate({"this network": own, **rivals(data.kind)}, most, data.kind, settings.seed)
    if not accelerator.is_main_process:
        return

    held_out = np.concatenate([rows for _, rows in folds_of(most, data.kind, settings.seed)])
    metrics, calibration = _evaluate(model, data, scale, compared, np.concatenate(own.outputs), most.targets[held_out])
    for name, row in compared.items():
        console.print(f"{name}: {row.mean:.4f} ± {row.std:.4f} over five folds")
    console.print(f"test: {', '.join(f'{k} {v:.4f}' for k, v in metrics if isinstance(v, float))}")
    made_with = stated(arguments, network, settings)
    graph = TabularGraph(model, calibration.temperature if calibration else 1.0, scale).eval()
    name = arguments.name or "tabular"

    def write(target: Path) -> TabularManifest:
        return _write_version(target, name, graph, data, made_with, state, metrics, calibration, settings.seed)

    deliver(arguments, name, folder / "export", write, console)


def _scale(train: TabularSplit, data: TabularData) -> tuple[float, float] | None:
    """Mean and deviation of a target that is a number; None for classes."""
    if data.kind == "classification":
        return None
    return float(train.targets.mean()), max(float(train.targets.std()), 1e-12)


def _scaled(split: TabularSplit, scale: tuple[float, float] | None) -> TabularSplit:
    return split if scale is None else TabularSplit(split.rows, (split.targets - scale[0]) / scale[1])


def _tell(model: TabularNetwork, rows: Floats, scale: tuple[float, float] | None) -> npt.NDArray[Any]:
    """Classes, or numbers in the target's unit."""
    outputs = predict(model, rows)
    return outputs.argmax(1) if scale is None else outputs[:, 0].astype(np.float64) * scale[1] + scale[0]


class _OwnMethod:
    """This recipe's own training, as `cross_validate` takes it; a tenth of the rows chooses the epoch.

    Attributes:
        outputs: the network's outputs for the rows of each call.
    """

    def __init__(
        self, network: NetworkSettings, settings: FitSettings, data: TabularData, folder: Path, accelerator: Any
    ) -> None:
        self._network, self._settings, self._data = network, settings, data
        self._folder, self._accelerator = folder, accelerator
        self.outputs: list[Floats] = []

    def __call__(self, split: TabularSplit, rows: Floats) -> npt.NDArray[Any]:
        data, settings = self._data, self._settings
        order = np.random.default_rng(settings.seed).permutation(len(split))
        chosen, rest = split.take(order[: len(order) // 10]), split.take(order[len(order) // 10 :])
        scale = _scale(rest, data)
        model = build(self._network, rest, len(data.classes) or 1, settings.seed)
        task = Rows(_scaled(rest, scale), _scaled(chosen, scale), data.kind)
        quiet = Console(quiet=True)
        fit(model, task, settings, self._folder / "folds", accelerator=self._accelerator, console=quiet, whole=True)
        self.outputs.append(predict(model.cpu(), rows))
        return _tell(model, rows, scale)


def _evaluate(
    model: TabularNetwork,
    data: TabularData,
    scale: tuple[float, float] | None,
    compared: dict[str, CrossValidated],
    held_out_outputs: Floats,
    held_out_targets: npt.NDArray[Any],
) -> tuple[TabularMetrics, Calibration | None]:
    """Test figures; and the temperature, fitted on rows that were held out in the folds.

    The validation rows alone are too few for it: a handful without a mistake asks for certainty.
    """
    told, targets = _tell(model, data.test.rows, scale), data.test.targets
    if scale is not None:
        metrics = TabularMetrics(
            rmse=float(root_mean_squared_error(targets, told)),
            mae=float(mean_absolute_error(targets, told)),
            r2=score(targets, told, data.kind),
            cross_validated=compared,
        )
        return metrics, None
    logits = predict(model, data.test.rows)
    temperature = fit_temperature(held_out_outputs, held_out_targets)
    calibration = Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(softmax(logits), targets),
        ece_after=expected_calibration_error(softmax(logits / temperature), targets),
    )
    macro = float(f1_score(targets, told, average="macro", zero_division=0))
    return TabularMetrics(
        accuracy=score(targets, told, data.kind), macro_f1=macro, cross_validated=compared
    ), calibration


def _write_version(
    target: Path,
    name: str,
    graph: TabularGraph,
    data: TabularData,
    made_with: dict[str, Any],
    state: FitState,
    metrics: TabularMetrics,
    calibration: Calibration | None,
    seed: int,
) -> TabularManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty."""
    names: dict[str, Any] = {
        "input_name": "rows",
        "output_names": ("probabilities" if data.classes else "values",),
    }
    # Every row at least once, with a value missing here and there.
    rows = np.resize(data.test.rows, (MAX_BATCH, len(data.columns))).copy()
    rows[::5, 0] = np.nan
    tolerance = 1e-4 if graph.scale is None else 1e-4 * max(abs(graph.scale[0]), graph.scale[1])
    card = GoldenCard(rows=GOLDEN_ROWS, atol=tolerance)
    inputs, outputs, difference = export(graph, rows, target / MODEL, max_batch=MAX_BATCH, card=card, **names)
    write_golden(graph, rows[: card.rows], target / GOLDEN, **names)
    manifest = TabularManifest(
        name=name,
        description=f"{data.name}: {data.target} from {len(data.columns)} numbers, dense network",
        kind=data.kind,
        target=data.target,
        columns=_columns(data),
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=MAX_BATCH,
        metrics=metrics,
        calibration=calibration,
        data=data_card(data),
        training=training_card("python -m training tabular", made_with, state, graph.network),
        golden=card,
        files={},
    )
    network, scale = graph.network, graph.scale
    importance = permutation_importance(lambda part: _tell(network, part, scale), data.test, data.kind, seed)
    told = _tell(network, data.test.rows, scale).astype(np.float64)
    write_report(target / "report", manifest, data, told, importance, state.history, difference.value)
    return manifest


def _columns(data: TabularData) -> tuple[ColumnCard, ...]:
    rows = data.train.rows.astype(np.float64)
    return tuple(
        ColumnCard(
            name=name,
            mean=float(np.nanmean(values)),
            std=float(np.nanstd(values)),
            low=float(np.nanmin(values)),
            high=float(np.nanmax(values)),
            missing=float(np.isnan(values).mean()),
        )
        for name, values in zip(data.columns, rows.T, strict=True)
    )
