"""One training from the command line: the steps that every recipe takes, around those that are its own."""

import dataclasses
import json
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy.typing as npt
import torch
from accelerate import Accelerator
from PIL.Image import Image
from rich.console import Console
from torch import nn

from service.inference.cards import NAME_PATTERN, Step, Use
from service.tasks.registry import read_manifest
from training.data.dataset import DataSet, absent_classes
from training.data.splits import division_digest
from training.engine.fit import FitState, fit
from training.engine.learner import Learner as Task
from training.engine.progress import duration
from training.engine.settings import FitSettings
from training.engine.tracking import begin_tracking, tracker
from training.engine.weights import CHECKPOINT, start_from
from training.export import history
from training.export.gate import Gate
from training.export.history import Lineage
from training.export.outcome import describe_published
from training.export.publish import Write, check_name, publish, write_draft
from training.options import short_name
from training.run import _PRECISIONS as PRECISIONS

Data = TypeVar("Data", bound=DataSet)
Network = TypeVar("Network", bound=nn.Module)

SAMPLES = "samples.png"
# Seconds that nobody needs to be told of beforehand.
_SOON = 5


class Inspected(Exception):
    """The data has been looked at, and that is all that was asked for."""


class Declined(Exception):
    """The user does not want to go on."""


@dataclass(frozen=True, slots=True)
class Run(Generic[Data]):
    """A training that has its data, its folder and its device.

    Attributes:
        arguments: of the command line.
        console: where progress goes.
        name: of the model.
        data: what it is trained on, named as in the report.
        folder: for checkpoints, studies and drafts.
        accelerator: the device, the precision and the processes.
        lineage: what it starts from.
        repeats: how many trainings of the same length follow, for a comparison.
    """

    arguments: Namespace
    console: Console
    name: str
    data: Data
    folder: Path
    accelerator: Accelerator
    lineage: Lineage
    repeats: int = 0

    def announce(
        self, items: str, details: str, classes: Sequence[str], labels: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        """Says what is trained on, and where, and which classes cannot be measured.

        Args:
            items: what the data consists of, in the plural.
            details: what else is worth saying about the data.
            classes: their names.
            labels: the class indices of each split that measures, by its name.
        """
        data = self.data
        self.console.print(
            f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test "
            f"{items}{details}; on {self.accelerator.device}"
        )
        for split, values in labels.items():
            if absent := absent_classes(classes, values):
                shown = ", ".join(absent[:10]) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
                self.console.print(f"[yellow]The {split} split has nothing of {shown}: it says nothing about them.")

    def start(self, model: nn.Module) -> None:
        """Gives `model` the weights of `--start-from`, if there is one."""
        if self.arguments.start_from:
            start_from(model, self.arguments.start_from)

    def fit(self, model: nn.Module, task: Task, settings: FitSettings, **origin: Any) -> FitState:
        """Trains `model`, with `--resume` from its checkpoint, and notes its checkpoint in `arguments.trained`.

        Args:
            model: the network; see `training.engine.fit.fit`.
            task: what it learns.
            settings: how.
            origin: what else determines the outcome: dataclasses of settings, or plain values, by name. A checkpoint
                is only resumed with the same ones, and with the same data, division of validation, `--start-from` and
                `--precision`.
        """
        begin_tracking(self.accelerator, self.arguments.track, self.folder, self.name, dataclasses.asdict(settings))
        state = fit(
            model,
            task,
            settings,
            self.folder,
            accelerator=self.accelerator,
            console=self.console,
            resume=self.arguments.resume,
            origin={
                "data": self.data.fingerprint,
                "division": division_digest(self.data.division[1]),
                **{name: _plain(part) for name, part in origin.items()},
                "start_from": str(self.arguments.start_from),
                "precision": self.arguments.precision,
            },
            watch=self,
        )
        # Not `end_training`, which also ends the process group: other trainings may follow, of folds or of a study.
        for each in self.accelerator.trackers:
            each.finish()
        self.arguments.trained = self.folder / CHECKPOINT
        return state

    def estimate(self, seconds: float) -> None:
        """Says how long the training will take, and asks whether to go on where somebody is to be asked.

        Raises:
            Declined: no.
        """
        seconds *= 1 + self.repeats
        if not self.reports or (seconds < _SOON and not self.arguments.ask):
            return
        self.console.print(f"The training will take about {duration(seconds)}.", highlight=False)
        if self.arguments.ask and self.console.input("Go on? [Y/n] ").strip().lower() not in ("", "y", "yes"):
            raise Declined

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Tells the trackers, if there are any."""
        self.accelerator.log(dict(figures), step=number)

    @property
    def reports(self) -> bool:
        """Whether this process evaluates and publishes; with several GPUs only one does."""
        return self.accelerator.is_main_process

    def stated(self, *parts: Any) -> dict[str, Any]:
        """Every setting of the training in plain JSON types, for its manifest; `parts` are dataclasses."""
        settings: dict[str, Any] = {
            "precision": self.arguments.precision,
            "start_from": short_name(self.arguments.start_from),
        }
        for part in parts:
            settings |= json.loads(json.dumps(dataclasses.asdict(part)))
        return settings

    def history(self, settings: Mapping[str, Any], state: FitState, *uses: Use) -> tuple[Step, ...]:
        """The history of the version that this training makes.

        Args:
            settings: all settings of the training.
            state: of the finished training.
            uses: of the splits, beside the training of the weights.
        """
        begun = history.begun(
            history.TRAIN,
            getattr(self.arguments, "command_line", None),
            self.data.fingerprint,
            self.accelerator.device.type,
        )
        weights = Use(split="train", purpose=history.WEIGHTS, items=len(self.data.train))
        step = history.ended(begun, state.seconds).model_copy(
            update={
                "settings": dict(settings),
                "epochs": state.epoch,
                "best_epoch": state.best_epoch,
                "resumed": tuple(state.resumed),
                "initial": self.lineage.initial,
                "teacher": self.lineage.teacher,
                "uses": (weights, *uses),
            }
        )
        return (*self.lineage.before, step)

    def deliver(self, *versions: tuple[str, Write], text: str = "") -> None:
        """Publishes the versions if `--publish` is given, all or none; otherwise leaves drafts in the run's folder.

        Args:
            versions: the name of each model, and what writes its version.
            text: to ask a model of texts about.
        """
        if self.arguments.publish:
            gate = Gate.of(self.arguments)
            folders = publish(self.arguments.models, versions, gate)
            history.save(self.folder, read_manifest(folders[0]).history)
            for line in describe_published(self.arguments.models, folders, text, gate.candidates):
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)
            gate.print(self.console)
            return
        for name, write in versions:
            folder = self.folder / "export" if len(versions) == 1 else self.folder / "export" / name
            folder.mkdir(parents=True, exist_ok=True)
            write_draft(folder, write)
            history.save(self.folder, read_manifest(folder).history)
            self.console.print(f"exported to {folder}; --publish writes a version below {self.arguments.models}")


def begin(
    arguments: Namespace,
    console: Console,
    load: Callable[[], Data],
    *,
    run: str,
    model: str,
    draw: Callable[[Data], Image],
    repeats: int = 0,
) -> Run[Data]:
    """Checks what can be checked at once, then loads the data and says what was found in it.

    Args:
        arguments: of the command line.
        console: where progress goes.
        load: the data set.
        run: what the run's folder is called by default, before the name of the data.
        model: what the model is called by default.
        draw: makes a picture of some samples, which goes into the run's folder.
        repeats: see `Run`.

    Raises:
        Inspected: nothing more is asked for.
        ValueError: a name that no model may have, or a device or precision that this machine lacks.
        DataError: the data set cannot be used.
    """
    name = arguments.name or model
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"--name {name!r}: only letters, digits, dots, dashes and underscores are allowed")
    accelerator = make_accelerator(arguments)
    data = load()
    data = dataclasses.replace(data, name=arguments.data_name or data.name)
    folder = arguments.run_dir or Path("runs") / f"{run}-{data.name.replace('/', '-')}"
    lineage = Lineage.of(folder, arguments.start_from, getattr(arguments, "teacher", None), resume=arguments.resume)
    if accelerator.is_main_process:
        data.inspection.print(console)
        folder.mkdir(parents=True, exist_ok=True)
        draw(data).save(folder / SAMPLES)
        console.print(f"samples: {folder / SAMPLES}", markup=False, highlight=False, soft_wrap=True)
    if arguments.inspect:
        if data.inspection.dropped:
            console.print("A training refuses what was left out here, unless --bad drop is given.")
        raise Inspected
    if arguments.publish:
        check_name(arguments.models, name, getattr(data, "classes", ()), given=arguments.name is not None)
        Gate.of(arguments).check(name)
    return Run(arguments, console, name, data, folder, accelerator, lineage, repeats)


def make_accelerator(arguments: Namespace) -> Accelerator:
    """The device and the precision that were asked for.

    Raises:
        ValueError: this machine does not have them.
    """
    if arguments.precision == "float16" and (arguments.device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("--precision float16 needs a GPU; on a CPU use bfloat16 or float32")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return Accelerator(
        cpu=arguments.device == "cpu",
        mixed_precision=PRECISIONS[arguments.precision],
        log_with=tracker(arguments.track),
        project_dir="runs",
    )


def as_served(model: Network) -> Network:
    """`model` as it is evaluated and exported: in float32, on the CPU, in evaluation mode."""
    return model.cpu().to(memory_format=torch.contiguous_format).eval()


def _plain(part: Any) -> Any:
    return dataclasses.asdict(part) if dataclasses.is_dataclass(part) and not isinstance(part, type) else part
