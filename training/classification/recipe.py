"""Image classification: an MLP, a CNN or a pretrained backbone, on any data set of labelled images."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import nn

from quartet.captured.items import Captured
from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN, MODEL, sha256
from service.inference.session import Session
from service.tasks.cards import ImageInput
from service.tasks.classification.manifest import ClassifierManifest
from training.backbones.registry import check_backbone
from training.baseline import Baseline
from training.classification.added import with_captures
from training.classification.baseline import SAMPLE, features_of, fit_baseline, fitted_images
from training.classification.choice import FROZEN, augmentation, choose, class_weights, fit_settings
from training.classification.distill import Guided, Teaching, teach
from training.classification.labelled import labelled_images
from training.classification.learner import Classification, ClassificationSettings, HeadOnFeatures, predict
from training.classification.network import ClassifierGraph, Transfer, build
from training.classification.options import DEFAULTS, ONLY, ClassificationOptions
from training.classification.report import CURVES, write_report
from training.data.contents import fingerprint_like
from training.data.dataset import class_names
from training.data.images import ImageData, ImageSplit, load_images
from training.data.inspection import missed_classes
from training.data.lazy import Images
from training.data.recognise import Recognised, Source, of_labelled_images
from training.data.splits import division_digest, selection_of
from training.engine.checkpoint import FitState
from training.engine.interpolate import interpolate
from training.engine.settings import FitSettings
from training.engine.weights import best_weights, fingerprint_of
from training.export.calibration import Floats, Scaling, fit_scaling, fit_temperature
from training.export.cards import data_card, record_cost, training_card
from training.export.evaluator import BATCH, LabelEvaluator, run_in_batches, sample
from training.export.golden import renew_golden, write_variant_golden
from training.export.graph import export, write_golden
from training.export.histograms import MOST_OBSERVED, Observed, observed_images
from training.export.history import EPOCH, INTERPOLATION
from training.export.labelled import Labelled
from training.export.layers import Inputs
from training.export.ood import OodData, images_less, ood_data_from_images, ood_items
from training.options import override, short_name
from training.phases import Work
from training.recipe import Draft, Recipe
from training.registry import data_of, training_of
from training.report.curves import Published, between, write_curves
from training.report.earlier import earlier_runs
from training.report.record import update_record
from training.report.samples import draw_images
from training.run import Run

ClassificationRun = Run[ClassificationOptions, ImageData]

MAX_BATCH = 64
INPUT = "images"


class ClassificationRecipe(Recipe[ClassificationOptions, ImageData]):
    """An MLP, a CNN or a pretrained backbone on labelled images."""

    name = "classification"
    items = "images"
    manifests = (ClassifierManifest,)

    def __init__(self) -> None:
        self._taught: Teaching | None = None

    def recognise(self, source: Source) -> Recognised | None:
        return of_labelled_images(source)

    def load(self, options: ClassificationOptions) -> ImageData:
        network = options.network
        if options.implied_arch() == "transfer":
            check_backbone(network.backbone, network.weights)
        return _load(options, options.image_size, override(DEFAULTS["cnn"], options.fit).seed)

    def add(self, data: ImageData, items: Sequence[Captured]) -> ImageData:
        return with_captures(data, items)

    def draw(self, data: ImageData) -> Image:
        return draw_images(data)

    def describe(self, data: ImageData) -> str:
        return f" of {'x'.join(map(str, data.shape))}, {len(data.classes)} classes"

    def choose(self, options: ClassificationOptions, data: ImageData) -> tuple[ClassificationOptions, Sequence[str]]:
        chosen, because = choose(options, data)
        lines = [_describe(chosen, because)] if because else []
        if chosen.network.freeze == -1 and options.network.freeze is None:
            few = f"{len(data.train):,} training images are few; --freeze {FROZEN} also trains its last layers"
            lines.append(f"the backbone is frozen, since {few}")
        return chosen, lines

    def settings(self, options: ClassificationOptions, data: ImageData) -> FitSettings:
        return fit_settings(options, data)

    def model_name(self, options: ClassificationOptions) -> str:
        arch = options.network.arch
        return "classifier" if arch in ("auto", "cnn") else f"classifier-{arch}"

    def run_name(self, options: ClassificationOptions) -> str:
        arch = options.network.arch
        return "classification" if arch == "auto" else f"classification-{arch}"

    def build(self, run: ClassificationRun) -> nn.Module:
        data = run.data
        run.warn_of_absent(data.classes, {"validation": data.validation.labels, "test": data.test.labels})
        _warn_of_leaks(run)
        network = build(run.options.network, data, run.settings.seed)
        asked = run.asked.network.network_size
        if isinstance(network, Transfer) and asked is not None and network.size != asked:
            because = f"the images are no smaller ({data.shape[0]} x {data.shape[1]}) and keep their size"
            if network.size:
                because = f"the backbone only takes {network.size} pixels, so images are enlarged to that"
            run.console.print(f"--network-size {asked}: {because}.", style="yellow")
        return network

    def fast_precision(self, options: ClassificationOptions, data: ImageData) -> Collection[str]:
        network = options.network
        # Batch normalisation after a depthwise convolution is slow in bfloat16 on a CPU while it learns.
        slow = network.arch == "mlp" or (network.arch == "transfer" and not network.freeze_norms)
        return ("cuda",) if slow else ("cpu", "cuda")

    def advice(self, run: ClassificationRun) -> Sequence[str]:
        network = run.options.network
        frozen = network.arch != "transfer" or network.freeze == -1
        return super().advice(run) if frozen else ["--freeze, which trains the head alone", *super().advice(run)]

    def work(self, run: ClassificationRun) -> list[Work]:
        data, options = run.data, run.options
        # Features of the images took nearly all the time of the baseline.
        tested = min(len(data.test), SAMPLE[2])
        if options.network.arch == "transfer":  # in float32
            tested = len(data.test) * (2 if run.accelerator.mixed_precision == "bf16" else 1)
        pace = fitted_images(options, data) / max(run.phases.seconds.get("baseline", 0.0), 1e-9)
        measured = Work(name="baseline on test", seconds=tested / pace)
        less = images_less(data, options.network.network_size or 0)
        scored = ood_items(len(data.train), len(data.division[1]), len(data.test), less)
        parts = {
            "export and evaluation": (len(data.division[0]) + len(data.validation) + len(data.test), 15),
            "out-of-distribution score": (scored, 3),
            "histograms": (min(len(data.validation), MOST_OBSERVED), 1),
        }
        if options.network.freeze == -1:  # its validation runs the head alone
            return [measured, *(Work(name=name, seconds=items / pace + more) for name, (items, more) in parts.items())]
        return [measured, *(Work(name=name, items=items, seconds=more) for name, (items, more) in parts.items())]

    def baseline(self, run: ClassificationRun, network: nn.Module) -> Baseline:
        return fit_baseline(run, network)

    def training_network(self, run: ClassificationRun, network: nn.Module) -> nn.Module:
        teaching = self._teaching(run)
        if teaching and teaching.features is not None:
            return Guided(network, teaching.features.shape[2])  # type: ignore[arg-type] # --distill-features is for the CNN
        return network

    def learner(self, run: ClassificationRun, network: nn.Module) -> Classification:
        data, validation, teaching = run.data, selection_of(run.data).validation, self._teaching(run)
        settings = learning_settings(run.options, data, run.settings.epochs)
        if not isinstance(network, Transfer) or run.options.network.freeze != -1:
            return Classification(data.train, validation, settings, teaching, break_ties=True)
        network.to(run.accelerator.device)
        with run.accelerator.main_process_first():  # the others read what it keeps in the folder of the run
            views = 2 if run.options.augment.flip else 1
            features = features_of(run, network, "train all", data.train, views)
            validated = features_of(run, network, "selection", validation)[0]
        return HeadOnFeatures(data.train, validation, settings, teaching, features, validated)

    def _teaching(self, run: ClassificationRun) -> Teaching | None:
        """What the teacher says of the training images, read once."""
        options = run.options
        if options.teacher and self._taught is None:
            with run.accelerator.main_process_first():  # the others read what it keeps in the folder of the run
                features = options.loss.distill_features > 0
                self._taught = teach(options.teacher, run.data, run.folder, run.console, features=features)
        return self._taught

    def origin(self, run: ClassificationRun) -> Mapping[str, Any]:
        options, teacher = run.options, run.options.teacher
        return {
            "network": options.network,
            "learning": learning_settings(options, run.data, run.settings.epochs),
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
        stated = _stated(run, network) | {"interpolated": interpolated}
        write = partial(_write_version, run, ClassifierGraph(network, scaling, flip), evaluator, stated, state)
        ood_data = partial(ood_data_from_images, run.data, enlarged=getattr(network, "size", 0))
        parts: Any = {"ood_data": ood_data, "observed": partial(observed_images, run.data), "evaluator": evaluator}
        return [Draft(name=run.name, write=write, network=network, **parts)]

    def reload(self, manifest: ClassifierManifest, folder: Path, options: Any) -> ImageData:
        height, width = manifest.image.height, manifest.image.width
        return _load(options, height if height == width else None, int(training_of(manifest).settings["seed"]))

    def labelled(self, manifest: ClassifierManifest, options: Any) -> Labelled:
        return labelled_images(manifest, options)

    def evaluator(self, manifest: ClassifierManifest, folder: Path, data: ImageData) -> LabelEvaluator:
        return ClassificationEvaluator(data)

    def ood_data(
        self, manifest: ClassifierManifest, folder: Path, data: ImageData, foreign: Mapping[str, str]
    ) -> OodData:
        enlarged = int(training_of(manifest).settings.get("network_size") or 0)
        return ood_data_from_images(data, foreign, enlarged=enlarged)

    def observed(self, manifest: ClassifierManifest, folder: Path, data: ImageData) -> Observed:
        return observed_images(data)


class ClassificationEvaluator(LabelEvaluator):
    """Evaluates graphs of images."""

    data: ImageData

    def __init__(self, data: ImageData) -> None:
        splits = data.train.images, data.validation.images, data.test.images
        super().__init__(data, splits, data.validation.take(data.division[0]).images)

    def answers(self, graph: Path, items: Images) -> Floats:
        return run_in_batches(graph, INPUT, items)[0]

    def calibration(self, count: int) -> list[Inputs]:
        images = self.train[sample(count, len(self.train))]
        return [{INPUT: images[start : start + BATCH]} for start in range(0, len(images), BATCH)]

    def examples(self, count: int) -> Inputs:
        return {INPUT: self.selected[:count]}

    def renew(self, folder: Path, manifest: ClassifierManifest, *, fit: bool) -> ClassifierManifest:
        graph = folder / MODEL
        if fit:
            Session(graph, "cpu").check(folder, manifest)  # since its golden file is renewed
        scaling = self.fit(graph) if fit else Scaling.of(manifest.calibration)
        if fit:
            renew_golden(graph, folder, manifest)
        evaluation = self.evaluate(graph, scaling)
        division = division_digest(self.data.division[1])
        described = data_of(manifest).model_copy(update={"division": division})
        manifest = manifest.model_copy(update=evaluation.fields | {"data": described})
        variants = []
        for variant in manifest.variants:
            graph = folder / variant.file
            scaling = self.fit(graph) if fit else Scaling.of(variant.calibration)
            changes = self.evaluate(graph, scaling).fields
            if fit:
                changes["golden"] = write_variant_golden(graph, variant.name, folder, manifest)
                changes["size"] = graph.stat().st_size
            variants.append(variant.model_copy(update=changes))
        write_report(folder, evaluation, self.data)
        return manifest.model_copy(update={"variants": tuple(variants)})


def learning_settings(options: ClassificationOptions, data: ImageData, epochs: int) -> ClassificationSettings:
    """Loss and augmentation for the chosen network, these images, and so many epochs."""
    settings = ClassificationSettings(augment=augmentation(options, data, epochs))
    given = {"label_smoothing", "distill", "distill_features"}
    settings = dataclasses.replace(settings, **{name: getattr(options.loss, name) for name in given})
    return dataclasses.replace(settings, class_weights=class_weights(options, data))


def log_likelihood(network: nn.Module, split: ImageSplit, *, flip: bool = False) -> float:
    """The mean log-likelihood of the labels of a split after temperature scaling."""
    logits = predict(network, split.images, flip=flip)
    scaled = torch.from_numpy(logits) / fit_temperature(logits, split.labels)
    return -F.cross_entropy(scaled, torch.from_numpy(split.labels)).item()


def _describe(options: ClassificationOptions, because: str) -> str:
    network = options.network
    words = f"{network.backbone}, pretrained, at {network.network_size} pixels"
    chosen = f"transfer ({words})" if network.arch == "transfer" else "cnn"
    return f"network: {chosen}, since {because}; --arch overrides this"


def _load(options: Any, size: int | None, seed: int) -> ImageData:
    limit, bad, encoding = options.limit, options.bad, options.encoding
    return load_images(options.data, size=size, limit=limit, bad=bad, encoding=encoding, seed=seed)


def _warn_of_leaks(run: ClassificationRun) -> None:
    data = run.data
    for folder in filter(None, (run.options.init_from, run.options.teacher)):
        recorded = fingerprint_of(folder)
        if data.held_out and fingerprint_like(data, recorded) != recorded:
            run.console.print(
                f"{folder} was trained on other data, or on other splits of the same. If it has seen images that are "
                f"{' or '.join(sorted(data.held_out))} images now, the figures for these are too good: use the --seed "
                "and the images that it had.",
                style="yellow",
            )


def _stated(run: ClassificationRun, network: nn.Module) -> dict[str, Any]:
    """The settings that had an effect on the training."""
    options = run.options
    settings = options.network
    if isinstance(network, Transfer):  # the sizes that were in fact used for these images
        settings = dataclasses.replace(settings, network_size=network.size, start_size=network.start_size)
    unused = {name for arch, names in ONLY.items() if arch != settings.arch for name in names}
    if not options.teacher:
        unused |= {"distill", "distill_temperature", "distill_features"}
    if settings.freeze == -1:
        unused |= {"backbone_lr"}
    stated = run.stated(settings, learning_settings(options, run.data, run.settings.epochs)).items()
    return {name: value for name, value in stated if name not in unused} | {
        "teacher": short_name(options.teacher),
        "mirror": options.test_time_flip,
    }


def _write_version(
    run: ClassificationRun,
    graph: ClassifierGraph,
    evaluator: ClassificationEvaluator,
    stated: dict[str, Any],
    state: FitState,
    target: Path,
) -> ClassifierManifest:
    data, network, images = run.data, run.options.network, run.data.test.images[:MAX_BATCH]
    names: dict[str, Any] = {"input_name": INPUT, "output_names": ("probabilities",)}
    rows = min(16, len(images))
    card = GoldenCard(rows=rows, atol=1e-4, labels=class_names(data.test.labels[:rows], data.classes))
    inputs, outputs, difference = export(graph, images, target / MODEL, max_batch=MAX_BATCH, card=card, **names)
    evaluation = evaluator.evaluate(target / MODEL, graph.scaling.fitted)
    run.console.print(
        f"test accuracy {evaluation.metrics.accuracy:.4f}, calibration error "
        f"{evaluation.calibration.ece_before:.4f} before and {evaluation.calibration.ece_after:.4f} after scaling"
    )
    if missed := missed_classes(evaluation.metrics.per_class):
        run.console.print(missed, style="yellow")
    write_golden(graph, images[: card.rows], target / GOLDEN, **names)
    height, width, channels = data.shape
    tuned = network.freeze != -1 and state.best_epoch > 0
    description = {
        "mlp": "dense network",
        "cnn": "residual convolutional network",
        "transfer": f"{network.backbone}, {'fine-tuned' if tuned else 'frozen'}",
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
    published = None
    if (share := stated["interpolated"]) < 1:
        published = Published(between(share, state.best_epoch), evaluator.as_trained(target / MODEL))
    earlier = earlier_runs(run.options.init_from)
    write_curves(target, state, *CURVES, before=run.lineage.before, earlier=earlier, published=published)
    record_cost(target, images, MAX_BATCH)
    update_record(target, onnx_difference=f"{difference.value:.1g}")
    return manifest
