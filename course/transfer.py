"""What pretrained weights are worth: one network from scratch, frozen and fine-tuned, on few and on more images.

The three start from the same network. *From scratch* has random weights. *Frozen* keeps its ImageNet weights, and a
logistic regression learns the classes from its features. *Fine-tuned* starts from these weights and trains all of them.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from course.study import Row, mean_and_deviation, measure_rows, study_parser, table, write_study
from training.backbones.registry import load_backbone
from training.classification.features import extract, fit_linear
from training.classification.learner import predict
from training.classification.network import Transfer
from training.data.augment import Augment
from training.data.dataset import DataError
from training.data.images import ImageData, ImageSplit, load_images
from training.data.splits import draw_stratified, selection_of
from training.engine.optimizer import make_optimizer, schedule
from training.report.plots import ACCENT, MEASURED, TRAINING, save_figure

SCRATCH, FROZEN, TUNED = METHODS = ("from scratch", "frozen", "fine-tuned")
COLOURS = dict(zip(METHODS, (TRAINING, ACCENT, MEASURED), strict=True))
AUGMENT = Augment(cutout=0)
PLOT = "accuracy.png"


@dataclasses.dataclass(frozen=True, slots=True)
class TransferSettings:
    """How the study is done.

    Attributes:
        counts: training images.
        scratch_steps: steps of a training from scratch, for each of `counts`.
        tuned_steps: steps of fine-tuning, for each of `counts`.
        scratch_rates: peak learning rates that are tried for a training from scratch.
        tuned_rates: those of the pretrained weights in fine-tuning; that of the head is four times as high.
        batch: images of a step.
        size: the side in pixels that images are enlarged to.
        validation: images that choose a rate, or the penalty of the logistic regression.
        test: images that measure.
    """

    counts: tuple[int, ...] = (50, 500, 5000)
    scratch_steps: tuple[int, ...] = (120, 400, 1200)
    tuned_steps: tuple[int, ...] = (60, 200, 400)
    scratch_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    tuned_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    batch: int = 50
    size: int = 64
    validation: int = 1000
    test: int = 4000

    def steps(self, method: str, count: int) -> int:
        steps = self.scratch_steps if method == SCRATCH else self.tuned_steps
        return steps[self.counts.index(count)]


@dataclasses.dataclass(frozen=True, slots=True)
class Images:
    """Training images that a seed has drawn, and the images that choose or measure, always the same."""

    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    classes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study and writes its report."""
    parser = study_parser("course.transfer", __doc__, seeds=3)
    parser.add_argument("--weights", default="package", help="of the network: package or a file (default: package)")
    for name in ("counts", "scratch-steps", "tuned-steps"):
        default = getattr(TransferSettings(), name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=_numbers, default=default, help=f"default: {','.join(map(str, default))}")
    options = parser.parse_args(arguments)
    settings = TransferSettings(
        counts=options.counts, scratch_steps=options.scratch_steps, tuned_steps=options.tuned_steps
    )
    console = Console()
    data = selection_of(load_images(options.data, limit=options.limit, seed=options.seed))
    if len(data.train) < max(settings.counts):
        raise DataError(f"{data.name} [train]: the study takes {max(settings.counts)} images; there are less.")
    drawn = partial(_draw, data, settings, options.seed)
    origin = {
        "data": data.fingerprint,
        "network": ["tf_efficientnet_lite0", options.weights],
        "augment": dataclasses.asdict(AUGMENT),
        **dataclasses.asdict(settings),
    }
    # Rates are chosen with images, weights and an order that measure nothing.
    spare, middle = options.seed + options.seeds, _middle(settings)
    trials = {
        f"{method}, rate {rate:g}": partial(
            _train, method, drawn(middle, spare), settings, rate, spare, options.weights, on="validation"
        )
        for method, rates in ((SCRATCH, settings.scratch_rates), (TUNED, settings.tuned_rates))
        for rate in rates
    }
    tried = measure_rows(options.folder / "rates", origin, trials, console, side_by_side=True)
    rates = {method: _best(method, tried) for method in (SCRATCH, TUNED)}
    measures: dict[str, Any] = {}
    for seed in range(options.seed, options.seed + options.seeds):
        for count in settings.counts:
            images = drawn(count, seed)
            measures[f"{FROZEN}, {count} images, seed {seed}"] = partial(
                _freeze, images, settings, options.weights, options.folder / "training"
            )
            for method, rate in rates.items():
                measures[f"{method}, {count} images, seed {seed}"] = partial(
                    _train, method, images, settings, rate, seed, options.weights
                )
    cells = measure_rows(options.folder, origin, measures, console, side_by_side=True)
    write_report(options.folder, cells, tried, settings, range(options.seed, options.seed + options.seeds))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _draw(data: ImageData, settings: TransferSettings, fixed: int, count: int, seed: int) -> Images:
    """As many images of each class as of any other one, drawn by `seed`; validation and test are drawn by `fixed`."""
    validation, test = (
        split.take(draw_stratified(split.labels, min(most, len(split)), fixed))
        for split, most in ((data.validation, settings.validation), (data.test, settings.test))
    )
    return Images(data.train.take(draw_stratified(data.train.labels, count, seed)), validation, test, len(data.classes))


def _network(weights: str, settings: TransferSettings, classes: int, seed: int) -> Transfer:
    torch.manual_seed(seed)
    network = Transfer(load_backbone("tf_efficientnet_lite0", weights), settings.size, classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # that of the network, 0.01, is for trainings of many thousand steps
    return network.to(memory_format=torch.channels_last)


def _train(
    method: str,
    images: Images,
    settings: TransferSettings,
    rate: float,
    seed: int,
    weights: str,
    on: str = "test",
) -> Row:
    """Trains all weights, and measures the accuracy on training images and on others."""
    scratch, train = method == SCRATCH, images.train
    network = _network("none" if scratch else weights, settings, images.classes, seed)
    optimizer = make_optimizer(network, "adamw", rate if scratch else 4 * rate, rate, weight_decay=0.02)
    rng = torch.Generator().manual_seed(seed)
    pixels, labels = torch.from_numpy(train.images[:]), torch.from_numpy(train.labels)
    order, epoch = torch.empty(0, dtype=torch.long), -1
    steps = settings.steps(method, len(train))
    network.train()
    for step in range(steps):
        if not len(order):
            order, epoch = torch.randperm(len(labels), generator=rng), epoch + 1
        items, order = order[: settings.batch], order[settings.batch :]
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * schedule(step / steps, 0.1)
        loss = F.cross_entropy(network(AUGMENT(pixels[items], items, epoch, rng)), labels[items])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    return {"train_accuracy": _accuracy(network, _some(train)), "accuracy": _accuracy(network, getattr(images, on))}


def _freeze(images: Images, settings: TransferSettings, weights: str, folder: Path) -> Row:
    """Fits logistic regression to features of the pretrained network, as they are and mirrored."""
    folder.mkdir(parents=True, exist_ok=True)
    network, accelerator = _network(weights, settings, images.classes, 0), Accelerator()

    def features(split: ImageSplit, views: int = 1) -> Any:
        seen = hashlib.sha256(split.images[:].tobytes()).hexdigest()
        return extract(network, split.images, folder, seen, accelerator, views=views)

    train, validation, test = features(images.train, 2), features(images.validation)[0], features(images.test)[0]
    linear = fit_linear(train, images.train.labels, validation, images.validation.labels, images.classes)
    return {
        "train_accuracy": linear.accuracy(train[0], images.train.labels),
        "accuracy": linear.accuracy(test, images.test.labels),
    }


def _some(split: ImageSplit) -> ImageSplit:
    return split.take(np.arange(len(split))[:: max(1, len(split) // 500)])


def _accuracy(network: nn.Module, split: ImageSplit) -> float:
    return float((predict(network, split.images).argmax(1) == split.labels).mean())


def _best(method: str, tried: Mapping[str, Row]) -> float:
    own = {name: row["accuracy"] for name, row in tried.items() if name.startswith(method)}
    return float(max(own, key=own.__getitem__).rpartition(" ")[2])


def write_report(
    folder: Path, cells: Mapping[str, Row], tried: Mapping[str, Row], settings: TransferSettings, seeds: range
) -> None:
    """Writes the tables and the picture."""

    def values(method: str, count: int, figure: str) -> list[float]:
        return [cells[f"{method}, {count} images, seed {seed}"][figure] for seed in seeds]

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axis = figure.subplots()
    for shift, method in zip((-0.04, 0.0, 0.04), METHODS, strict=True):
        colour, across = COLOURS[method], np.array(settings.counts) * 10**shift
        accuracies = [values(method, count, "accuracy") for count in settings.counts]
        axis.plot(across, [np.mean(each) for each in accuracies], color=colour, linewidth=1.4, label=method)
        for x, each in zip(across, accuracies, strict=True):
            axis.scatter([x] * len(each), each, s=22, color=colour, alpha=0.7, zorder=3)
    axis.set_xscale("log")
    axis.set_xticks(settings.counts, [f"{count:,}" for count in settings.counts])
    axis.minorticks_off()
    axis.set(xlabel="training images", ylabel="accuracy on test (a dot for each seed)", ylim=(0, 1))
    axis.legend(loc="upper left")
    save_figure(figure, folder / PLOT)
    write_study(
        folder,
        "# From scratch, frozen, fine-tuned",
        "The network `tf_efficientnet_lite0`, with random weights (*from scratch*), with its ImageNet weights "
        "and a logistic regression on its features (*frozen*), and with these weights at the start of a training of "
        f"all layers (*fine-tuned*). Images are enlarged to {settings.size} x {settings.size} pixels. Each of "
        f"{len(seeds)} seeds draws other training images, as many of each class, and other initial weights. Accuracy "
        f"on {settings.test:,} test images, the same for all, mean ± standard deviation over the seeds:",
        table(
            ("", *(f"{count:,} images" for count in settings.counts)),
            [
                (method, *(mean_and_deviation(values(method, count, "accuracy")) for count in settings.counts))
                for method in METHODS
            ],
        ),
        f"![Accuracy on test by the number of training images]({PLOT})",
        "Accuracy on the training images themselves after the training (of trained networks on up to 500 of them):",
        table(
            ("", *(f"{count:,} images" for count in settings.counts)),
            [
                (method, *(mean_and_deviation(values(method, count, "train_accuracy")) for count in settings.counts))
                for method in METHODS
            ],
        ),
        "## How they were trained",
        f"AdamW with batches of {settings.batch} images, mirrored and shifted by up to {AUGMENT.translate} of "
        f"32 pixels. From scratch: {_steps(settings.scratch_steps)} steps for {_steps(settings.counts)} images; "
        f"fine-tuned: {_steps(settings.tuned_steps)} steps. Of three learning rates each was the one with the best "
        f"accuracy on {settings.validation:,} validation images after a training on {_middle(settings):,} images of "
        "a further seed; it is used for all numbers of images. Validation also chose the penalty of the "
        "logistic regression. Test images chose nothing.",
        table(("trial", "accuracy on validation"), [(name, f"{row['accuracy']:.3f}") for name, row in tried.items()]),
    )


def _steps(counts: Sequence[int]) -> str:
    *most, last = (f"{count:,}" for count in counts)
    return f"{', '.join(most)} and {last}"


def _middle(settings: TransferSettings) -> int:
    return sorted(settings.counts)[len(settings.counts) // 2]


if __name__ == "__main__":
    main()
