"""Image classification: an MLP, a CNN or a pretrained backbone, on any data set of labelled images.

From the data to a published version, top to bottom: load, build, fit, evaluate, export, report.
"""

import dataclasses
import json
import shutil
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from service.inference.cards import GoldenCard, ImageInput
from service.inference.manifest import GOLDEN, MODEL, sha256
from service.inference.manifests.classification import ClassifierManifest
from training.architectures import DEFAULTS, LEARNING, ONLY, NetworkSettings, build, fit_defaults
from training.classification import Classification, predict
from training.data import ImageData, load_images
from training.distill import teach
from training.evaluate import Evaluation, evaluate, milliseconds_per_image
from training.export import (
    ClassifierGraph,
    data_card,
    deliver,
    export,
    training_card,
    write_golden,
)
from training.fit import FitState, best_weights, fingerprint_of, fit, keep_weights
from training.folding import fold
from training.interpolate import interpolate
from training.networks import Transfer
from training.options import (
    add_result_options,
    add_training_options,
    check_name,
    make_accelerator,
    origin,
    override,
    place_name,
    start_from,
    stated,
)
from training.report import write_report
from training.rows import Row
from training.study import run_study

MAX_BATCH = 64
GOLDEN_ROWS = 16
ATOL = 1e-4
STUDY = "study.json"
RESULT = "result.json"


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take the architecture's own default."""
    parser.add_argument("--arch", choices=("mlp", "cnn", "transfer"), default="cnn")
    parser.add_argument("--data", default="uoft-cs/cifar10", help="a hub id, or a folder with parquet or class folders")
    parser.add_argument("--data-name", help="what to call the data set in the report (default: its id or folder)")
    parser.add_argument("--image-size", type=int, help="side in pixels of the images (default: theirs, or 224)")
    parser.add_argument("--limit", type=int, help="use at most so many images of each split, for a trial")
    net = parser.add_argument_group("network")
    net.add_argument("--widths", type=lambda text: tuple(int(x) for x in text.split(",")), help="cnn: filters a group")
    net.add_argument("--depth", type=int, help="cnn: convolutions in a group")
    net.add_argument("--dropout", type=float)
    net.add_argument("--backbone", help="transfer: any timm model (default: tf_efficientnet_lite0)")
    net.add_argument("--weights", help="transfer: hub, package, none or a file (default: package)")
    net.add_argument("--network-size", type=int, help="transfer: side in pixels that images are enlarged to")
    net.add_argument("--start-size", type=int, help="transfer: the smaller side that training starts with")
    net.add_argument(
        "--freeze",
        type=int,
        nargs="?",
        const=-1,
        metavar="GROUPS",
        help="transfer: train the head alone; with a number: keep the first so many of timm's groups of layers",
    )
    net.add_argument(
        "--freeze-norms",
        action="store_true",
        default=None,
        help="transfer: keep the statistics of the backbone's normalisations: with bfloat16 half the time on a CPU",
    )
    how = add_training_options(parser, "runs/classifier-ARCH-DATA")
    how.add_argument("--label-smoothing", type=float)
    how.add_argument(
        "--flip", action=BooleanOptionalAction, help="mirror images left to right; not for digits, letters"
    )
    how.add_argument("--cutout", type=int, help="side in pixels of the square that is blanked")
    how.add_argument("--cutmix", type=float, help="share of batches whose images get a rectangle of another one")
    how.add_argument("--teacher", type=Path, help="a published version to learn from too, such as models/NAME/1")
    how.add_argument("--distill", type=float, help="weight of the teacher's answer in the loss")
    out = add_result_options(parser, "classifier, classifier-mlp or classifier-transfer")
    out.add_argument("--mirror", action="store_true", help="answer with the mean over an image and its mirror image")
    out.add_argument(
        "--interpolate", action="store_true", help="go back towards --start-from as far as validation likes it"
    )
    out.add_argument("--keep-weights", action="store_true", help="also write the weights, for another --start-from")
    out.add_argument("--compare", type=Path, nargs="*", default=[], help="other runs or versions, for the table")
    out.add_argument("--study", action="store_true", help="cnn: also measure what filters, layers and dropout buy")


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes where that is asked for."""
    for other in arguments.compare:
        _result_of(other)  # before anything is trained
    check_name(arguments.name)
    _check_options(arguments)
    network = override(NetworkSettings(), arguments)
    learning = override(LEARNING[network.arch], arguments)
    learning = dataclasses.replace(learning, augment=override(learning.augment, arguments))
    seed = DEFAULTS[network.arch].seed if arguments.seed is None else arguments.seed
    data = load_images(arguments.data, size=arguments.image_size, limit=arguments.limit, seed=seed)
    data = dataclasses.replace(data, name=arguments.data_name or data.name)
    settings = override(fit_defaults(network.arch, data, arguments.batch_size), arguments)
    folder = arguments.run_dir or Path("runs") / f"classifier-{network.arch}-{data.name.replace('/', '-')}"
    accelerator = make_accelerator(arguments)
    console.print(
        f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test images "
        f"of {'x'.join(map(str, data.shape))}, {len(data.classes)} classes; on {accelerator.device}"
    )
    for place in filter(None, (arguments.start_from, arguments.teacher)):
        if data.carved and fingerprint_of(place) != data.fingerprint:
            console.print(
                f"[yellow]{place} learned from other data, or from the same divided otherwise. If it has seen images "
                f"that are {' or '.join(sorted(data.carved))} images now, what these say below is too good: use the "
                "--seed and the images it had."
            )
    study: list[Row] = []
    if arguments.study:
        variants, varied = _variants(network, data, settings.seed), dataclasses.asdict(network)
        # At the rate of a training from scratch, whatever this one starts from.
        usual = dataclasses.replace(fit_defaults(network.arch, data), seed=settings.seed)
        study = run_study(variants, data, usual, learning, folder / STUDY, accelerator, console, varied)
    teacher = teach(arguments.teacher, data, folder) if arguments.teacher else None
    model = build(network, data, settings.seed)
    if isinstance(model, Transfer) and arguments.network_size not in (None, model.size):
        console.print(f"[yellow]--network-size {arguments.network_size}: {_size_in_words(model, data)} instead.")
    start_from(model, arguments.start_from)
    trained = fold(model) if isinstance(model, Transfer) and network.freeze_norms else model
    state = fit(
        trained,
        Classification(data.train, data.validation, learning, teacher),
        settings,
        folder,
        accelerator=accelerator,
        console=console,
        resume=arguments.resume,
        origin=origin(
            arguments,
            data.fingerprint,
            network=network,
            learning=learning,
            teacher=arguments.teacher and f"{place_name(arguments.teacher)}, {sha256(arguments.teacher / MODEL)}",
        ),
    )
    if not accelerator.is_main_process:
        return

    # Evaluated as it is served: in float32, on the CPU.
    model.load_state_dict(trained.state_dict())
    model = model.cpu().to(memory_format=torch.contiguous_format)
    share = 1.0
    if arguments.interpolate:
        share = interpolate(model, best_weights(arguments.start_from), data.validation, mirror=arguments.mirror)
        console.print(f"{share:.0%} of the way from {arguments.start_from} to what was trained is best")
    validation_logits = predict(model, data.validation.images, mirror=arguments.mirror)
    test_logits = predict(model, data.test.images, mirror=arguments.mirror)
    evaluation = evaluate(data.classes, validation_logits, data.validation.labels, test_logits, data.test.labels)
    name = arguments.name or {"cnn": "classifier"}.get(network.arch, f"classifier-{network.arch}")
    graph = ClassifierGraph(model, evaluation.calibration.temperature, arguments.mirror)
    if isinstance(model, Transfer):  # as it came out for these images
        network = dataclasses.replace(network, network_size=model.size, start_size=model.start_size)
    unused = {name for arch, names in ONLY.items() if arch != network.arch for name in names}
    if not arguments.teacher:
        unused |= {"distill", "distill_temperature"}
    if network.freeze < 0:
        unused |= {"backbone_lr"}
    made_with = {
        key: value for key, value in stated(arguments, network, settings, learning).items() if key not in unused
    }
    made_with |= {
        "teacher": place_name(arguments.teacher),
        "mirror": arguments.mirror,
        "interpolated": share,
    }

    def write(target: Path) -> ClassifierManifest:
        return _write_version(
            target, name, graph, data, network, made_with, state, evaluation, study, folder, arguments
        )

    console.print(
        f"test accuracy {evaluation.metrics.accuracy:.4f}, calibration error "
        f"{evaluation.calibration.ece_before:.4f} before and {evaluation.calibration.ece_after:.4f} after scaling"
    )
    deliver(arguments, name, folder / "export", write, console)


def _size_in_words(model: Transfer, data: ImageData) -> str:
    if model.size:
        return f"the backbone takes {model.size} pixels alone and gets them"
    return f"the images are no smaller ({data.shape[0]} x {data.shape[1]}) and stay as they are"


def _check_options(arguments: Namespace) -> None:
    """Refuses options that would do nothing.

    Raises:
        ValueError: names the option and what it is for.
    """
    given = {name for name, value in vars(arguments).items() if value is not None and value is not False}
    for arch, names in ONLY.items():
        for name in sorted(names & given):
            if arguments.arch != arch:
                raise ValueError(f"--{name.replace('_', '-')} is for --arch {arch}, not {arguments.arch}")
    if arguments.distill is not None and not arguments.teacher:
        raise ValueError("--distill weighs the answers of a --teacher: name one")
    if arguments.interpolate and not arguments.start_from:
        raise ValueError("--interpolate goes back towards the weights of --start-from: name them")
    if arguments.backbone_lr is not None and arguments.freeze == -1:
        raise ValueError("--backbone-lr is for a backbone that learns, which --freeze alone prevents: use one of them")
    if arguments.lr is None and arguments.optimizer not in (None, DEFAULTS[arguments.arch].optimizer):
        raise ValueError(
            f"--optimizer {arguments.optimizer} needs an --lr of its own: that of {DEFAULTS[arguments.arch].optimizer} "
            "is another"
        )
    if arguments.mirror and arguments.flip is False:
        raise ValueError("--mirror asks about mirror images, which --no-flip keeps from the network: use one of them")


def _variants(network: NetworkSettings, data: ImageData, seed: int) -> dict[str, Callable[[], nn.Module]]:
    """The CNN as it is, and with one thing changed at a time."""
    half, more = (tuple(round(width * factor) for width in network.widths) for factor in (0.5, 1.5))
    changes: dict[str, dict[str, Any]] = {
        "as it is": {},
        f"half the filters {half}": {"widths": half},
        f"half as many more {more}": {"widths": more},
        **({f"{network.depth - 1} convolutions a group": {"depth": network.depth - 1}} if network.depth > 1 else {}),
        f"{network.depth + 1} convolutions a group": {"depth": network.depth + 1},
        "dropout 0.2": {"dropout": 0.2},
        "dropout 0.5": {"dropout": 0.5},
    }
    return {
        name: partial(build, dataclasses.replace(network, **change), data, seed) for name, change in changes.items()
    }


def _result_of(place: Path) -> dict[str, Any]:
    """The result of a finished run or of a published version.

    Raises:
        ValueError: `place` is neither.
    """
    for path in (place / RESULT, place / "report" / RESULT):
        if path.is_file():
            result: dict[str, Any] = json.loads(path.read_text())
            return result
    raise ValueError(f"--compare {place}: holds no {RESULT}; give a finished run's folder or a published version's")


def _write_version(
    target: Path,
    name: str,
    graph: ClassifierGraph,
    data: ImageData,
    network: NetworkSettings,
    settings: dict[str, Any],
    state: FitState,
    evaluation: Evaluation,
    study: list[Row],
    folder: Path,
    arguments: Namespace,
) -> ClassifierManifest:
    """Fills `target` with graph, golden file and report; returns the manifest, its `files` still empty."""
    images = data.test.images
    names: dict[str, Any] = {"input_name": "images", "output_names": ("probabilities",)}
    max_batch = min(MAX_BATCH, len(images))
    card = GoldenCard(rows=min(GOLDEN_ROWS, len(images)), atol=ATOL)
    inputs, outputs, difference = export(graph, images, target / MODEL, max_batch=max_batch, card=card, **names)
    write_golden(graph, images[: card.rows], target / GOLDEN, **names)
    height, width, channels = data.shape
    parameters = sum(parameter.numel() for parameter in graph.network.parameters())
    description = {
        "mlp": "dense network",
        "cnn": "residual convolutional network",
        "transfer": f"{network.backbone}, {'frozen' if network.freeze < 0 else 'fine-tuned'}",
    }[network.arch]
    manifest = ClassifierManifest(
        name=name,
        description=f"{data.name}, {len(data.classes)} classes: {description}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=max_batch,
        image=ImageInput(height=height, width=width, channels=1 if channels == 1 else 3),
        data=data_card(data),
        metrics=evaluation.metrics,
        calibration=evaluation.calibration,
        conformal=evaluation.conformal,
        training=training_card(f"python -m training classifier --arch {network.arch}", settings, state, graph.network),
        golden=card,
        files={},
    )
    result = {
        "arch": network.arch,
        "data": data.name,
        "parameters": parameters,
        "accuracy": evaluation.metrics.accuracy,
        "ece_after": evaluation.calibration.ece_after,
        "training_seconds": round(state.seconds, 1),
        "ms_batch_1": milliseconds_per_image(target / MODEL, images, 1),
        "ms_batch_max": milliseconds_per_image(target / MODEL, images, max_batch),
        "max_batch": max_batch,
        "onnx_difference": difference.value,
        "history": state.history,
        "label": description,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(result, indent=1) + "\n")
    others = [_result_of(other) for other in arguments.compare]
    write_report(target / "report", manifest, evaluation, data, result, others, study)
    shutil.copy(folder / RESULT, target / "report")
    if arguments.keep_weights:
        keep_weights(graph.network, target)
    return manifest
