"""The options of what is done with published models, of nothing that takes long to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from training.options import Bad, PublishOptions

# Of variants, in the order in which they are tried.
Method = Literal["int8", "float16"]
METHODS: tuple[Method, ...] = ("int8", "float16")


class UnknownVersion(Exception):
    """There is no such model, or no such version of it."""


@dataclass(frozen=True, kw_only=True)
class _ModelOptions:
    """What every command on a published model has.

    Attributes:
        model: a published model; its newest version by default.
        command_line: for the record in the manifest.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME[/VERSION]")]
    command_line: tyro.conf.Suppress[str] = ""


@dataclass(frozen=True, kw_only=True)
class CardOptions(_ModelOptions):
    """Renders the card of a published model again, from what its version records.

    Attributes:
        models: the folder of the models.
    """

    models: Path = Path("models")


@dataclass(frozen=True, kw_only=True)
class DataOptions(PublishOptions, _ModelOptions):
    """A published model, and the data that it was trained on.

    Attributes:
        data: the data that it was trained on, as its recipe took it.
        limit: as its recipe took it.
        bad: what to do with items that cannot be used; they are named either way.
        encoding: of text files, such as cp949; detected by default.
        text_column: of texts, as their recipe took it.
        label_column: of texts, as their recipe took it.
        validation: of texts, as their recipe took it.
    """

    data: str
    limit: int | None = None
    bad: Bad = "refuse"
    encoding: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    validation: float = 0.1


@dataclass(frozen=True, kw_only=True)
class DriftOptions(DataOptions):
    """Gives a published model the histograms of its validation split, with which the service notices drift."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(DataOptions):
    """Measures a published model on any labelled data, and compares the figures with those of its card.

    With --renew it publishes a version with a new report instead, measured on the data that the model was trained on.

    Attributes:
        data: labelled data in any form that its recipe takes; with --renew, the data that the model was trained on.
        split: measure on this split alone; by default on all that the data has.
        limit: use at most this many items of each split.
        text_column: of texts; by default the one that the training found.
        label_column: of the labels of texts or the target of a table; by default as in training.
        output: also write the figures, the classes and the worst items into this file, as JSON.
        renew: measure the model anew on the data that it was trained on, and publish a version with a new report.
        calibrate: with a new report, also fit the calibration of a classifier and its variants anew; implies --renew.
        validation: with --renew, of texts: as their recipe took it.
    """

    data: str
    split: Literal["train", "validation", "test"] | None = None
    limit: int | None = None
    text_column: str | None = None
    label_column: str | None = None
    output: Path | None = None
    renew: bool = False
    calibrate: bool = False
    validation: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        renews = self.renew or self.calibrate
        new, old = {"split": None, "output": None}, {"force": False, "candidate": False, "validation": 0.1}
        for name, default in (new if renews else old).items():
            if getattr(self, name) != default:
                raise ValueError(f"--{name} has no effect {'with' if renews else 'without'} --renew: leave it out")


@dataclass(frozen=True, kw_only=True)
class OodOptions(DataOptions):
    """Gives a published model an out-of-distribution score, and measures it.

    Attributes:
        foreign: NAME=DATA, other data to measure the score on: images below a folder or in a data set (with crops:DATA
            squares out of large ones), or texts, one a line; may be given several times. Synthetic data alone by
            default.
    """

    foreign: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=DATA")] = ()


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions(DataOptions):
    """Adds variants to a published model: smaller or faster graphs that are good enough.

    Attributes:
        method: which variants to try.
    """

    method: tuple[Method, ...] = METHODS


@dataclass(frozen=True, kw_only=True)
class PublishRunOptions(PublishOptions):
    """Publishes the draft of a finished run.

    Attributes:
        run: the folder of the run, such as runs/text-reviews.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
