"""An autoencoder: images to a small latent vector and back; served as a whole, as an encoder and as a decoder."""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
from PIL.Image import Image
from torch import nn

from service.inference.cards import GoldenCard, TensorSpec, Use
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.autoencoder.manifest import (
    DENSITY,
    AutoencoderManifest,
    DecoderManifest,
    EncoderManifest,
    ImageCodeManifest,
)
from service.tasks.cards import ImageInput
from training.autoencoder.density import RIDGE
from training.autoencoder.evaluation import Findings, Graphs, evaluate
from training.autoencoder.graph import AutoencoderGraph, DecoderGraph, EncoderGraph
from training.autoencoder.judge import train_judge
from training.autoencoder.learner import Reconstruction, recompute_norms
from training.autoencoder.network import Autoencoder, build
from training.autoencoder.options import DEFAULTS, LARGEST, AutoencoderOptions
from training.autoencoder.report import CURVE, write_report
from training.data.images import ImageData, common_background, load_images
from training.data.recognise import Recognised, Source, of_images
from training.engine.fit import FitState
from training.engine.settings import FitSettings
from training.export import history
from training.export.cards import data_card, training_card
from training.export.evaluator import run_in_batches
from training.export.graph import export, write_golden
from training.export.ood import MAPS, OodData, ood_data_from_images
from training.options import override
from training.recipe import Draft, Recipe
from training.report.plots import write_curves
from training.report.record import update_record
from training.report.samples import draw_images
from training.run import Run

AutoencoderRun = Run[AutoencoderOptions, ImageData]

MAX_BATCH = 64
GOLDEN_ROWS = 16
ERROR_ATOL = 1e-4


class AutoencoderRecipe(Recipe[AutoencoderOptions, ImageData]):
    """A convolutional autoencoder."""

    name = "autoencoder"
    items = "images"
    manifests = (AutoencoderManifest, EncoderManifest, DecoderManifest)

    def recognise(self, source: Source) -> Recognised | None:
        return of_images(source)

    def load(self, options: AutoencoderOptions) -> ImageData:
        return load_images(
            options.data,
            size=options.image_size,
            largest=LARGEST,
            limit=options.limit,
            labelled=False,
            bad=options.bad,
            encoding=options.encoding,
            seed=override(DEFAULTS, options.fit).seed,
        )

    def draw(self, data: ImageData) -> Image:
        return draw_images(data)

    def describe(self, data: ImageData) -> str:
        return f" of {'x'.join(map(str, data.shape))}, {len(data.classes)} classes"

    def settings(self, options: AutoencoderOptions, data: ImageData) -> FitSettings:
        height, width, _ = data.shape
        # No more memory than default batches of images of `LARGEST` pixels take; at least twenty steps per epoch.
        most = min(DEFAULTS.batch_size * LARGEST**2 // (height * width), len(data.train) // 20)
        batch_size = options.fit.batch_size or max(8, min(DEFAULTS.batch_size, most))
        lr = DEFAULTS.lr * (batch_size / DEFAULTS.batch_size) ** 0.5  # Malladi et al. 2022, arXiv:2205.10287
        return override(dataclasses.replace(DEFAULTS, batch_size=batch_size, lr=lr), options.fit)

    def build(self, run: AutoencoderRun) -> Autoencoder:
        data = run.data
        run.warn_of_absent(data.classes, {"validation": data.validation.labels, "test": data.test.labels})
        return build(run.options.network, data.shape, run.settings.seed)

    def learner(self, run: AutoencoderRun, network: nn.Module) -> Reconstruction:
        selection, _ = run.data.division
        return Reconstruction(run.data.train.images, run.data.validation.take(selection).images, run.options.learning)

    def origin(self, run: AutoencoderRun) -> Mapping[str, Any]:
        return {"network": run.options.network, "learning": run.options.learning}

    def drafts(self, run: AutoencoderRun, network: nn.Module, state: FitState) -> list[Draft]:
        data, options, console = run.data, run.options, run.console
        judge = None
        if len(data.classes) > 1:
            judge = train_judge(data, options.judge_epochs, run.folder / "judge", run.accelerator, console)
        if not run.is_main:
            return []
        assert isinstance(network, Autoencoder)  # noqa: S101 - see `build`
        recompute_norms(network, data.train.images, options.learning.denoise)
        parts = _export(run.name, network, data.test.images, run.folder / "parts")
        graphs = Graphs(*(part.folder / MODEL for part in parts))
        findings = evaluate(graphs, data, judge, options.components, options.generated, run.settings.seed)
        metrics = findings.metrics
        console.print(f"test error {metrics.mse:.5f} (PCA {metrics.pca_mse:.5f})")
        if judge:
            console.print(
                f"the judge (test accuracy {metrics.judge_accuracy:.4f}) agrees with {metrics.judge_agreement:.4f} of "
                f"{options.generated} generated images; logistic regression {metrics.linear_latents:.4f} on latents, "
                f"{metrics.linear_pixels:.4f} on pixels"
            )
        write = partial(_write_version, run=run, network=network, findings=findings, state=state)
        return [
            Draft(
                name=part.name,
                write=partial(write, part=part),
                network=network,
                ood_data=None if part.kind is DecoderManifest else partial(ood_data_from_images, data, method=MAPS),
            )
            for part in parts
        ]

    def reload(self, manifest: ImageCodeManifest, folder: Path, options: Any) -> ImageData:
        image = manifest.image
        return load_images(
            options.data,
            size=image.height if image.height == image.width else None,
            labelled=False,
            limit=options.limit,
            bad=options.bad,
            encoding=options.encoding,
            seed=int(manifest.training.settings["seed"]),
        )

    def ood_data(self, manifest: Any, folder: Path, data: ImageData, foreign: Mapping[str, str]) -> OodData:
        if isinstance(manifest, DecoderManifest):
            return super().ood_data(manifest, folder, data, foreign)
        return ood_data_from_images(data, foreign, MAPS)


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the three graphs.

    Attributes:
        name: of the model.
        kind: of its manifest.
        description: for its manifest.
        folder: with the graph and its golden file.
        graph: in PyTorch.
        card: of the golden file.
        inputs: the specification of the input.
        outputs: those of the outputs.
        difference: the largest between the exported graph and PyTorch.
    """

    name: str
    kind: type[AutoencoderManifest | EncoderManifest | DecoderManifest]
    description: str
    folder: Path
    graph: nn.Module
    card: GoldenCard
    inputs: TensorSpec
    outputs: tuple[TensorSpec, ...]
    difference: float


def _export(name: str, network: Autoencoder, images: Any, folder: Path) -> list[_Part]:
    """Exports the whole, the encoder and the decoder, each to a folder of its own."""
    prefix = "" if name == "autoencoder" else f"{name}-"

    def part(
        name: str, kind: Any, description: str, graph: nn.Module, examples: npt.NDArray[Any], atol: float,
        input_name: str, *output_names: str,
    ) -> _Part:  # fmt: skip
        path = folder / name
        path.mkdir(parents=True, exist_ok=True)
        names: dict[str, Any] = {"input_name": input_name, "output_names": output_names}
        tolerances = {output: ERROR_ATOL for output in output_names if output == "error"}
        card = GoldenCard(rows=min(GOLDEN_ROWS, len(examples)), atol=atol, tolerances=tolerances)
        inputs, outputs, worst = export(graph, examples, path / MODEL, max_batch=MAX_BATCH, card=card, **names)
        write_golden(graph, examples[: card.rows], path / GOLDEN, **names)
        return _Part(name, kind, description, path, graph, card, inputs, outputs, worst.value)

    # A pixel half-way between two bytes may be rounded either way.
    whole = part(
        name, AutoencoderManifest, "convolutional autoencoder", AutoencoderGraph(network), images, 1.0,
        "images", "restored", "error",
    )  # fmt: skip
    encoder = part(
        f"{prefix}encoder", EncoderManifest, "the encoder of an autoencoder", EncoderGraph(network), images, 1e-3,
        "images", "latents",
    )  # fmt: skip
    (latents,) = run_in_batches(encoder.folder / MODEL, "images", images)
    decoder = part(
        f"{prefix}decoder", DecoderManifest, "the decoder of an autoencoder, with a density to sample latents from",
        DecoderGraph(network), latents, 1.0, "latents", "images",
    )  # fmt: skip
    return [whole, encoder, decoder]


def _write_version(
    target: Path, part: _Part, run: AutoencoderRun, network: Autoencoder, findings: Findings, state: FitState
) -> ImageCodeManifest:
    """Fills `target` with graph, golden file, density and report; returns the manifest, its `files` still empty."""
    data, options = run.data, run.options
    shutil.copytree(part.folder, target, dirs_exist_ok=True)
    if part.kind is DecoderManifest:
        findings.density.save(target / DENSITY)
    stated = run.stated(options.network, options.learning)
    stated |= {"components": options.components, "ridge": RIDGE, "judge_epochs": options.judge_epochs}
    height, width, channels = data.shape
    judged = [] if findings.metrics.judge_accuracy is None else [history.JUDGE]
    manifest = part.kind(
        name=part.name,
        description=f"{data.name}: {part.description}, {options.network.latent} latents per image",
        labels=data.classes,
        inputs=(part.inputs,),
        outputs=part.outputs,
        max_batch=MAX_BATCH,
        image=ImageInput(
            height=height,
            width=width,
            channels=1 if channels == 1 else 3,
            background=common_background(data.train.images),
        ),
        latent=options.network.latent,
        metrics=findings.metrics,
        intervals=findings.intervals,
        data=data_card(data),
        training=training_card("python -m training autoencoder", stated, state, part.graph),
        history=run.history(
            stated,
            state,
            Use(split="train", purpose=history.DENSITY, items=len(data.train)),
            *history.halves_used(data.division, selection=(history.EPOCH,)),
            *(Use(split="validation", purpose=purpose, items=len(data.validation)) for purpose in judged),
            Use(split="test", purpose=history.FIGURES, items=len(data.test)),
        ),
        golden=part.card,
        files={},
    )
    if isinstance(manifest, AutoencoderManifest):
        write_report(target, network, data, findings)
        write_curves(target, state, CURVE)
    else:
        update_record(target, whole=run.name)
    update_record(target, onnx_difference=f"{part.difference:.1g}")
    return manifest
