"""The options that every recipe has, and how the options of a command line become settings.

A recipe's options are a subclass of `Options`. The command line is generated from it (`training.command_line`): a field
is an option, a nested dataclass a group of options, and the docstring's `Attributes` are the help.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

SettingsT = TypeVar("SettingsT")
Bad = Literal["refuse", "drop"]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How the network is trained; the defaults are those of the recipe.

    Attributes:
        epochs: passes over the training data; with --resume, more than before continue from there.
        patience: end after this many epochs without a better validation score; 0 for never.
        batch_size: items per step, over all processes together.
        lr: the peak learning rate, or find for a range test before the training.
        optimizer: sgd (Nesterov momentum 0.9) or adamw.
        weight_decay: of every parameter of two or more dimensions.
        warmup: the fraction of the steps in which the learning rate rises.
        ema: decay per step of the averaged weights that are evaluated and kept; 0 turns averaging off.
        seed: of initial weights, order, augmentation and splits.
    """

    epochs: int | None = None
    patience: int | None = None
    batch_size: int | None = None
    lr: float | Literal["find"] | None = None
    optimizer: Literal["sgd", "adamw"] | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    ema: float | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class BackboneFitOptions(FitOptions):
    """How a network with a pretrained backbone is trained; the defaults are those of the recipe.

    Attributes:
        backbone_lr: the peak learning rate of pretrained parameters.
    """

    backbone_lr: float | None = None


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """Where a version goes, and whether it becomes the default.

    Attributes:
        models: the folder of the models.
        force: make the new version the default although its test figures are worse than those of the version that
            serves; it becomes the candidate otherwise.
        candidate: publish as the candidate, which does not become the default.
        yes: do not ask: replace a training that was stopped or a model that was not published, train however long it
            takes, and publish a model that is worse than its baseline.
    """

    models: Path = Path("models")
    force: bool = False
    candidate: bool = False
    yes: bool = False

    def __post_init__(self) -> None:
        if self.force and self.candidate:
            raise ValueError("--force makes the version the default and --candidate does not: use one of them")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of every recipe.

    Attributes:
        data: a folder, an archive, a file, a URL or a hub id.
        data_name: what to call the data set in the report; its id, folder or file by default.
        add: add captured items of the model with feedback to the training split: a folder of captures.
        limit: use at most this many items of each split, for a trial.
        bad: what to do with items that cannot be used; they are named either way.
        device: auto, cpu, cuda or cuda:N.
        precision: of the arithmetic in training; auto takes bfloat16 where it is faster and as good.
        threads: that compute on a CPU; by default one for each CPU that may be used.
        workers: processes that read and decode items; by default none on a CPU or for data in memory, up to 8 on a GPU.
        run_dir: the folder for checkpoints and history; by default runs/RECIPE-DATA.
        init_from: start from the best weights of another run or version.
        resume: continue from the checkpoint of the run.
        track: also write the figures of every epoch there.
        name: the name of the model.
        publish: publish the next version below --models.
        keep_weights: also write the weights beside the graph, for another --init-from.
        quantize: also try smaller and faster variants, and keep those that are good enough.
        cross_validate: afterwards train and measure this many networks, each on another part of the training and
            validation items; ends early after ten minutes, or twice the time of the training.
    """

    data: str
    data_name: str | None = None
    add: Path | None = None
    limit: int | None = None
    bad: Bad = "refuse"
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int | None = None
    workers: int | None = None
    run_dir: Path | None = None
    init_from: Path | None = None
    resume: bool = False
    track: Literal["tensorboard", "mlflow", "wandb"] | None = None
    name: str | None = None
    publish: bool = False
    keep_weights: bool = False
    quantize: bool = False
    cross_validate: int | None = None
    fit: FitOptions = field(default_factory=FitOptions)
    publishing: PublishOptions = field(default_factory=PublishOptions)

    def check(self) -> None:
        """Raises ValueError for options that have no effect together; subclasses add their own checks."""
        publishing = self.publishing
        if (publishing.force or publishing.candidate) and not self.publish:
            option = "--force" if publishing.force else "--candidate"
            raise ValueError(f"{option} has no effect without --publish: add --publish, or leave it out")
        if self.cross_validate and not 2 <= self.cross_validate <= 100:
            raise ValueError(f"--cross-validate {self.cross_validate}: must be from 2 to 100, or 0 for none")
        for option in ("init_from", "teacher"):
            if self.cross_validate and getattr(self, option, None):
                raise ValueError(
                    f"--cross-validate trains from scratch, since --{option.replace('_', '-')} may have seen the items "
                    "that are held out: leave one of them out"
                )


def override(settings: SettingsT, given: Any) -> SettingsT:
    """`settings` (a dataclass) with every field of the dataclass `given` that is not None."""
    names = {each.name for each in dataclasses.fields(settings)}  # type: ignore[arg-type]
    known = {each.name: getattr(given, each.name) for each in dataclasses.fields(given) if each.name in names}
    return dataclasses.replace(settings, **{name: value for name, value in known.items() if value is not None})  # type: ignore[type-var]


def changed(options: Any) -> Mapping[str, Any]:
    """The fields of a dataclass and of those nested in it whose values are not the defaults, by name."""
    found: dict[str, Any] = {}
    for each in dataclasses.fields(options):
        value = getattr(options, each.name)
        if dataclasses.is_dataclass(value):
            found |= changed(value)
        elif value != each.default:
            found[each.name] = value
    return found


def short_name(folder: Path | None) -> str | None:
    """`NAME/VERSION` for the folder of a published version, the last part of the path for a run's."""
    parts = folder.resolve().parts if folder else ()
    return "/".join(parts[-2:] if parts[-1].isdecimal() else parts[-1:]) if parts else None
