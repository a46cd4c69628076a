"""Draws the pictures of a published version's report anew, in place: nothing is trained or measured for its figures.

For versions whose pictures were drawn by older code. The graph, the manifest and the figures of the card stay as they
are, and it is an error if the graph does not reproduce them. A picture that needs what no record holds stays as it is.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from accelerate import Accelerator
from onnx import numpy_helper
from rich.console import Console

from service.inference.manifest import MODEL
from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.manifest import DENSITY
from training.autoencoder import report as of_autoencoder
from training.autoencoder.evaluation import Findings, read, train_judge
from training.autoencoder.recipe import CURVE
from training.classification import report as of_classification
from training.detection import report as of_detection
from training.detection.evaluator import DetectionEvaluator
from training.export.calibration import Scaling
from training.export.evaluator import LabelEvaluator, run_in_batches
from training.export.history import TRAIN, steps_of
from training.published_options import DriftOptions
from training.registry import read_manifest, recipe_of, training_of
from training.report.card import render_card
from training.report.curves import between, redraw_curves
from training.report.record import read_record, update_record
from training.tabular import evaluation as of_rows
from training.tabular import report as of_tabular
from training.tabular.recipe import curve_of
from training.text import report as of_text

# By which the accuracy of a graph may differ on another machine.
_LEAST = 1e-3


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the pictures of one version, and renders its card."""
    parser = argparse.ArgumentParser(prog="python -m course.reports", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a version, such as models/classifier/1")
    parser.add_argument("--data", required=True, help="that it was trained on, as its recipe took it")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/reports"), help="for the judge of an autoencoder")
    options = parser.parse_args(arguments)
    folder, manifest = options.folder, read_manifest(options.folder)
    recipe = recipe_of(manifest)
    data = recipe.reload(manifest, folder, DriftOptions(model=manifest.name, data=options.data))
    _PICTURES[manifest.task](folder, manifest, data, options.run_dir)
    render_card(folder, manifest)


def _draw_classification(folder: Path, manifest: Any, data: Any, _: Path) -> None:
    evaluator: Any = recipe_of(manifest).evaluator(manifest, folder, data)
    of_classification.write_report(folder, _evaluate(evaluator, folder, manifest), data)
    training = training_of(manifest)
    share = training.settings.get("interpolated") or 1.0
    if share < 1:
        figures = evaluator.as_trained(folder / MODEL)
        update_record(folder, published={"described": between(share, training.best_epoch), "figures": figures})
    _draw_curves(folder, manifest, *of_classification.CURVES)


def _draw_detection(folder: Path, manifest: Any, data: Any, _: Path) -> None:
    fields, found = DetectionEvaluator(data).evaluate(folder / MODEL)
    _compare(fields["metrics"].map, manifest.metrics.map)
    of_detection.write_report(folder, manifest, found, data)
    _draw_curves(folder, manifest, *of_detection.CURVES)


def _draw_texts(folder: Path, manifest: Any, data: Any, _: Path) -> None:
    texts: Any = recipe_of(manifest).evaluator(manifest, folder, data)
    graph = onnx.load(folder / MODEL).graph
    vectors = [each for each in graph.initializer if len(each.dims) == 2 and each.dims[0] == manifest.words]
    found = numpy_helper.to_array(vectors[0]) if vectors else None
    of_text.write_report(folder, _evaluate(texts, folder, manifest), texts, found)
    _draw_curves(folder, manifest, *of_text.CURVES)


def _draw_rows(folder: Path, manifest: Any, data: Any, _: Path) -> None:
    predict = partial(of_rows.predict_with, folder / MODEL, kind=data.kind)
    shuffles, seed = read_record(folder)["shuffles"], int(training_of(manifest).settings["seed"])
    importance = of_rows.permutation_importance(predict, data.test, data.kind, seed, shuffles)
    predicted = predict(data.test.rows).astype(np.float64)
    if data.classes:
        _compare(float((predicted == data.test.targets).mean()), manifest.metrics.accuracy)
    of_tabular.write_report(folder, data, predicted, importance)
    _draw_curves(folder, manifest, curve_of(data.classes))


def _draw_reconstructions(folder: Path, manifest: Any, data: Any, run_dir: Path) -> None:
    models, prefix = folder.parents[1], manifest.name.removesuffix("autoencoder")
    encoder, decoder = (models / f"{prefix}{part}" / folder.name for part in ("encoder", "decoder"))

    def encode(images: Any) -> Any:
        return run_in_batches(encoder / MODEL, "images", images)[0]

    def decode(latents: Any) -> Any:
        return run_in_batches(decoder / MODEL, "latents", latents)[0]

    test_latents = encode(data.test.images)
    findings = Findings(
        metrics=manifest.metrics,
        intervals={},
        density=Density.load(decoder / DENSITY),
        train_latents=encode(data.train.images),
        test_latents=test_latents,
        reconstructed=decode(test_latents),
        denoising=read_record(folder)["denoising"],
    )
    epochs = training_of(manifest).settings["judge_epochs"]
    judge = train_judge(data, epochs, run_dir / "judge", Accelerator(), Console())
    of_autoencoder.write_report(folder, (encode, decode), data, findings, partial(read, judge))
    _draw_curves(folder, manifest, CURVE)


def _evaluate(evaluator: LabelEvaluator, folder: Path, manifest: Any) -> Any:
    evaluation = evaluator.evaluate(folder / MODEL, Scaling.of(manifest.calibration))
    _compare(evaluation.metrics.accuracy, manifest.metrics.accuracy)
    return evaluation


def _compare(measured: float, recorded: float) -> None:
    if abs(measured - recorded) > _LEAST:
        raise ValueError(f"the graph reaches {measured:.4f} on these data, and {recorded:.4f} in the manifest")


def _draw_curves(folder: Path, manifest: Any, *curves: Any) -> None:
    if "history" not in read_record(folder):
        print(f"{folder}: the training left no record of its epochs; its learning curves stay")
        return
    *before, _ = [step for step in steps_of(manifest) if step.kind == TRAIN]
    redraw_curves(folder, *curves, best_epoch=training_of(manifest).best_epoch, before=before)


_PICTURES = {
    "classification": _draw_classification,
    "detection": _draw_detection,
    "text": _draw_texts,
    "tabular": _draw_rows,
    "autoencoder": _draw_reconstructions,
}

if __name__ == "__main__":
    main()
