"""An autoencoder: images to a small latent vector and back; served as a whole, as an encoder and as a decoder."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import nn

from service.inference.cards import GoldenCard, Use
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.autoencoder.manifest import (
    DENSITY,
    AutoencoderManifest,
    DecoderManifest,
    EncoderManifest,
    ImageCodeManifest,
)
from service.tasks.cards import ImageInput
from training.autoencoder.baseline import fit_components
from training.autoencoder.evaluation import RIDGE, Findings, evaluate, read, train_judge, validation_error
from training.autoencoder.labelled import RestoredImages
from training.autoencoder.learner import Reconstruction, decode, encode, recompute_norms
from training.autoencoder.network import Autoencoder, AutoencoderGraph, DecoderGraph, EncoderGraph
from training.autoencoder.options import DEFAULTS, LARGEST, AutoencoderOptions
from training.autoencoder.report import write_report
from training.backbones.cnn import CNN
from training.baseline import Baseline
from training.data.images import ImageData, common_background, load_images
from training.data.recognise import Recognised, Source, of_images
from training.engine.checkpoint import FitState
from training.engine.settings import FitSettings
from training.export import history
from training.export.cards import data_card, training_card
from training.export.graph import export, write_golden
from training.export.histograms import Observed, observed_images
from training.export.labelled import Labelled
from training.export.ood import MAPS, OodData, ood_data_from_images
from training.options import override
from training.phases import Work
from training.recipe import Draft, Recipe
from training.registry import training_of
from training.report.curves import Curve, write_curves
from training.report.earlier import earlier_runs
from training.report.record import update_record
from training.report.samples import draw_images
from training.run import Run

AutoencoderRun = Run[AutoencoderOptions, ImageData]

MAX_BATCH = 64
# Of the judge; fewer in a short training.
JUDGE_EPOCHS = 6
CURVE = Curve("error", "mean squared error", logarithmic=True)


class AutoencoderRecipe(Recipe[AutoencoderOptions, ImageData]):
    """A convolutional autoencoder."""

    name = "autoencoder"
    items = "images"
    manifests = (AutoencoderManifest, EncoderManifest, DecoderManifest)

    def recognise(self, source: Source) -> Recognised | None:
        return of_images(source)

    def load(self, options: AutoencoderOptions) -> ImageData:
        return _load(options, options.image_size, override(DEFAULTS, options.fit).seed)

    def draw(self, data: ImageData) -> Image:
        return draw_images(data)

    def describe(self, data: ImageData) -> str:
        classes = f", {len(data.classes)} classes" if len(data.classes) > 1 else ""
        return f" of {'x'.join(map(str, data.shape))}{classes}"

    def settings(self, options: AutoencoderOptions, data: ImageData) -> FitSettings:
        height, width, _ = data.shape
        # No more memory than default batches of images of `LARGEST` pixels take; at least twenty steps per epoch.
        most = min(DEFAULTS.batch_size * LARGEST**2 // (height * width), len(data.train) // 20)
        batch_size = options.fit.batch_size or max(8, min(DEFAULTS.batch_size, most))
        lr = DEFAULTS.lr * (batch_size / DEFAULTS.batch_size) ** 0.5  # Malladi et al. 2022, arXiv:2205.10287
        return override(dataclasses.replace(DEFAULTS, batch_size=batch_size, lr=lr), options.fit)

    def build(self, run: AutoencoderRun) -> Autoencoder:
        data, network = run.data, run.options.network
        run.warn_of_absent(data.classes, {"validation": data.validation.labels, "test": data.test.labels})
        torch.manual_seed(run.settings.seed)
        return Autoencoder(data.shape, network.latent, network.widths)

    def baseline(self, run: AutoencoderRun, network: nn.Module) -> Baseline:
        return fit_components(run.data, run.options.network.latent)

    def work(self, run: AutoencoderRun) -> Sequence[Work]:
        data, options = run.data, run.options
        images = len(data.train) + len(data.validation) + len(data.test)
        judged = len(data.classes) > 1
        return (
            # To learn from an image takes the judge about as long as the autoencoder takes to reconstruct it, or 1.5
            # times as long for small ones; the exported graphs see each image several times.
            Work(name="judge", items=3 * _judge_epochs(run) * len(data.train) // 2 if judged else 0),
            Work(name="evaluation", items=3 * (images + (options.generated if judged else 0))),
        )

    def learner(self, run: AutoencoderRun, network: nn.Module) -> Reconstruction:
        selection, _ = run.data.division
        return Reconstruction(run.data.train.images, run.data.validation.take(selection).images, run.options.learning)

    def origin(self, run: AutoencoderRun) -> Mapping[str, Any]:
        return {"network": run.options.network, "learning": run.options.learning}

    def drafts(self, run: AutoencoderRun, network: nn.Module, state: FitState) -> list[Draft]:
        data, options, console = run.data, run.options, run.console
        judge = None
        if len(data.classes) > 1:
            with run.phase("judge"):
                judge = train_judge(data, _judge_epochs(run), run.folder / "judge", run.accelerator, console)
        if not run.is_main:
            return []
        assert isinstance(network, Autoencoder)  # noqa: S101 - see `build`
        assert run.baseline is not None  # noqa: S101 - the main process has fitted it
        recompute_norms(network, data.train.images, options.learning.denoise)
        with run.phase("evaluation"):
            parts = _export(run, network)
            findings = evaluate(
                [part.folder / MODEL for part in parts],
                data,
                judge,
                pca_error=run.baseline.test(),
                components=options.components,
                generated=options.generated,
                seed=run.settings.seed,
            )
        metrics = findings.metrics
        console.print(f"test error {metrics.mse:.5f} (PCA {metrics.pca_mse:.5f})")
        if judge:
            console.print(
                f"the judge (test accuracy {metrics.judge_accuracy:.4f}) agrees with {metrics.judge_agreement:.4f} of "
                f"{options.generated} generated images; logistic regression {metrics.linear_latents:.4f} on latents, "
                f"{metrics.linear_pixels:.4f} on pixels"
            )
        return [
            Draft(
                name=part.fields["name"],
                write=partial(
                    _write_version, part=part, run=run, network=network, findings=findings, judge=judge, state=state
                ),
                network=network,
                ood_data=None if part.kind is DecoderManifest else partial(ood_data_from_images, data, method=MAPS),
                observed=None if part.kind is DecoderManifest else partial(observed_images, data),
                validation=partial(validation_error, data) if part.kind is AutoencoderManifest else None,
            )
            for part in parts
        ]

    def reload(self, manifest: ImageCodeManifest, folder: Path, options: Any) -> ImageData:
        height, width = manifest.image.height, manifest.image.width
        return _load(options, height if height == width else None, int(training_of(manifest).settings["seed"]))

    def labelled(self, manifest: ImageCodeManifest, options: Any) -> Labelled:
        return RestoredImages(manifest, options)

    def ood_data(self, manifest: Any, folder: Path, data: ImageData, foreign: Mapping[str, str]) -> OodData:
        if isinstance(manifest, DecoderManifest):
            return super().ood_data(manifest, folder, data, foreign)
        return ood_data_from_images(data, foreign, MAPS)

    def observed(self, manifest: Any, folder: Path, data: ImageData) -> Observed:
        if isinstance(manifest, DecoderManifest):  # its latents are the encoder's answers
            return super().observed(manifest, folder, data)
        return observed_images(data)


def _judge_epochs(run: AutoencoderRun) -> int:
    """An epoch of the judge takes up to three times as long as one of the autoencoder: it takes no longer than that."""
    asked = run.options.judge_epochs
    return asked if asked is not None else max(1, min(JUDGE_EPOCHS, run.settings.epochs // 3))


def _load(options: Any, size: int | None, seed: int) -> ImageData:
    return load_images(
        options.data,
        size=size,
        largest=LARGEST,
        limit=options.limit,
        labelled=False,
        bad=options.bad,
        encoding=options.encoding,
        seed=seed,
    )


class _Part(NamedTuple):
    kind: type[ImageCodeManifest]
    graph: nn.Module
    folder: Path
    fields: dict[str, Any]


def _export(run: AutoencoderRun, network: Autoencoder) -> list[_Part]:
    """Exports the whole, the encoder and the decoder, each to a folder of its own."""
    images: Any = run.data.test.images
    parts, prefix = [], "" if run.name == "autoencoder" else f"{run.name}-"
    # A pixel half-way between two bytes may be rounded either way.
    for name, kind, description, graph, examples, atol, names in (
        (
            run.name, AutoencoderManifest, "convolutional autoencoder",
            AutoencoderGraph(network), images, 1.0, ("images", "restored", "error"),
        ),
        (
            f"{prefix}encoder", EncoderManifest, "the encoder of an autoencoder",
            EncoderGraph(network), images, 1e-3, ("images", "latents"),
        ),
        (
            f"{prefix}decoder", DecoderManifest, "the decoder of an autoencoder, with a density to sample latents from",
            DecoderGraph(network), encode(network, images), 1.0, ("latents", "images"),
        ),
    ):  # fmt: skip
        folder = run.folder / "parts" / name
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Any] = {"input_name": names[0], "output_names": names[1:]}
        tolerances = {"error": 1e-4} if "error" in names else {}
        card = GoldenCard(rows=min(16, len(examples)), atol=atol, tolerances=tolerances)
        inputs, outputs, worst = export(graph, examples, folder / MODEL, max_batch=MAX_BATCH, card=card, **tensors)
        write_golden(graph, examples[: card.rows], folder / GOLDEN, **tensors)
        update_record(folder, onnx_difference=f"{worst.value:.1g}")
        description = f"{run.data.name}: {description}, {network.latent} latents per image"
        fields = {"name": name, "description": description, "inputs": (inputs,), "outputs": outputs, "golden": card}
        parts.append(_Part(kind, graph, folder, fields))
    return parts


def _write_version(
    target: Path,
    part: _Part,
    run: AutoencoderRun,
    network: Autoencoder,
    findings: Findings,
    judge: CNN | None,
    state: FitState,
) -> ImageCodeManifest:
    """Fills `target` with graph, golden file, density and report; returns the manifest, its `files` still empty."""
    data, options = run.data, run.options
    shutil.copytree(part.folder, target, dirs_exist_ok=True)
    stated = run.stated(options.network, options.learning)
    stated |= {"components": options.components, "ridge": RIDGE, "judge_epochs": _judge_epochs(run)}
    height, width, channels = data.shape
    background = common_background(data.train.images)
    uses = [
        Use(split="train", purpose=history.DENSITY, items=len(data.train)),
        *history.halves_used(data.division, selection=(history.EPOCH,)),
        Use(split="test", purpose=history.FIGURES, items=len(data.test)),
    ]
    if findings.metrics.judge_accuracy is not None:
        uses.insert(-1, Use(split="validation", purpose=history.JUDGE, items=len(data.validation)))
    if part.kind is DecoderManifest:
        findings.density.save(target / DENSITY)
    if part.kind is AutoencoderManifest:
        with run.optional("report"):
            codec = partial(encode, network), partial(decode, network)
            write_report(target, codec, data, findings, judge and partial(read, judge))
            earlier = earlier_runs(options.init_from)
            write_curves(target, state, CURVE, before=run.lineage.before, earlier=earlier)
    else:
        update_record(target, whole=run.name)
    return part.kind(
        **part.fields,
        labels=data.classes,
        max_batch=MAX_BATCH,
        image=ImageInput(height=height, width=width, channels=1 if channels == 1 else 3, background=background),
        latent=network.latent,
        metrics=findings.metrics,
        intervals=findings.intervals,
        data=data_card(data),
        training=training_card("python -m training autoencoder", stated, state, part.graph),
        history=run.history(stated, state, *uses),
        files={},
    )
