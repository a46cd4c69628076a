"""An autoencoder: images to a small latent vector and back; served as a whole, as an encoder and as a generator.

From the data to three published versions, top to bottom: load, build, fit, evaluate, export, report.
"""

import dataclasses
import shutil
import tempfile
from argparse import Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from service.inference.cards import GoldenCard, ManifestBase, TensorSpec, Use
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.autoencoder.manifest import DENSITY, AutoencoderManifest, DecoderManifest, EncoderManifest
from service.tasks.cards import ImageInput
from training.autoencoder.density import DensitySettings
from training.autoencoder.evaluation import Findings, Graphs, evaluate
from training.autoencoder.few import FewSettings, check_few, run_study
from training.autoencoder.graph import AutoencoderGraph, DecoderGraph, EncoderGraph
from training.autoencoder.judge import train_judge
from training.autoencoder.network import Autoencoder, build
from training.autoencoder.options import DEFAULTS, LARGEST, NetworkSettings, ReconstructionSettings
from training.autoencoder.report import CURVE, write_report
from training.autoencoder.task import Reconstruction, recompute_norms
from training.data.images import ImageData, common_background, load_images
from training.engine.fit import FitState
from training.engine.settings import FitSettings
from training.export import history
from training.export.cards import data_card, training_card
from training.export.evaluator import run_in_batches
from training.export.graph import export, write_golden
from training.export.ood import with_ood
from training.export.ood_data import MAPS, ood_data_from_images
from training.old_run import Run, as_served, begin
from training.options import override
from training.report.plots import write_curves
from training.report.record import update_record
from training.report.samples import draw_images

MAX_BATCH = 64
GOLDEN_ROWS = 16
ERROR_ATOL = 1e-4
FEW = "few.json"


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes if that is asked for."""
    network = override(NetworkSettings(), arguments)
    seed = DEFAULTS.seed if arguments.seed is None else arguments.seed
    learning = override(ReconstructionSettings(), arguments)
    fitting = dataclasses.replace(override(DensitySettings(), arguments), seed=seed)
    load = partial(
        load_images,
        arguments.data,
        size=arguments.image_size,
        largest=LARGEST,
        limit=arguments.limit,
        labelled=False,
        bad=arguments.bad,
        encoding=arguments.encoding,
        seed=seed,
    )
    run = begin(arguments, console, load, run="autoencoder", model="autoencoder", draw=draw_images)
    data = run.data
    settings = override(fit_defaults(data, arguments.batch_size), arguments)
    labels = {"validation": data.validation.labels, "test": data.test.labels}
    run.announce("images", f" of {'x'.join(map(str, data.shape))}, {len(data.classes)} classes", data.classes, labels)
    if arguments.few:
        check_few(data, FewSettings())

    judge = None
    if len(data.classes) > 1:
        judge = train_judge(data, arguments.judge_epochs, run.folder / "judge", run.accelerator, console)
        console.print(f"the judge's test accuracy is {judge.accuracy:.4f}")
    model = build(network, data.shape, settings.seed)
    run.start(model)
    selection, _ = data.division
    task = Reconstruction(data.train.images, data.validation.take(selection).images, learning)
    state = run.fit(model, task, settings, network=network, learning=learning)
    few = []
    if arguments.few:
        few = run_study(network, data, FewSettings(), run.folder / FEW, run.accelerator, console)
    if not run.reports:
        return

    model = as_served(model)
    recompute_norms(model, data.train.images, learning.denoise)
    with tempfile.TemporaryDirectory() as scratch:
        parts = _export_parts(run.name, model, data, Path(scratch))
        findings = evaluate(Graphs(*(part.path for part in parts)), data, judge, fitting, arguments.generated, few)
        metrics = findings.metrics
        console.print(f"test error {metrics.mse:.5f} (PCA {metrics.pca_mse:.5f})")
        if judge:
            console.print(
                f"the judge agrees with {metrics.judge_agreement:.4f} of {arguments.generated} generated images; "
                f"logistic regression {metrics.linear_latents:.4f} on latents, {metrics.linear_pixels:.4f} on pixels"
            )
        stated = run.stated(network, settings, learning, fitting) | {"judge_epochs": arguments.judge_epochs}
        write = partial(_write_version, run=run, findings=findings, stated=stated, state=state)
        run.deliver(*((part.name, partial(write, part=part)) for part in parts))


def fit_defaults(data: ImageData, batch_size: int | None) -> FitSettings:
    """The defaults, with batches of `batch_size`, or smaller ones if images are large or few."""
    height, width, _ = data.shape
    # No more memory than batches of the usual size take at this side in pixels; at least twenty steps per epoch.
    most = min(DEFAULTS.batch_size * LARGEST**2 // (height * width), len(data.train) // 20)
    batch_size = batch_size or max(8, min(DEFAULTS.batch_size, most))
    lr = DEFAULTS.lr * (batch_size / DEFAULTS.batch_size) ** 0.5  # Malladi et al. 2022, arXiv:2205.10287
    return dataclasses.replace(DEFAULTS, batch_size=batch_size, lr=lr)


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the three graphs, exported, and how it is published.

    Attributes:
        path: of the graph.
        name: of the model.
        kind: of its manifest.
        graph: as PyTorch has it.
        network: the part of the network in it.
        examples: real inputs.
        tensors: the names of the input and of the outputs.
        card: of the golden file.
        specs: of the input and of the outputs.
        difference: the largest from PyTorch.
        words: a description.
        whole: the name of the model that it is a part of.
    """

    path: Path
    name: str
    kind: type[AutoencoderManifest | EncoderManifest | DecoderManifest]
    graph: nn.Module
    network: nn.Module
    examples: Any
    tensors: dict[str, Any]
    card: GoldenCard
    specs: tuple[TensorSpec, tuple[TensorSpec, ...]]
    difference: float
    words: str
    whole: str


def _export_parts(name: str, model: Autoencoder, data: ImageData, folder: Path) -> tuple[_Part, _Part, _Part]:
    """The whole, the encoder and the decoder, exported to `folder`."""
    encoder, decoder = ("encoder", "decoder") if name == "autoencoder" else (f"{name}-encoder", f"{name}-decoder")
    images = data.test.images

    def export_part(
        name_of_part: str, kind: Any, graph: nn.Module, network: nn.Module, examples: Any,
        tensors: tuple[str, tuple[str, ...]], atol: float, words: str,
    ) -> _Part:  # fmt: skip
        path = folder / f"{name_of_part}.onnx"
        tolerances = {output: ERROR_ATOL for output in tensors[1] if output == "error"}
        card = GoldenCard(rows=min(GOLDEN_ROWS, len(examples)), atol=atol, tolerances=tolerances)
        names: dict[str, Any] = dict(zip(("input_name", "output_names"), tensors, strict=True))
        inputs, outputs, difference = export(graph, examples, path, max_batch=MAX_BATCH, card=card, **names)
        return _Part(
            path, name_of_part, kind, graph, network, examples, names, card, (inputs, outputs), difference.value,
            words, name,
        )  # fmt: skip

    # A pixel half-way between two bytes may be rounded either way.
    whole = export_part(
        name, AutoencoderManifest, AutoencoderGraph(model), model, images, ("images", ("restored", "error")), 1.0,
        "convolutional autoencoder",
    )  # fmt: skip
    first = export_part(
        encoder, EncoderManifest, EncoderGraph(model.encoder), model.encoder, images, ("images", ("latents",)), 1e-3,
        "the encoder of an autoencoder",
    )  # fmt: skip
    (latents,) = run_in_batches(first.path, "images", images)
    second = export_part(
        decoder, DecoderManifest, DecoderGraph(model.decoder), model.decoder, latents, ("latents", ("images",)), 1.0,
        "the decoder of an autoencoder, with a density to sample latents from",
    )  # fmt: skip
    return whole, first, second


def _write_version(
    target: Path, run: Run[ImageData], part: _Part, findings: Findings, stated: dict[str, Any], state: FitState
) -> ManifestBase:
    """Fills `target` with graph, golden file, density and report; returns the manifest, its `files` still empty."""
    data, card = run.data, part.card
    shutil.copy(part.path, target / MODEL)
    write_golden(part.graph, part.examples[: card.rows], target / GOLDEN, **part.tensors)
    if part.kind is DecoderManifest:
        findings.density.save(target / DENSITY)
    height, width, channels = data.shape
    judged = [] if findings.metrics.judge_accuracy is None else [history.JUDGE]
    manifest = part.kind(
        name=part.name,
        description=f"{data.name}: {part.words}, {findings.test_latents.shape[1]} latents per image",
        labels=data.classes,
        inputs=(part.specs[0],),
        outputs=part.specs[1],
        max_batch=MAX_BATCH,
        image=ImageInput(
            height=height,
            width=width,
            channels=1 if channels == 1 else 3,
            background=common_background(data.train.images),
        ),
        latent=findings.test_latents.shape[1],
        metrics=findings.metrics,
        intervals=findings.intervals,
        data=data_card(data),
        training=training_card("python -m training autoencoder", stated, state, part.network),
        history=run.history(
            stated,
            state,
            Use(split="train", purpose=history.DENSITY, items=len(data.train)),
            *history.halves_used(data.division, selection=(history.EPOCH,)),
            *(Use(split="validation", purpose=purpose, items=len(data.validation)) for purpose in judged),
            Use(split="test", purpose=history.FIGURES, items=len(data.test)),
        ),
        golden=card,
        files={},
    )
    if isinstance(manifest, AutoencoderManifest):
        model: Any = part.network
        write_report(target, model, data, findings)
        write_curves(target, state, CURVE)
    else:
        update_record(target, whole=part.whole)
    update_record(target, onnx_difference=f"{part.difference:.1g}")
    if isinstance(manifest, DecoderManifest):
        return manifest
    return with_ood(target, manifest, ood_data_from_images(data, method=MAPS), run.console)
