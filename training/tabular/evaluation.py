"""How good the exported graph of a table is, what it relies on, and what its out-of-distribution score is fitted on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from sklearn.metrics import confusion_matrix, mean_absolute_error, r2_score, root_mean_squared_error

from service.tasks.cards import Calibration
from service.tasks.tabular.manifest import CrossValidated, TabularMetrics
from training.data.foreign import made_up_rows
from training.export.calibration import expected_calibration_error, logits_of, softmax
from training.export.distances import MOST_HELD_OUT, Distance, Method
from training.export.evaluator import run_in_batches
from training.export.figures import bootstrap, bootstrap_confusion, class_metrics, macro_f1, wilson
from training.export.layers import first_inputs, producers_of
from training.export.ood import MOST_TEST, MOST_TRAINING, OodData, ood_uses, some_indices
from training.tabular.columns import Floats
from training.tabular.comparison import decide, score
from training.tabular.data import TabularData, TabularSplit
from training.tabular.options import Kind

INPUT = "rows"
# The columns made ready, which the out-of-distribution score measures.
FEATURES = "features"
# Rows whose columns are shuffled.
MOST_SHUFFLED = 1000


def permutation_importance(
    estimate: Callable[[Floats], npt.NDArray[Any]], split: TabularSplit, kind: Kind, seed: int, repeats: int
) -> npt.NDArray[np.float64]:
    """The loss of score when a column's values are shuffled (Breiman 2001), shape (columns, repeats).

    Of a large split a sample is measured.
    """
    random = np.random.default_rng(seed)
    split = split.take(some_indices(len(split), MOST_SHUFFLED))
    whole = score(split.targets, estimate(split.rows), kind)
    losses = np.empty((split.rows.shape[1], repeats))
    for column, repeat in np.ndindex(*losses.shape):
        rows = split.rows.copy()
        rows[:, column] = random.permutation(rows[:, column])
        losses[column, repeat] = whole - score(split.targets, estimate(rows), kind)
    return losses


def run_graph(graph: Path, rows: Floats) -> list[Floats]:
    """The outputs of an exported graph; the first one are probabilities (n, classes), or numbers (n, 1)."""
    return run_in_batches(graph, INPUT, rows, 1024)


def predict_with(graph: Path, rows: Floats, kind: Kind) -> npt.NDArray[Any]:
    """The classes that an exported graph predicts, or the numbers, shape (n,)."""
    return decide(run_graph(graph, rows)[0], kind)


def validation_score(data: TabularData, graph: Path) -> float:
    """Accuracy, or R², of an exported graph on the selection half of validation."""
    selection, _ = data.division
    part = data.validation.take(selection)
    return score(part.targets, predict_with(graph, part.rows, data.kind), data.kind)


def evaluate(graph: Path, data: TabularData, compared: dict[str, CrossValidated], temperature: float) -> dict[str, Any]:
    """Measures an exported graph, which divides its logits by `temperature`, on the test split.

    Returns:
        Metrics, calibration (of classes) and 95 % intervals, by the names of the manifest's fields.
    """
    outputs, targets = run_graph(graph, data.test.rows)[0], data.test.targets
    predicted = decide(outputs, data.kind)
    if data.kind == "regression":
        errors = partial(_errors, targets, predicted)
        metrics = TabularMetrics(**errors(np.arange(len(targets))), cross_validated=compared)
        return {"metrics": metrics, "calibration": None, "intervals": bootstrap(errors, len(targets))}
    confusion = confusion_matrix(targets, predicted, labels=range(len(data.classes)))
    uncalibrated = softmax(logits_of(outputs) * np.float32(temperature))
    return {
        "metrics": TabularMetrics(
            accuracy=score(targets, predicted, data.kind),
            macro_f1=macro_f1(confusion),
            per_class=class_metrics(data.classes, targets, predicted),
            cross_validated=compared,
        ),
        "calibration": Calibration(
            temperature=temperature,
            ece_before=expected_calibration_error(uncalibrated, targets),
            ece_after=expected_calibration_error(outputs, targets),
        ),
        "intervals": {
            "accuracy": wilson(int(np.trace(confusion)), len(targets)),
            "macro_f1": bootstrap_confusion(macro_f1, confusion),
        },
    }


def _errors(targets: npt.NDArray[Any], predicted: npt.NDArray[Any], chosen: npt.NDArray[np.int64]) -> dict[str, float]:
    measures = {"r2": r2_score, "rmse": root_mean_squared_error, "mae": mean_absolute_error}
    return {name: float(measure(targets[chosen], predicted[chosen])) for name, measure in measures.items()}


def hide_features(graph: Path) -> None:
    """Makes `FEATURES` an inner tensor of a graph that was exported with it as an output."""
    model = onnx.load(graph)
    outputs = [output for output in model.graph.output if output.name != FEATURES]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    onnx.save(model, graph)


def _features(model: onnx.ModelProto) -> tuple[str, ...]:
    """The tensor `FEATURES`; of an older graph what its first layer multiplies by its weights."""
    return (FEATURES,) if FEATURES in producers_of(model) else first_inputs(model)


def ood_data_from_rows(data: TabularData) -> OodData:
    """The data that the out-of-distribution score is fitted and measured on."""
    fitted, (_, calibration) = some_indices(len(data.train), MOST_TRAINING), data.division
    test = data.test.rows[some_indices(len(data.test), MOST_TEST)]
    deviations = {index: card.std or 0.0 for index, card in enumerate(data.layout) if card.kind == "number"}
    return OodData(
        Method(
            "how far the columns, made ready for the network, are from those of training rows (Mahalanobis distance)",
            ((Distance.mahalanobis, _features),),
        ),
        data.train.rows[fitted],
        np.zeros(len(fitted), np.int64),
        data.validation.rows[calibration[some_indices(len(calibration), MOST_HELD_OUT)]],
        test,
        made_up_rows(test, deviations),
        run_graph,
        ood_uses(len(fitted), data.division),
    )
