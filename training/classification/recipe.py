"""Image classification: an MLP, a CNN or a pretrained backbone, on any data set of labelled images."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import nn

from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN, MODEL, sha256
from service.tasks.cards import ImageInput
from service.tasks.classification.manifest import ClassifierManifest
from training.backbones.registry import check_backbone
from training.classification.architectures import build, fit_defaults, learning_settings
from training.classification.distill import Guided, Teaching, teach
from training.classification.evaluator import INPUT, ClassificationEvaluator
from training.classification.graph import ClassifierGraph
from training.classification.labels import predict
from training.classification.learner import Classification
from training.classification.network import Transfer
from training.classification.options import DEFAULTS, ONLY, ClassificationOptions
from training.classification.report import CURVES, write_report
from training.data.contents import fingerprint_like
from training.data.images import ImageData, ImageSplit, load_images
from training.data.inspection import missed_classes
from training.data.recognise import Recognised, Source, of_labelled_images
from training.data.splits import selection_of
from training.engine.fit import FitState
from training.engine.interpolate import interpolate
from training.engine.settings import FitSettings
from training.engine.weights import best_weights, fingerprint_of
from training.export.calibration import fit_scaling, fit_temperature
from training.export.cards import data_card, record_cost, training_card
from training.export.graph import export, write_golden
from training.export.history import EPOCH, INTERPOLATION
from training.export.ood import OodData, ood_data_from_images
from training.options import override, short_name
from training.recipe import Draft, Recipe
from training.report.plots import write_curves
from training.report.record import update_record
from training.report.samples import draw_images
from training.run import Run

ClassificationRun = Run[ClassificationOptions, ImageData]

MAX_BATCH = 64
GOLDEN_ROWS = 16
ATOL = 1e-4


class ClassificationRecipe(Recipe[ClassificationOptions, ImageData]):
    """An MLP, a CNN or a pretrained backbone on labelled images."""

    name = "classification"
    items = "images"
    manifests = (ClassifierManifest,)

    def recognise(self, source: Source) -> Recognised | None:
        return of_labelled_images(source)

    def load(self, options: ClassificationOptions) -> ImageData:
        network = options.network
        if network.arch == "transfer":
            check_backbone(network.backbone, network.weights)
        return load_images(
            options.data,
            size=options.image_size,
            limit=options.limit,
            bad=options.bad,
            encoding=options.encoding,
            seed=override(DEFAULTS[network.arch], options.fit).seed,
        )

    def draw(self, data: ImageData) -> Image:
        return draw_images(data)

    def describe(self, data: ImageData) -> str:
        return f" of {'x'.join(map(str, data.shape))}, {len(data.classes)} classes"

    def settings(self, options: ClassificationOptions, data: ImageData) -> FitSettings:
        return override(fit_defaults(options.network.arch, data, options.fit.batch_size), options.fit)

    def model_name(self, options: ClassificationOptions) -> str:
        arch = options.network.arch
        return "classifier" if arch == "cnn" else f"classifier-{arch}"

    def run_name(self, options: ClassificationOptions) -> str:
        return f"classification-{options.network.arch}"

    def build(self, run: ClassificationRun) -> nn.Module:
        data, options = run.data, run.options
        run.warn_of_absent(data.classes, {"validation": data.validation.labels, "test": data.test.labels})
        _warn_of_leaks(run)
        network = build(options.network, data, run.settings.seed)
        asked = options.network.network_size
        if isinstance(network, Transfer) and network.size != asked and asked != type(options.network)().network_size:
            run.console.print(f"[yellow]--network-size {asked}: {_describe_size(network, data)}.")
        return network

    def training_network(self, run: ClassificationRun, network: nn.Module) -> nn.Module:
        teaching = _teaching(run)
        if teaching and teaching.features is not None:
            return Guided(network, teaching.features.shape[2])  # type: ignore[arg-type] # --distill-features is for the CNN
        return network

    def learner(self, run: ClassificationRun, network: nn.Module) -> Classification:
        settings = learning_settings(run.options, run.data.shape)
        return Classification(run.data.train, selection_of(run.data).validation, settings, _teaching(run))

    def origin(self, run: ClassificationRun) -> Mapping[str, Any]:
        options, teacher = run.options, run.options.teacher
        return {
            "network": options.network,
            "learning": learning_settings(options, run.data.shape),
            "teacher": teacher and f"{short_name(teacher)}, {sha256(teacher / MODEL)}",
        }

    def drafts(self, run: ClassificationRun, network: nn.Module, state: FitState) -> list[Draft]:
        if not run.is_main:
            return []
        options, choice = run.options, selection_of(run.data).validation
        flip, interpolated = options.test_time_flip, 1.0
        if options.interpolate and options.init_from:
            score = partial(log_likelihood, split=choice, flip=flip)
            interpolated = interpolate(network, best_weights(options.init_from), score)
            run.console.print(f"{interpolated:.0%} of the way from {options.init_from} to the trained weights is best")
        scaling = fit_scaling(predict(network, choice.images, flip=flip), choice.labels)
        evaluator = ClassificationEvaluator(run.data)
        write = partial(
            _write_version,
            run=run,
            graph=ClassifierGraph(network, scaling, flip),
            evaluator=evaluator,
            stated=_stated(run, network) | {"interpolated": interpolated},
            state=state,
        )
        ood_data = partial(ood_data_from_images, run.data)
        return [Draft(name=run.name, write=write, network=network, ood_data=ood_data, evaluator=evaluator)]

    def reload(self, manifest: ClassifierManifest, folder: Path, options: Any) -> ImageData:
        height, width = manifest.image.height, manifest.image.width
        return load_images(
            options.data,
            size=height if height == width else None,
            limit=options.limit,
            bad=options.bad,
            encoding=options.encoding,
            seed=int(manifest.training.settings["seed"]),
        )

    def evaluator(self, manifest: ClassifierManifest, folder: Path, data: ImageData) -> ClassificationEvaluator:
        return ClassificationEvaluator(data)

    def ood_data(
        self, manifest: ClassifierManifest, folder: Path, data: ImageData, foreign: Mapping[str, str]
    ) -> OodData:
        return ood_data_from_images(data, foreign)


def log_likelihood(network: nn.Module, split: ImageSplit, *, flip: bool = False) -> float:
    """The mean log-likelihood of the labels of a split after temperature scaling.

    Args:
        network: on the CPU.
        split: images with their labels.
        flip: whether it averages over an image and its mirror image.
    """
    logits = predict(network, split.images, flip=flip)
    scaled = torch.from_numpy(logits) / fit_temperature(logits, split.labels)
    return -F.cross_entropy(scaled, torch.from_numpy(split.labels)).item()


def _teaching(run: ClassificationRun) -> Teaching | None:
    """What the teacher predicts, if there is one; kept in the folder of the run."""
    options = run.options
    if not options.teacher:
        return None
    with run.accelerator.main_process_first():  # the others read what it keeps
        return teach(options.teacher, run.data, run.folder, run.console, features=options.loss.distill_features > 0)


def _warn_of_leaks(run: ClassificationRun) -> None:
    """Warns if another training may have seen images that this one validates or tests on."""
    data = run.data
    for folder in filter(None, (run.options.init_from, run.options.teacher)):
        recorded = fingerprint_of(folder)
        if data.held_out and fingerprint_like(data, recorded) != recorded:
            run.console.print(
                f"[yellow]{folder} was trained on other data, or on other splits of the same. If it has seen images "
                f"that are {' or '.join(sorted(data.held_out))} images now, the figures for these are too good: use "
                "the --seed and the images that it had."
            )


def _describe_size(network: Transfer, data: ImageData) -> str:
    if network.size:
        return f"the backbone only takes {network.size} pixels, so images are enlarged to that"
    return f"the images are no smaller ({data.shape[0]} x {data.shape[1]}) and keep their size"


def _stated(run: ClassificationRun, network: nn.Module) -> dict[str, Any]:
    """The settings that had an effect on the training."""
    options, settings = run.options, run.options.network
    if isinstance(network, Transfer):  # the sizes that were in fact used for these images
        settings = dataclasses.replace(settings, network_size=network.size, start_size=network.start_size)
    unused = {name for arch, names in ONLY.items() if arch != settings.arch for name in names}
    if not options.teacher:
        unused |= {"distill", "distill_temperature", "distill_features"}
    if settings.freeze < 0:
        unused |= {"backbone_lr"}
    stated = run.stated(settings, learning_settings(options, run.data.shape))
    used = {name: value for name, value in stated.items() if name not in unused}
    return used | {"teacher": short_name(options.teacher), "mirror": options.test_time_flip}


def _write_version(
    target: Path,
    run: ClassificationRun,
    graph: ClassifierGraph,
    evaluator: ClassificationEvaluator,
    stated: dict[str, Any],
    state: FitState,
) -> ClassifierManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty."""
    data, network, images = run.data, run.options.network, run.data.test.images[:MAX_BATCH]
    names: dict[str, Any] = {"input_name": INPUT, "output_names": ("probabilities",)}
    card = GoldenCard(rows=min(GOLDEN_ROWS, len(images)), atol=ATOL)
    inputs, outputs, difference = export(graph, images, target / MODEL, max_batch=MAX_BATCH, card=card, **names)
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
    choices = [EPOCH, INTERPOLATION] if run.options.interpolate else [EPOCH]
    manifest = ClassifierManifest(
        name=run.name,
        description=f"{data.name}, {len(data.classes)} classes: {description}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=MAX_BATCH,
        image=ImageInput(height=height, width=width, channels=1 if channels == 1 else 3),
        data=data_card(data),
        **evaluation.fields,
        training=training_card(
            f"python -m training classification --arch {network.arch}", stated, state, graph.network
        ),
        history=run.history(stated, state, *evaluator.scored(*choices), *evaluator.measured()),
        golden=card,
        files={},
    )
    write_report(target, evaluation, data)
    write_curves(target, state, *CURVES)
    record_cost(target, images, MAX_BATCH)
    update_record(target, onnx_difference=f"{difference.value:.1g}")
    return manifest
