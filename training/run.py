"""One training that has its data, its folder and its device: what every recipe is given."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy.typing as npt
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from service.inference.cards import Step, Use
from training import cross_validation
from training.backbones.gradients import fast_gradients
from training.baseline import Baseline
from training.data.dataset import absent_classes
from training.data.splits import division_digest
from training.engine.checkpoint import FitState, recorded_settings
from training.engine.fit import fit
from training.engine.learner import Learner
from training.engine.progress import duration
from training.engine.rate import find_rate
from training.engine.settings import FitSettings
from training.engine.tracking import begin_tracking
from training.export import history
from training.export.lineage import Lineage
from training.options import short_name
from training.phases import Phases, Work, estimate
from training.recipe import DataT, OptionsT

NetworkT = TypeVar("NetworkT", bound=nn.Module)

# Shorter estimates are not worth a line; longer ones get advice; in seconds.
_SHORT, _LONG = 5, 600
_RATE_TEST = "learning-rate test"


class Declined(Exception):
    """The user does not want to go on."""


@dataclass(slots=True, kw_only=True)
class Run(Generic[OptionsT, DataT]):
    """A training that has its data, its folder and its device.

    Attributes:
        options: with what the recipe chose.
        asked: the options of the user.
        name: of the model.
        data: what it is trained on, named as in the report.
        folder: for checkpoints and drafts.
        accelerator: the device, the precision and the processes.
        lineage: what it starts from.
        command: the command line, for the record.
        ask: whether to ask before a long training, and before a model is published that is worse than its baseline.
        phases: what happens around the epochs.
        work: what follows the training, for the estimate.
        baseline: the cheap model that the training has to beat; None in all processes but the main one.
        from_baseline: whether the network starts from it.
        estimated: seconds of the whole command, as estimated after the first steps.
        started: when the command began, by `time.perf_counter`.
        find_rate: whether a range test chooses the learning rate.
        advice: what would be faster.
        folds: whether cross-validation follows the first export.
        cross_validate: does it; returns a study for the record of each version, by the name of its model.
        title: of the training of a fold; empty for the training itself.
    """

    options: OptionsT
    asked: OptionsT
    console: Console
    name: str
    data: DataT
    settings: FitSettings
    folder: Path
    accelerator: Accelerator
    lineage: Lineage
    command: str = ""
    ask: bool = False
    phases: Phases = field(init=False)
    work: Sequence[Work] = ()
    baseline: Baseline | None = None
    from_baseline: bool = False
    estimated: float | None = None
    started: float = field(default_factory=time.perf_counter)
    find_rate: bool = False
    advice: Sequence[str] = ()
    folds: bool = False
    cross_validate: Callable[[], Mapping[str, Any]] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        self.phases = Phases(self.console, self.folder)

    @property
    def is_main(self) -> bool:
        """Whether this process evaluates and publishes, which only one does."""
        return self.accelerator.is_main_process

    def phase(self, name: str) -> AbstractContextManager[None]:
        """See `Phases.phase`."""
        return self.phases.phase(name)

    def optional(self, name: str) -> AbstractContextManager[None]:
        """See `Phases.optional`."""
        return self.phases.optional(name)

    def fit(self, network: nn.Module, learner: Learner, origin: Mapping[str, Any]) -> FitState:
        """Trains `network`, with `--resume` from a checkpoint of the same data, settings and `Recipe.origin`."""
        options = self.options
        if self.find_rate:
            self._find_rate(network, learner)
        begin_tracking(self.accelerator, options.track, self.folder, self.name, dataclasses.asdict(self.settings))
        with fast_gradients(network, self.accelerator.device, options.precision):
            state = fit(
                network,
                learner,
                self.settings,
                self.folder,
                accelerator=self.accelerator,
                console=Console() if self.title else self.console,
                resume=options.resume,
                origin={
                    "data": self.data.fingerprint,
                    "division": division_digest(self.data.division[1]),
                    **json.loads(json.dumps(dict(origin), default=dataclasses.asdict)),
                    "start_from": str(options.init_from),
                    "precision": options.precision,
                },
                from_initial=self.from_baseline,
                watch=None if self.title else self,
                workers=options.workers,
                title=self.title,
            )
        # Not `end_training`, which also ends the process group: other trainings may follow.
        for each in self.accelerator.trackers if options.track else ():
            each.finish()
        return state

    def _find_rate(self, network: nn.Module, learner: Learner) -> None:
        """Chooses the learning rate, or takes that of the checkpoint which the training continues from."""
        earlier = recorded_settings(self.folder) if self.options.resume else {}
        if earlier:
            lr, backbone_lr = earlier["lr"], earlier["backbone_lr"]
            self.settings = dataclasses.replace(self.settings, lr=lr, backbone_lr=backbone_lr)
            return
        before = self.settings.lr
        with self.phase(_RATE_TEST):
            self.settings = find_rate(network, learner, self.settings, self.accelerator)
        self.console.print(f"learning rate: {self.settings.lr:g} (the default is {before:g})", highlight=False)

    def estimate(self, spent: float, left: float, validation: float) -> None:
        """Says how long the command will take from here, and asks whether to go on; raises Declined if not."""
        pace = len(self.data.division[0]) / max(validation, 1e-9)
        work, whole = list(self.work), spent + left
        if self.folds:
            before = sum(seconds for name, seconds in self.phases.seconds.items() if name != _RATE_TEST)
            after = [each for each in self.work if each.name not in cross_validation.NOT_IN_FOLDS]
            fold = before + estimate(whole, whole, pace, after)[0]
            work.append(cross_validation.work(self.options.cross_validate or 0, whole, fold))
        left, parts = estimate(left, whole, pace, work)
        self.estimated = time.perf_counter() - self.started + left
        if not self.is_main or (left < _SHORT and not self.ask):
            return
        least = "at most " if self.settings.patience else "about "
        parts = f": {parts}" if parts else ""
        self.console.print(f"This will take {least}{duration(left)}{parts}.", highlight=False)
        if left > _LONG and self.advice:
            self.console.print(f"Faster: {'; '.join(self.advice)}.", highlight=False)
        if self.ask and self.console.input("Go on? [Y/n] ").strip().lower() not in ("", "y", "yes"):
            raise Declined

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Tells the trackers, if there are any."""
        self.accelerator.log(dict(figures), step=number)

    def warn_of_absent(self, classes: Sequence[str], labels: Mapping[str, npt.NDArray[Any]]) -> None:
        """Says which classes a split has nothing of; `labels` are class indices by the name of the split."""
        for split, values in labels.items():
            if absent := absent_classes(classes, values):
                shown = ", ".join(absent[:10]) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
                line = f"The {split} split has nothing of {shown}: it says nothing about them."
                self.console.print(line, style="yellow", highlight=False)

    def stated(self, *parts: Any) -> dict[str, Any]:
        """Every setting of the training in plain JSON types, for its manifest; `parts` are dataclasses."""
        settings = {"precision": self.options.precision, "start_from": short_name(self.options.init_from)}
        for part in (self.settings, *parts):
            settings |= json.loads(json.dumps(dataclasses.asdict(part)))
        return settings

    def history(self, settings: Mapping[str, Any], state: FitState, *uses: Use) -> tuple[Step, ...]:
        """The history of the version that this training makes; `uses` are those beside the training of the weights."""
        begun = history.begun(
            history.TRAIN, self.command, self.data.fingerprint, torch.get_num_threads(), self.accelerator.device.type
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


def as_served(network: NetworkT) -> NetworkT:
    """`network` as it is evaluated and exported: in float32, on the CPU, in evaluation mode."""
    return network.cpu().to(memory_format=torch.contiguous_format).eval()
