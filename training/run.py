"""One training: the steps that every recipe takes, from its options to published versions."""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy.typing as npt
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from service.inference.cards import NAME_PATTERN, Step, Use
from service.inference.manifest import MANIFEST
from training import cross_validation
from training.backbones.gradients import fast_gradients
from training.baseline import Baseline
from training.data.dataset import absent_classes
from training.data.splits import division_digest
from training.delivery import NotPublished, deliver, remember_command
from training.engine.earlier import recorded_settings, unfinished
from training.engine.fit import FitState, fit
from training.engine.interrupts import Stopped
from training.engine.learner import Learner
from training.engine.precision import choose_precision
from training.engine.processes import from_main, is_main_process, process_count
from training.engine.progress import duration
from training.engine.rate import find_rate
from training.engine.settings import FitSettings
from training.engine.threads import set_threads
from training.engine.tracking import begin_tracking, tracker
from training.engine.weights import CHECKPOINT, inner_weights, start_from
from training.export import history
from training.export.gate import Gate
from training.export.history import Lineage
from training.export.publish import check_name, drafts_of
from training.options import Options, short_name
from training.phases import Phases, Work, estimate
from training.recipe import DataT, Draft, OptionsT, Recipe

NetworkT = TypeVar("NetworkT", bound=nn.Module)

# Shorter estimates are not worth a line; longer ones get advice; in seconds.
_SHORT, _LONG = 5, 600
_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


class Declined(Exception):
    """The user does not want to go on."""


class Unfinished(Exception):
    """Something failed after the training was complete: the cause says what, and `checkpoint` keeps the weights."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(str(checkpoint))
        self.checkpoint = checkpoint


@dataclass(slots=True, kw_only=True)
class Run(Generic[OptionsT, DataT]):
    """A training that has its data, its folder and its device.

    Attributes:
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
        with self.phase("learning-rate test"):
            self.settings = find_rate(network, learner, self.settings, self.accelerator)
        self.console.print(f"learning rate: {self.settings.lr:g} (the default is {before:g})", highlight=False)

    def estimate(self, seconds: float, validation: float) -> None:
        """Says how long the command will take from here, and asks whether to go on; raises Declined if not."""
        pace = len(self.data.division[0]) / max(validation, 1e-9)
        folds = [cross_validation.work(self.options.cross_validate or 0, seconds)] if self.folds else []
        left, parts = estimate(seconds, pace, [*self.work, *folds])
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
                self.console.print(f"[yellow]The {split} split has nothing of {shown}: it says nothing about them.")

    def stated(self, *parts: Any) -> dict[str, Any]:
        """Every setting of the training in plain JSON types, for its manifest; `parts` are dataclasses."""
        settings = {"precision": self.options.precision, "start_from": short_name(self.options.init_from)}
        for part in (self.settings, *parts):
            settings |= json.loads(json.dumps(dataclasses.asdict(part)))
        return settings

    def history(self, settings: Mapping[str, Any], state: FitState, *uses: Use) -> tuple[Step, ...]:
        """The history of the version that this training makes; `uses` are those beside the training of the weights."""
        begun = history.begun(history.TRAIN, self.command, self.data.fingerprint, self.accelerator.device.type)
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


def train(
    recipe: Recipe[OptionsT, DataT], options: OptionsT, console: Console, *, command: str = "", ask: bool = False
) -> None:
    """Trains, evaluates, and publishes if that is asked for; `command` and `ask` are as in `Run`.

    Raises:
        DataError: the data set cannot be used.
        Declined: the user does not want to go on.
        NotPublished: the model is worse than its baseline, and nobody confirmed that it is to be published.
        Stopped: Ctrl-C.
        Unfinished: something failed after the training.
        ValueError: an option cannot be used here.
    """
    run = start(recipe, options, console, ask=ask)
    run.command, run.ask = command, ask
    remember_command(run.folder, command)
    network, state = _train(recipe, run)
    if run.baseline and run.from_baseline and not state.best_epoch:
        console.print(f"No epoch is better than the baseline, {run.baseline.name}: the model is that.", highlight=False)
    try:
        drafts = recipe.drafts(run, network, state)
        if run.folds:
            make = partial(_make, type(recipe))
            run.cross_validate = partial(cross_validation.cross_validate, run, make, state.seconds)
        if run.is_main:
            deliver(run, drafts)
    except (NotPublished, Stopped):
        raise
    except KeyboardInterrupt:
        raise Stopped("stopped", "evaluation") from None
    except Exception as error:
        raise Unfinished(run.folder / CHECKPOINT) from error


def _train(recipe: Recipe[OptionsT, DataT], run: Run[OptionsT, DataT]) -> tuple[nn.Module, FitState]:
    """Builds and trains a network; returns it as it is served."""
    network = recipe.build(run)
    if run.options.init_from:
        start_from(network, run.options.init_from)
    _fit_baseline(recipe, run, network)
    run.work, run.advice = recipe.work(run), recipe.advice(run)
    trained = recipe.training_network(run, network)
    state = run.fit(trained, recipe.learner(run, trained), recipe.origin(run))
    if trained is not network:
        network.load_state_dict(inner_weights(trained.state_dict()))
    return as_served(network), state


def _make(kind: type[Recipe[OptionsT, DataT]], run: Run[OptionsT, DataT]) -> Sequence[Draft]:
    """The versions of another training; the recipe is a new one, without what it remembers of the first."""
    recipe = kind()
    return recipe.drafts(run, *_train(recipe, run))


def _fit_baseline(recipe: Recipe[OptionsT, DataT], run: Run[OptionsT, DataT], network: nn.Module) -> None:
    """Fits the baseline in the main process; the others wait, and get the weights that it set."""
    if run.is_main:
        with run.phase("baseline"):
            found = run.baseline = recipe.baseline(run, network)
        if found:
            seconds = run.phases.seconds["baseline"]
            run.console.print(
                f"baseline, {found.name}: validation {found.figure} {found.validation:.4f} ({duration(seconds)}, "
                f"{found.items:,} training {recipe.items})",
                highlight=False,
            )
    run.from_baseline = from_main(run.accelerator, run.baseline is not None and run.baseline.starts)
    network.load_state_dict(from_main(run.accelerator, network.state_dict()))


def inspect(recipe: Recipe[OptionsT, DataT], options: OptionsT, console: Console) -> None:
    """Says what is in a data set and draws some of it; raises DataError if it cannot be used."""
    data, folder = _load(recipe, options)
    _show(recipe, data, folder, console)
    if data.inspection.dropped:
        console.print("A training refuses what was left out here, unless --bad drop is given.")


def start(
    recipe: Recipe[OptionsT, DataT], options: OptionsT, console: Console, *, ask: bool = False
) -> Run[OptionsT, DataT]:
    """Checks the options, the name and the device, then loads the data and says what was found in it.

    Raises:
        ValueError: one of them cannot be used, or a training that was stopped would be replaced.
        DataError: the data set cannot be used.
        Declined: the user does not want to replace it.
    """
    started = time.perf_counter()
    options.check()
    name = options.name or recipe.model_name(options)
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"--name {name!r}: only letters, digits, dots, dashes and underscores are allowed")
    check_device(options)
    if options.fit.lr == "find":
        options, found = dataclasses.replace(options, fit=dataclasses.replace(options.fit, lr=None)), True
    else:
        found = False
    if line := set_threads(options.threads):
        console.print(line, highlight=False)
    data, folder = _load(recipe, options)
    lineage = Lineage.of(folder, options.init_from, getattr(options, "teacher", None), resume=options.resume)
    if not options.resume:
        _check_earlier(folder, console, ask=ask, yes=options.publishing.yes)
    if is_main_process():
        _show(recipe, data, folder, console)
    if options.publish:
        check_name(options.publishing.models, name, getattr(data, "classes", ()), given=options.name is not None)
        Gate.of(options.publishing).check(name)
    options = _choose_precision(recipe, options, data, folder, console)
    accelerator = make_accelerator(options)
    if options.cross_validate and accelerator.num_processes > 1:
        raise ValueError("--cross-validate runs in one process: leave it out")
    console.print(
        f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test "
        f"{recipe.items}{recipe.describe(data)}; on {accelerator.device}"
    )
    return Run(
        options=options,
        console=console,
        name=name,
        data=data,
        settings=recipe.settings(options, data),
        folder=folder,
        accelerator=accelerator,
        lineage=lineage,
        started=started,
        find_rate=found,
        folds=bool(options.cross_validate) and not recipe.cross_validates,
    )


def _check_earlier(folder: Path, console: Console, *, ask: bool, yes: bool) -> None:
    """Asks before a training that was stopped is replaced; raises ValueError where nobody can be asked."""
    drafts = [(draft / MANIFEST).stat().st_mtime for draft in drafts_of(folder)]
    earlier = unfinished(folder, max(drafts, default=None))
    if not earlier or yes:
        return
    if not ask or process_count() > 1:
        raise ValueError(
            f"{folder} holds a training that {earlier}. Continue it with --resume, choose another --run-dir, or "
            "replace it with --yes."
        )
    console.print(f"{folder} holds a training that {earlier}; --resume continues it.", highlight=False)
    if console.input("Replace it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Declined


def _choose_precision(
    recipe: Recipe[OptionsT, DataT], options: OptionsT, data: DataT, folder: Path, console: Console
) -> OptionsT:
    """The options with a precision in place of `auto`; with --resume that of the checkpoint."""
    if options.precision != "auto":
        return options
    earlier = recorded_settings(folder).get("precision") if options.resume else None
    if earlier in _PRECISIONS:
        return dataclasses.replace(options, precision=earlier)
    cuda = torch.cuda.is_available() and options.device != "cpu"
    precision, because = choose_precision("cuda" if cuda else "cpu", recipe.fast_precision(options, data))
    if because:
        console.print(f"precision: {precision}, since {because}; --precision float32 overrides this", highlight=False)
    return dataclasses.replace(options, precision=precision)


def check_device(options: Options) -> None:
    """Raises ValueError if this machine lacks the device or the precision that were asked for."""
    device, precision = options.device, options.precision
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"--device {device}: must be auto, cpu, cuda or cuda:N")
    if precision == "float16" and (device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("--precision float16 needs a GPU; on a CPU use bfloat16 or float32")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: PyTorch finds no CUDA device here; use --device cpu")
    _, _, index = device.partition(":")
    if index and int(index) >= torch.cuda.device_count():
        raise ValueError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices")
    tracker(options.track)


def make_accelerator(options: Options) -> Accelerator:
    """The device and the precision that were asked for, after `check_device`."""
    _, _, index = options.device.partition(":")
    if index:
        torch.cuda.set_device(int(index))
    return Accelerator(
        cpu=options.device == "cpu",
        mixed_precision=_PRECISIONS[options.precision],
        log_with=tracker(options.track),
        project_dir="runs",
    )


def as_served(network: NetworkT) -> NetworkT:
    """`network` as it is evaluated and exported: in float32, on the CPU, in evaluation mode."""
    return network.cpu().to(memory_format=torch.contiguous_format).eval()


def _load(recipe: Recipe[OptionsT, DataT], options: OptionsT) -> tuple[DataT, Path]:
    data = recipe.load(options)
    data = dataclasses.replace(data, name=options.data_name or data.name)
    return data, options.run_dir or Path("runs") / f"{recipe.run_name(options)}-{data.name.replace('/', '-')}"


def _show(recipe: Recipe[OptionsT, DataT], data: DataT, folder: Path, console: Console) -> None:
    data.inspection.print(console)
    folder.mkdir(parents=True, exist_ok=True)
    recipe.draw(data).save(folder / "samples.png")
    console.print(f"samples: {folder / 'samples.png'}", markup=False, highlight=False, soft_wrap=True)
