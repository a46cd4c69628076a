"""An autoencoder: images through a few numbers and back; served as a whole, as encoder and as generator.

From the data to three published versions, top to bottom: load, build, fit, evaluate, export, report.
"""

import dataclasses
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from service.inference.cards import GoldenCard, ImageInput
from service.inference.manifest import GOLDEN, MODEL, Manifest
from service.inference.manifests.coding import (
    DENSITY,
    AutoencoderManifest,
    AutoencoderMetrics,
    DecoderManifest,
    EncoderManifest,
)
from training.autoencoder.density import DensitySettings, fit_density
from training.autoencoder.evaluate import Judge, flat, frechet_distance, linear_accuracy, pca_error
from training.autoencoder.few import FewSettings, check_few, few_images
from training.autoencoder.graph import AutoencoderGraph, DecoderGraph, EncoderGraph
from training.autoencoder.judge import train_judge
from training.autoencoder.network import Autoencoder
from training.autoencoder.report import Findings, write_part_report, write_report
from training.autoencoder.task import Restoration, RestorationSettings, decode, encode, restoration_errors, settle
from training.data import ImageData, common_background, load_images
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
from training.rows import Row, keep_rows, recall_rows

MAX_BATCH = 64
GOLDEN_ROWS = 16
ERROR_ATOL = 1e-4
MOST_PIXELS = 100_000_000
FEW = "few.json"

# A start, sized for MNIST on two cores.
DEFAULTS = FitSettings(epochs=30, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4, warmup=0.05, ema=0.999)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What is trained.

    Attributes:
        latent: how many numbers stand for an image.
        widths: channels after each halving.
    """

    latent: int = 32
    widths: tuple[int, ...] = (32, 64)


def build(network: NetworkSettings, data: ImageData, seed: int) -> Autoencoder:
    """The network, its weights initialised from `seed`."""
    torch.manual_seed(seed)
    return Autoencoder(data.shape, network.latent, network.widths)


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take their default."""
    parser.add_argument("--data", default="ylecun/mnist", help="a hub id, or a folder with parquet or class folders")
    parser.add_argument("--data-name", help="what to call the data set in the report (default: its id or folder)")
    parser.add_argument("--image-size", type=int, help="side in pixels of the images (default: theirs, or 224)")
    parser.add_argument("--limit", type=int, help="use at most so many images of each split, for a trial")
    net = parser.add_argument_group("network")
    net.add_argument("--latent", type=int, help="how many numbers stand for an image")
    net.add_argument("--widths", type=lambda text: tuple(int(x) for x in text.split(",")), help="channels a halving")
    how = add_training_options(parser, "runs/autoencoder-DATA")
    how.add_argument("--shrink", type=float, help="weight of the latents' mean square")
    how.add_argument("--noise", type=float, help="standard deviation of what is added to the latents in training")
    how.add_argument(
        "--consistency", type=float, help="weight of the distance between the codes of an image and of it shifted"
    )
    how.add_argument("--components", type=int, help="Gaussians a class in the density of the latents")
    how.add_argument("--judge-epochs", type=int, default=6, help="of the classifier that judges generated images")
    how.add_argument("--generated", type=int, default=10_000, help="images that the judge sees")
    out = add_result_options(parser, "autoencoder; the parts are encoder and decoder")
    out.add_argument("--few", action="store_true", help="also study whether generated images help when few are real")


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes where that is asked for."""
    check_name(arguments.name)
    network = override(NetworkSettings(), arguments)
    settings = override(DEFAULTS, arguments)
    learning = override(RestorationSettings(), arguments)
    fitting = dataclasses.replace(override(DensitySettings(), arguments), seed=settings.seed)
    data = load_images(arguments.data, size=arguments.image_size, limit=arguments.limit, seed=settings.seed)
    data = dataclasses.replace(data, name=arguments.data_name or data.name)
    folder = arguments.run_dir or Path("runs") / f"autoencoder-{data.name.replace('/', '-')}"
    accelerator = make_accelerator(arguments)
    console.print(
        f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test images "
        f"of {'x'.join(map(str, data.shape))}, {len(data.classes)} classes; on {accelerator.device}"
    )
    if arguments.few:
        check_few(data, FewSettings())
    judge = train_judge(data, arguments.judge_epochs, folder / "judge", accelerator, console)
    console.print(f"the judge's test accuracy is {judge.accuracy:.4f}")
    model = build(network, data, settings.seed)
    start_from(model, arguments.start_from)
    state = fit(
        model,
        Restoration(data.train.images, data.validation.images, learning),
        settings,
        folder,
        accelerator=accelerator,
        console=console,
        resume=arguments.resume,
        origin=origin(arguments, data.fingerprint, network=network, learning=learning),
    )
    few = _few(network, data, folder, accelerator, console) if arguments.few else []
    if not accelerator.is_main_process:
        return

    # Evaluated as it is served: in float32, on the CPU.
    model = model.cpu().to(memory_format=torch.contiguous_format)
    settle(model, data.train.images)
    findings = evaluate(model, data, judge, fitting, arguments.generated, few)
    metrics = findings.metrics
    console.print(
        f"test error {metrics.mse:.5f} (PCA {metrics.pca_mse:.5f}); the judge agrees with "
        f"{metrics.judge_agreement:.4f} of {arguments.generated} generated images; "
        f"logistic regression {metrics.linear_latents:.4f} on latents, "
        f"{metrics.linear_pixels:.4f} on pixels"
    )
    made_with = stated(arguments, network, settings, learning, fitting) | {
        "judge_epochs": arguments.judge_epochs,
    }
    name = arguments.name or "autoencoder"
    parts = _parts(name, model, data, findings)
    for part in parts:
        write = partial(_write_version, part=part, data=data, findings=findings, settings=made_with, state=state)
        deliver(arguments, part.name, folder / "export" / part.name, write, console)


def evaluate(
    model: Autoencoder,
    data: ImageData,
    judge: Judge,
    fitting: DensitySettings,
    generated: int,
    few: list[dict[str, float]],
) -> Findings:
    """Fits the density on the training images and measures everything on the test split."""
    train_latents, test_latents = encode(model, data.train.images), encode(model, data.test.images)
    density = fit_density(train_latents, data.train.labels, len(data.classes), fitting)
    latents, asked = density.draw(generated, seed=fitting.seed)
    invented = decode(model, latents)
    restored = decode(model, test_latents)
    # The distance depends on how many images there are: as many of each kind.
    count = min(generated, len(data.train), len(data.test))
    some = data.train.images[np.random.default_rng(0).permutation(len(data.train))[:count]]
    real = judge.features(data.test.images)
    # What works on all pixels at once shall fit into memory, whatever the images' size.
    bounded = data.train.take(np.arange(0, len(data.train), 1 + data.train.images.size // MOST_PIXELS))
    metrics = AutoencoderMetrics(
        mse=float(restoration_errors(model, data.test.images).mean()),
        validation_mse=float(restoration_errors(model, data.validation.images).mean()),
        pca_mse=pca_error(bounded.images, data.test.images, model.latent),
        judge_accuracy=judge.accuracy,
        judge_agreement=float((judge.classify(invented) == asked).mean()),
        frechet_generated=frechet_distance(judge.features(invented[:count]), real),
        frechet_restored=frechet_distance(judge.features(restored[:count]), real),
        frechet_train=frechet_distance(judge.features(some), real),
        linear_latents=linear_accuracy(train_latents, data.train.labels, test_latents, data.test.labels),
        linear_pixels=linear_accuracy(flat(bounded.images), bounded.labels, flat(data.test.images), data.test.labels),
    )
    return Findings(metrics, density, train_latents, test_latents, restored, few)


def _few(network: NetworkSettings, data: ImageData, folder: Path, accelerator: Any, console: Console) -> list[Row]:
    """The rows of the study of few images; one that is done is not repeated."""
    path, settings = folder / FEW, FewSettings()
    measured = {
        "data": data.fingerprint, "network": dataclasses.asdict(network), "settings": dataclasses.asdict(settings)
    }  # fmt: skip
    rows = recall_rows(path, measured)
    if not rows:
        rows = few_images(data, settings, (network.latent, network.widths), folder, accelerator, console)
        if accelerator.is_main_process:
            keep_rows(path, measured, rows)
    return rows


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the three graphs, and what is said of it.

    Attributes:
        name: of the model.
        kind: of its manifest.
        graph: to be exported.
        network: the part of the network in it.
        examples: real inputs.
        tensors: the names of the input and of the outputs.
        atol: the largest difference from PyTorch that is accepted.
        words: what it is.
        whole: the name of the model that it is a part of.
    """

    name: str
    kind: type[AutoencoderManifest | EncoderManifest | DecoderManifest]
    graph: nn.Module
    network: nn.Module
    examples: Any
    tensors: tuple[str, tuple[str, ...]]
    atol: float
    words: str
    whole: str


def _parts(name: str, model: Autoencoder, data: ImageData, findings: Findings) -> list[_Part]:
    encoder, decoder = ("encoder", "decoder") if name == "autoencoder" else (f"{name}-encoder", f"{name}-decoder")
    images = data.test.images
    # A byte that lies on the edge between two may be rounded either way.
    return [
        _Part(name, AutoencoderManifest, AutoencoderGraph(model), model, images, ("images", ("restored", "error")), 1.0,
              "convolutional autoencoder", name),
        _Part(encoder, EncoderManifest, EncoderGraph(model.encoder), model.encoder, images, ("images", ("latents",)),
              1e-3, "the encoder of an autoencoder", name),
        _Part(decoder, DecoderManifest, DecoderGraph(model.decoder), model.decoder, findings.test_latents,
              ("latents", ("images",)), 1.0, "the decoder of an autoencoder, with a density to draw from", name),
    ]  # fmt: skip


def _write_version(
    target: Path, part: _Part, data: ImageData, findings: Findings, settings: dict[str, Any], state: FitState
) -> Manifest:
    """Fills `target` with graph, golden file, density and report; returns the manifest, its `files` still empty."""
    max_batch = min(MAX_BATCH, len(part.examples))
    tolerances = {name: ERROR_ATOL for name in part.tensors[1] if name == "error"}
    card = GoldenCard(rows=min(GOLDEN_ROWS, len(part.examples)), atol=part.atol, tolerances=tolerances)
    names: dict[str, Any] = dict(zip(("input_name", "output_names"), part.tensors, strict=True))
    inputs, outputs, difference = export(
        part.graph, part.examples, target / MODEL, max_batch=max_batch, card=card, **names
    )
    write_golden(part.graph, part.examples[: card.rows], target / GOLDEN, **names)
    if part.kind is DecoderManifest:
        findings.density.save(target / DENSITY)
    height, width, channels = data.shape
    manifest = part.kind(
        name=part.name,
        description=f"{data.name}: {part.words}, {findings.test_latents.shape[1]} numbers an image",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=max_batch,
        image=ImageInput(
            height=height,
            width=width,
            channels=1 if channels == 1 else 3,
            background=common_background(data.train.images),
        ),
        latent=findings.test_latents.shape[1],
        metrics=findings.metrics,
        data=data_card(data),
        training=training_card("python -m training autoencoder", settings, state, part.network),
        golden=card,
        files={},
    )
    if isinstance(manifest, AutoencoderManifest):
        model: Any = part.network
        write_report(target / "report", manifest, model, data, findings, state.history, difference.value)
    else:
        write_part_report(target / "report", manifest, part.whole)
    return manifest
