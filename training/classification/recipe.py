"""Image classification: an MLP, a CNN or a pretrained backbone, on any data set of labelled images.

From the data to a published version, top to bottom: load, build, fit, evaluate, export, report.
"""

import dataclasses
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN, MODEL, sha256
from service.tasks.cards import ImageInput
from service.tasks.classification.manifest import ClassifierManifest
from training.backbones.cnn import CNN
from training.backbones.gradients import gradients_for
from training.backbones.timm_models import check_weights
from training.classification.architectures import LEARNING, build, fit_defaults
from training.classification.distill import Guided, teach
from training.classification.evaluator import ClassificationEvaluator
from training.classification.folding import fold
from training.classification.graph import ClassifierGraph
from training.classification.labels import predict
from training.classification.likelihood import log_likelihood
from training.classification.narrowing import is_wider, start_narrower
from training.classification.network import Transfer
from training.classification.options import DEFAULTS, ONLY, NetworkSettings, check_arguments
from training.classification.report import CURVES, write_report
from training.classification.task import Classification
from training.data.contents import fingerprint_like
from training.data.images import ImageData, load_images
from training.data.inspection import missed_classes
from training.data.splits import selection_of
from training.engine.fit import FitState
from training.engine.interpolate import interpolate
from training.engine.weights import best_weights, fingerprint_of, inner_weights, keep_weights
from training.export.calibration import fit_scaling
from training.export.cards import data_card, record_cost, training_card
from training.export.graph import export, write_golden
from training.export.history import EPOCH, INTERPOLATION
from training.export.ood import with_ood
from training.export.ood_data import ood_data_from_images
from training.export.quantize import with_variants
from training.old_run import Run, as_served, begin
from training.options import override, short_name
from training.report.plots import write_curves
from training.report.record import update_record
from training.report.samples import draw_images

MAX_BATCH = 64
GOLDEN_ROWS = 16
ATOL = 1e-4


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes if that is asked for."""
    check_arguments(arguments)
    network = override(NetworkSettings(), arguments)
    if network.arch == "transfer":
        check_weights(network.backbone, network.weights)
    learning = override(LEARNING[network.arch], arguments)
    learning = dataclasses.replace(learning, augment=override(learning.augment, arguments))
    seed = DEFAULTS[network.arch].seed if arguments.seed is None else arguments.seed
    run = begin(
        arguments,
        console,
        partial(
            load_images,
            arguments.data,
            size=arguments.image_size,
            limit=arguments.limit,
            bad=arguments.bad,
            encoding=arguments.encoding,
            seed=seed,
        ),
        run=f"classification-{network.arch}",
        model={"cnn": "classifier"}.get(network.arch, f"classifier-{network.arch}"),
        draw=draw_images,
    )
    data = run.data
    # An option gives pixels of these very images; the defaults are for small ones.
    learning = dataclasses.replace(learning, augment=override(learning.augment.scaled_to(data.shape), arguments))
    settings = override(fit_defaults(network.arch, data, arguments.batch_size), arguments)
    labels = {"validation": data.validation.labels, "test": data.test.labels}
    run.announce("images", f" of {'x'.join(map(str, data.shape))}, {len(data.classes)} classes", data.classes, labels)
    _warn_of_leaks(run)

    choice = selection_of(data)
    teacher = None
    if arguments.teacher:
        with run.accelerator.main_process_first():  # the others read what it keeps
            teacher = teach(arguments.teacher, data, run.folder, console, features=learning.distill_features > 0)
    model = build(network, data, settings.seed)
    if isinstance(model, Transfer) and arguments.network_size not in (None, model.size):
        console.print(f"[yellow]--network-size {arguments.network_size}: {_size_in_words(model, data)}.")
    if arguments.start_from and isinstance(model, CNN) and is_wider(model, arguments.start_from):
        if arguments.interpolate:
            raise ValueError(
                f"--interpolate: {arguments.start_from} is of a wider network, which has no weights between"
            )
        start_narrower(model, arguments.start_from, data)
    else:
        run.start(model)
    trained = model
    if isinstance(model, Transfer) and network.freeze_norms:
        trained = fold(model)
    if isinstance(model, CNN) and teacher and teacher.features is not None:
        trained = Guided(model, teacher.features.shape[2])
    with gradients_for(trained, run.accelerator.device, arguments.precision):
        state = run.fit(
            trained,
            Classification(data.train, choice.validation, learning, teacher),
            settings,
            network=network,
            learning=learning,
            teacher=arguments.teacher and f"{short_name(arguments.teacher)}, {sha256(arguments.teacher / MODEL)}",
        )
    if not run.reports:
        return

    model.load_state_dict(inner_weights(trained.state_dict()))
    model = as_served(model)
    share = 1.0
    if arguments.interpolate:
        share = interpolate(
            model,
            best_weights(arguments.start_from),
            partial(log_likelihood, images=choice.validation, mirror=arguments.mirror),
        )
        console.print(f"{share:.0%} of the way from {arguments.start_from} to the trained weights is best")
    if isinstance(model, Transfer):  # the sizes that were in fact used for these images
        network = dataclasses.replace(network, network_size=model.size, start_size=model.start_size)
    stated = {
        key: value
        for key, value in run.stated(network, settings, learning).items()
        if key not in _unused(arguments, network)
    }
    stated |= {"teacher": short_name(arguments.teacher), "mirror": arguments.mirror, "interpolated": share}
    logits = predict(model, choice.validation.images, mirror=arguments.mirror)
    graph = ClassifierGraph(model, fit_scaling(logits, choice.validation.labels), arguments.mirror)
    run.deliver(
        (
            run.name,
            partial(
                _write_version,
                run=run,
                graph=graph,
                network=network,
                stated=stated,
                state=state,
            ),
        )
    )


def _warn_of_leaks(run: Run[ImageData]) -> None:
    """Warns if another training may have seen images that this one validates or tests on."""
    data = run.data
    for folder in filter(None, (run.arguments.start_from, run.arguments.teacher)):
        recorded = fingerprint_of(folder)
        if data.held_out and fingerprint_like(data, recorded) != recorded:
            run.console.print(
                f"[yellow]{folder} was trained on other data, or on other splits of the same. If it has seen images "
                f"that are {' or '.join(sorted(data.held_out))} images now, the figures for these are too good: use "
                "the --seed and the images that it had."
            )


def _size_in_words(model: Transfer, data: ImageData) -> str:
    if model.size:
        return f"the backbone only takes {model.size} pixels, so images are enlarged to that"
    return f"the images are no smaller ({data.shape[0]} x {data.shape[1]}) and keep their size"


def _unused(arguments: Namespace, network: NetworkSettings) -> set[str]:
    """The settings that had no effect on this training."""
    unused = {name for arch, names in ONLY.items() if arch != network.arch for name in names}
    if not arguments.teacher:
        unused |= {"distill", "distill_temperature", "distill_features"}
    if network.freeze < 0:
        unused |= {"backbone_lr"}
    return unused


def _write_version(
    target: Path,
    run: Run[ImageData],
    graph: ClassifierGraph,
    network: NetworkSettings,
    stated: dict[str, Any],
    state: FitState,
) -> ClassifierManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty."""
    data, images = run.data, run.data.test.images[:MAX_BATCH]
    names: dict[str, Any] = {"input_name": "images", "output_names": ("probabilities",)}
    card = GoldenCard(rows=min(GOLDEN_ROWS, len(images)), atol=ATOL)
    inputs, outputs, difference = export(graph, images, target / MODEL, max_batch=MAX_BATCH, card=card, **names)
    evaluator = ClassificationEvaluator(data)
    evaluation = evaluator.evaluate(target / MODEL, graph.scaling)
    run.console.print(
        f"test accuracy {evaluation.metrics.accuracy:.4f}, calibration error "
        f"{evaluation.calibration.ece_before:.4f} before and {evaluation.calibration.ece_after:.4f} after scaling"
    )
    if missed := missed_classes(evaluation.metrics.per_class):
        run.console.print(missed)
    write_golden(graph, images[: card.rows], target / GOLDEN, **names)
    height, width, channels = data.shape
    description = {
        "mlp": "dense network",
        "cnn": "residual convolutional network",
        "transfer": f"{network.backbone}, {'frozen' if network.freeze < 0 else 'fine-tuned'}",
    }[network.arch]
    manifest = ClassifierManifest(
        name=run.name,
        description=f"{data.name}, {len(data.classes)} classes: {description}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=MAX_BATCH,
        image=ImageInput(height=height, width=width, channels=1 if channels == 1 else 3),
        data=data_card(data),
        metrics=evaluation.metrics,
        calibration=evaluation.calibration,
        conformal=evaluation.conformal,
        intervals=evaluation.intervals,
        training=training_card(
            f"python -m training classification --arch {network.arch}", stated, state, graph.network
        ),
        history=run.history(
            stated,
            state,
            *evaluator.scored(EPOCH, *([INTERPOLATION] if run.arguments.interpolate else [])),
            *evaluator.measured(),
        ),
        golden=card,
        files={},
    )
    write_report(target, evaluation, data)
    write_curves(target, state, *CURVES)
    record_cost(target, images, MAX_BATCH)
    update_record(target, onnx_difference=f"{difference.value:.1g}")
    if run.arguments.keep_weights:
        keep_weights(graph.network, target)
    ood_data = ood_data_from_images(data)
    manifest = with_ood(target, manifest, ood_data, run.console)
    if run.arguments.quantize:
        return with_variants(target, manifest, evaluator, run.console, ood_data)
    return manifest
